--[[ take_message: a message that was put aside is released or dropped.
  KEYS  aside_messages(); entries = aside_entries(); aside_bytes()
  ARGV  entry
  Returns "taken" | "gone" ]]
local size = redis.call('HSTRLEN', entries, entry)
redis.call('ZREM', aside_messages, entry)
if redis.call('HDEL', entries, entry) == 0 then return 'gone' end
if redis.call('DECRBY', aside_bytes, size) <= 0 then redis.call('DEL', aside_bytes) end
return 'taken'
