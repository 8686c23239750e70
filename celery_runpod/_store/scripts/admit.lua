--[[ admit: jobs that wait to be submitted become due, the oldest call first, as many as may go.
  KEYS  due zset; inflight set; waiting zset; gate hash; posts zset
  ARGV  now (s)  most  max_in_flight ("" = no limit)  "1" if the brake was released
  Returns how many, as text
  A job leaves the waiting set when it is claimed, so that one whose check died is admitted again. ]]
if ARGV[4] == '1' then redis.call('HDEL', KEYS[4], 'hold_until') end
if redis.call('ZCARD', KEYS[3]) == 0 then return '0' end
local word = gate_state(KEYS[4], KEYS[5], tonumber(ARGV[1]), '')
local free = word == 'open' and tonumber(ARGV[2]) or word == 'one' and 1 or 0
if ARGV[3] ~= '' then free = math.min(free, tonumber(ARGV[3]) - redis.call('SCARD', KEYS[2])) end
if free < 1 then return '0' end
local ids = redis.call('ZRANGE', KEYS[3], 0, free - 1)
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], 'XX', ARGV[1], id) end
return tostring(#ids)
