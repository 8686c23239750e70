--[[ admit: jobs that wait to be submitted become due, those first whose turn is first, as many as may go.
  KEYS  due(endpoint); inflight(endpoint); waiting(endpoint); gate = pause(endpoint, "run"); posts(endpoint)
  ARGV  now (s); most (as many calls did the budget grant); max_in_flight ("" = no limit)
  Returns how many, as text
  A job leaves the waiting set when a check leases it. ]]
local free = may_submit(waiting, gate, posts, inflight, tonumber(now), max_in_flight, most)
if free == 0 then return '0' end
local ids = redis.call('ZRANGE', waiting, 0, free - 1)
for _, id in ipairs(ids) do redis.call('ZADD', due, 'XX', now, id) end
return tostring(#ids)
