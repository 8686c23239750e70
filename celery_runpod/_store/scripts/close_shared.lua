--[[ close_shared: every waiter of a shared job has its verdict; a repeat of its key finds the outcome, or a free key.
  KEYS  job hash of the shared job; key hash; undelivered zset; waiters set; due zset;
        input_bytes
  ARGV  shared_id  ttl (s, whole: as long as results are kept)
  Returns "closed" | "refused" (no verdict yet) | "unknown"
  Repeating it changes nothing. ]]
local state = redis.call('HGET', KEYS[1], 'state')
redis.call('ZREM', KEYS[3], ARGV[1])
if not state then return 'unknown' end
if not may(state, 'DELIVERED') then return state == 'DELIVERED' and 'closed' or 'refused' end
redis.call('HSET', KEYS[1], 'state', 'DELIVERED', 'verdict', state)
drop_input(KEYS[1], KEYS[6])
redis.call('HDEL', KEYS[1], 'continuation', 'options', 'shares')
redis.call('EXPIRE', KEYS[1], ARGV[2])
if redis.call('HGET', KEYS[2], 'job') == ARGV[1] then redis.call('EXPIRE', KEYS[2], ARGV[2]) end
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[4])
return 'closed'
