--[[ count: what the open records of an endpoint are, and hold.
  KEYS  due(endpoint); undelivered(endpoint); aside(endpoint); input_bytes(endpoint)
  Returns {open jobs, bytes of input}, as text
  Each open record is in due, in undelivered or put aside. Where there is none the bytes are 0 again, whatever was lost. ]]
local jobs = redis.call('ZCARD', due) + redis.call('ZCARD', undelivered) + redis.call('ZCARD', aside)
if jobs == 0 then redis.call('DEL', input_bytes) end
return {tostring(jobs), redis.call('GET', input_bytes) or '0'}
