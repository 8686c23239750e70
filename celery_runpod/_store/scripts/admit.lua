--[[ admit: jobs that wait to be submitted become due, the oldest call first, as many as may go.
  KEYS  due(endpoint); inflight(endpoint); waiting(endpoint); gate = pause(endpoint, "run"); posts(endpoint)
  ARGV  now (s); most; max_in_flight ("" = no limit); released ("1": the brake was released)
  Returns how many, as text
  A job leaves the waiting set when it is claimed, so that one whose check died is admitted again. ]]
if released == '1' then redis.call('HDEL', gate, 'hold_until') end
if redis.call('ZCARD', waiting) == 0 then return '0' end
local word = gate_state(gate, posts, tonumber(now), '')
local free = word == 'open' and tonumber(most) or word == 'one' and 1 or 0
if max_in_flight ~= '' then free = math.min(free, tonumber(max_in_flight) - redis.call('SCARD', inflight)) end
if free < 1 then return '0' end
local ids = redis.call('ZRANGE', waiting, 0, free - 1)
for _, id in ipairs(ids) do redis.call('ZADD', due, 'XX', now, id) end
return tostring(#ids)
