--[[ accept: a call becomes a record, once.
  KEYS  job(endpoint, task_id); due(endpoint); undelivered(endpoint); input_bytes(endpoint); next_check_at(endpoint)
  ARGV  task_id; due_at (s); now (s); cap (s, "" = no check is planned); whole ("1": checks by whole seconds); overdue (s); fields ... (field, value, field, value)
        A record that begins with an outcome (state ENDED_HERE) goes to undelivered instead of due.
  Returns {"accepted" | the state of the record that was there before, when to publish a check (s, "" = not now)}
  Repeating it changes nothing. ]]
local known = redis.call('HGET', job, 'state')
local function answer(word)
  if cap == '' then return {word, ''} end
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or due_at
  return {word, plan(next_check_at, first, now, cap, whole, overdue) or ''}
end
if known then return answer(known) end
redis.call('HSET', job, unpack(fields))
count_input(job, input_bytes)
if is_outcome(redis.call('HGET', job, 'state')) then
  redis.call('ZADD', undelivered, due_at, task_id)
else
  redis.call('ZADD', due, due_at, task_id)
end
return answer('accepted')
