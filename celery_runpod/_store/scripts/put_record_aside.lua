--[[ put_record_aside: a record that this version cannot read leaves the orders, so that it does not come back each second.
  KEYS  job hash; due zset; undelivered zset; aside zset (score: since, s); waiting zset
  ARGV  task_id  now (s)  why (text)
  Returns "aside" | "already" | "gone" (no such record)
  The record stays as it is, beside a note of why, and of the orders that it stood in. Among the jobs that wait to
  be submitted it would stay first, and hold up the others for ever. ]]
redis.call('ZREM', KEYS[5], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZREM', KEYS[4], ARGV[1])
  return 'gone'
end
local due, undelivered = redis.call('ZREM', KEYS[2], ARGV[1]), redis.call('ZREM', KEYS[3], ARGV[1])
if due == 1 then redis.call('HSET', KEYS[1], 'aside_due', '1') end
if undelivered == 1 then redis.call('HSET', KEYS[1], 'aside_undelivered', '1') end
redis.call('HSET', KEYS[1], 'aside_why', ARGV[3])
if redis.call('ZADD', KEYS[4], 'NX', ARGV[2], ARGV[1]) == 0 then return 'already' end
return 'aside'
