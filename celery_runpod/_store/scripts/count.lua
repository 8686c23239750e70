--[[ count: what the open records of an endpoint are, and hold.
  KEYS  due(endpoint); undelivered(endpoint); aside(endpoint); input_bytes(endpoint); cancels(endpoint); posts(endpoint);
        inflight(endpoint); checks(endpoint)
  Returns {open jobs, bytes of input, records put aside, "1" if nothing is left to do for this endpoint}, as text
  Each open record is in due, in undelivered or put aside. Where there is none the bytes are 0 again, whatever was lost. ]]
local unread = redis.call('ZCARD', aside)
local jobs = redis.call('ZCARD', due) + redis.call('ZCARD', undelivered) + unread
if jobs == 0 then redis.call('DEL', input_bytes) end
local idle = jobs == 0 and redis.call('EXISTS', cancels, posts, inflight, checks) == 0
return {tostring(jobs), redis.call('GET', input_bytes) or '0', tostring(unread), idle and '1' or ''}
