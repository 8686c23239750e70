--[[ accept: a call becomes a record, once.
  KEYS  job(endpoint, task_id); due(endpoint); undelivered(endpoint); input_bytes(endpoint)
  ARGV  task_id; due_at (s); fields ... (field, value, field, value)
        A record that begins with an outcome (state ENDED_HERE) goes to undelivered instead of due.
  Returns "accepted" | the state of the record that was there before
  Repeating it changes nothing. ]]
local known = redis.call('HGET', job, 'state')
if known then return known end
redis.call('HSET', job, unpack(fields))
count_input(job, input_bytes)
if is_outcome(redis.call('HGET', job, 'state')) then
  redis.call('ZADD', undelivered, due_at, task_id)
else
  redis.call('ZADD', due, due_at, task_id)
end
return 'accepted'
