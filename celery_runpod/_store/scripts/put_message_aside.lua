--[[ put_message_aside: a message that no worker can run is kept for an operator.
  KEYS  aside_messages(); entries = aside_entries(); aside_bytes()
  ARGV  entry; now (s); text (JSON); most_entries; most_bytes
  Returns the entries that were dropped for it, the oldest first
  Repeating it changes nothing but the time. ]]
local before = redis.call('HSTRLEN', entries, entry)
redis.call('HSET', entries, entry, text)
redis.call('ZADD', aside_messages, now, entry)
local bytes = redis.call('INCRBY', aside_bytes, #text - before)
local dropped = {}
while redis.call('ZCARD', aside_messages) > 1
  and (redis.call('ZCARD', aside_messages) > tonumber(most_entries) or bytes > tonumber(most_bytes)) do
  local oldest = redis.call('ZRANGE', aside_messages, 0, 0)[1]
  bytes = redis.call('DECRBY', aside_bytes, redis.call('HSTRLEN', entries, oldest))
  redis.call('HDEL', entries, oldest)
  redis.call('ZREM', aside_messages, oldest)
  dropped[#dropped + 1] = oldest
end
return dropped
