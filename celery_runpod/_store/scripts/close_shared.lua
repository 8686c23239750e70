--[[ close_shared: every waiter of a shared job has its verdict; a repeat of its key finds the outcome, or a free key.
  KEYS  job(endpoint, shared_id); key = shared(endpoint, key_hash); undelivered(endpoint);
        waiters(endpoint, shared_id); due(endpoint); input_bytes(endpoint)
  ARGV  shared_id; ttl (s, whole: as long as results are kept)
  Returns "closed" | "refused" (no verdict yet) | "unknown"
  Repeating it changes nothing. ]]
local state = redis.call('HGET', job, 'state')
redis.call('ZREM', undelivered, shared_id)
if not state then return 'unknown' end
if not may(state, 'DELIVERED') then return state == 'DELIVERED' and 'closed' or 'refused' end
redis.call('HSET', job, 'state', 'DELIVERED', 'verdict', state)
drop_input(job, input_bytes)
redis.call('HDEL', job, 'continuation', 'options', 'shares')
redis.call('EXPIRE', job, ttl)
if redis.call('HGET', key, 'job') == shared_id then redis.call('EXPIRE', key, ttl) end
redis.call('ZREM', due, shared_id)
redis.call('DEL', waiters)
return 'closed'
