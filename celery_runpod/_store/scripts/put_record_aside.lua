--[[ put_record_aside: a record that this version cannot read leaves the orders, so that it does not come back each second.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); undelivered(endpoint); aside(endpoint); waiting(endpoint)
  ARGV  task_id; now (s); why (text)
  Returns "aside" | "already" | "gone" (no such record)
  The record stays as it is, beside a note of why, and of the orders that it stood in. Among the jobs that wait to
  be submitted it would stay first, and hold up the others for ever. ]]
redis.call('ZREM', waiting, task_id)
redis.call('ZREM', look, task_id)
if redis.call('EXISTS', job) == 0 then
  redis.call('ZREM', due, task_id)
  redis.call('ZREM', undelivered, task_id)
  redis.call('ZREM', aside, task_id)
  return 'gone'
end
local was_due, was_undelivered = redis.call('ZREM', due, task_id), redis.call('ZREM', undelivered, task_id)
if was_due == 1 then redis.call('HSET', job, 'aside_due', '1') end
if was_undelivered == 1 then redis.call('HSET', job, 'aside_undelivered', '1') end
redis.call('HSET', job, 'aside_why', why)
if redis.call('ZADD', aside, 'NX', now, task_id) == 0 then return 'already' end
return 'aside'
