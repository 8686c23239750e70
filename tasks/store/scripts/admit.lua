--[[ admit: jobs that wait for a place of max_in_flight become due, the oldest first, as many as there are places.
  KEYS  due zset; inflight set; waiting zset; room
  ARGV  now (s)  most
  Returns how many, as text
  A job leaves the waiting set when it is claimed, so that one whose check died is admitted again. ]]
local free = tonumber(ARGV[2])
local room = redis.call('GET', KEYS[4])
if room then free = math.min(free, tonumber(room) - redis.call('SCARD', KEYS[2])) end
if free < 1 then return '0' end
local ids = redis.call('ZRANGE', KEYS[3], 0, free - 1)
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], 'XX', ARGV[1], id) end
return tostring(#ids)
