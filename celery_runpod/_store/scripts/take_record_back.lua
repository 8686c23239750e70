--[[ take_record_back: a record that was put aside returns to the orders that it stood in, due now.
  KEYS  job(endpoint, task_id); due(endpoint); undelivered(endpoint); aside(endpoint)
  ARGV  task_id; now (s)
  Returns "back" | "gone" (not put aside, or no such record) ]]
if redis.call('ZREM', aside, task_id) == 0 then return 'gone' end
if redis.call('EXISTS', job) == 0 then return 'gone' end
local was_due = redis.call('HGET', job, 'aside_due')
local was_undelivered = redis.call('HGET', job, 'aside_undelivered')
redis.call('HDEL', job, 'aside_due', 'aside_undelivered', 'aside_why')
if was_due then redis.call('ZADD', due, now, task_id) end
if was_undelivered then redis.call('ZADD', undelivered, now, task_id) end
-- A record that was in none of the orders is looked at once; the check forgets it if there is nothing to do.
if not was_due and not was_undelivered then redis.call('ZADD', due, now, task_id) end
return 'back'
