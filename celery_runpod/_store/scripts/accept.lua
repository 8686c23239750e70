--[[ accept: a call becomes a record, once.
  KEYS  job(endpoint, task_id); due(endpoint); undelivered(endpoint); input_bytes(endpoint); next_check_at(endpoint);
        waiting(endpoint); gate = pause(endpoint, "run")
  ARGV  task_id; due_at (s); turn (in the order of the submits; "" = it may not be submitted yet); decide_at (s); now (s);
        cap (s, "" = no check is planned); whole ("1": checks by whole seconds); overdue (s);
        fields ... (field, value, field, value)
        A record that begins with an outcome (state ENDED_HERE) goes to undelivered instead of due.
  Returns {"accepted" | the state of the record that was there before, when to publish a check (s, "" = not now),
        why it waits ("" = it is due)}
  Where others wait to be submitted, it waits with them, and no check reads it before its turn.
  Repeating it changes nothing. ]]
local known = redis.call('HGET', job, 'state')
local why = ''
local function answer(word)
  if cap == '' then return {word, '', why} end
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or due_at
  return {word, plan(next_check_at, first, now, cap, whole, overdue) or '', why}
end
if known then return answer(known) end
redis.call('HSET', job, unpack(fields))
count_input(job, input_bytes)
if is_outcome(redis.call('HGET', job, 'state')) then
  redis.call('ZADD', undelivered, due_at, task_id)
elseif turn ~= '' and redis.call('ZCARD', waiting) > 0 then
  why = redis.call('HGET', gate, 'why') or ''
  redis.call('HSET', job, 'reason', why)
  redis.call('ZADD', waiting, turn, task_id)
  redis.call('ZADD', due, decide_at, task_id)
else
  redis.call('ZADD', due, due_at, task_id)
end
return answer('accepted')
