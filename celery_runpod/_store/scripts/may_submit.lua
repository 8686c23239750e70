--[[ may_submit: how many of the jobs that wait could be submitted now?
  KEYS  inflight(endpoint); waiting(endpoint); gate = pause(endpoint, "run"); posts(endpoint)
  ARGV  now (s); max_in_flight ("" = no limit); released ("1": the hold has ended)
  Returns how many, as text; 0 while the budget has none ]]
if released == '1' then redis.call('HDEL', gate, 'hold_until') end
local most = redis.call('ZCARD', waiting)
local free, from = may_submit(waiting, gate, posts, inflight, tonumber(now), max_in_flight, most)
return tostring(from > tonumber(now) and 0 or free)
