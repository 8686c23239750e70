--[[ count: what the open records of an endpoint are, and hold.
  KEYS  due zset; undelivered zset; aside zset; input_bytes
  Returns {open jobs, bytes of input}, as text
  Each open record is in due, in undelivered or put aside. Where there is none the bytes are 0 again, whatever was lost. ]]
local jobs = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[3])
if jobs == 0 then redis.call('DEL', KEYS[4]) end
return {tostring(jobs), redis.call('GET', KEYS[4]) or '0'}
