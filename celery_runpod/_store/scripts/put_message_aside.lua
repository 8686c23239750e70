--[[ put_message_aside: a message that no worker can run is kept for an operator.
  KEYS  aside zset (entry -> since, s); entries hash (entry -> JSON); bytes (of all entries)
  ARGV  entry  now (s)  the entry's JSON  most entries  most bytes
  Returns the entries that were dropped for it, the oldest first
  Repeating it changes nothing but the time. ]]
local before = redis.call('HSTRLEN', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
local bytes = redis.call('INCRBY', KEYS[3], #ARGV[3] - before)
local dropped = {}
while redis.call('ZCARD', KEYS[1]) > 1
  and (redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[4]) or bytes > tonumber(ARGV[5])) do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
  bytes = redis.call('DECRBY', KEYS[3], redis.call('HSTRLEN', KEYS[2], oldest))
  redis.call('HDEL', KEYS[2], oldest)
  redis.call('ZREM', KEYS[1], oldest)
  dropped[#dropped + 1] = oldest
end
return dropped
