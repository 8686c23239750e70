--[[ take_record_back: a record that was put aside returns to the orders that it stood in, due now.
  KEYS  job hash; due zset; undelivered zset; aside zset
  ARGV  task_id  now (s)
  Returns "back" | "gone" (not put aside, or no such record) ]]
if redis.call('ZREM', KEYS[4], ARGV[1]) == 0 then return 'gone' end
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
local due = redis.call('HGET', KEYS[1], 'aside_due')
local undelivered = redis.call('HGET', KEYS[1], 'aside_undelivered')
redis.call('HDEL', KEYS[1], 'aside_due', 'aside_undelivered', 'aside_why')
if due then redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1]) end
if undelivered then redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1]) end
-- A record that was in none of the orders is looked at once; the check forgets it if there is nothing to do.
if not due and not undelivered then redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1]) end
return 'back'
