--[[ take_message: a message that was put aside is released or dropped.
  KEYS  aside zset; entries hash; bytes
  ARGV  entry
  Returns "taken" | "gone" ]]
local size = redis.call('HSTRLEN', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return 'gone' end
if redis.call('DECRBY', KEYS[3], size) <= 0 then redis.call('DEL', KEYS[3]) end
return 'taken'
