--[[ take_calls: calls of one operation, of which RunPod takes so many from an endpoint in any window of time.
  KEYS  calls(endpoint, operation)
  ARGV  now (s); wanted; most (calls in a window); window (s); spare (so many are left to others)
  Returns {how many are granted, from when on there may be more (s; "" = all were granted)}
  The hash says how many were granted in each tenth of a second. A tenth counts as long as a part of it is in the window: so
  there are never more, wherever RunPod's window begins. ]]
local time, length = tonumber(now), tonumber(window)
local first, last = math.floor((time - length) * 10), math.floor(time * 10)
local used, oldest = 0, last
local found = redis.call('HGETALL', calls)
for i = 1, #found, 2 do
  local tenth = tonumber(found[i])
  -- A clock that is wrong may be ahead by a window: what it takes counts; one further ahead would block all others.
  if tenth < first or tenth > last + length * 10 then
    redis.call('HDEL', calls, found[i])
  else
    used, oldest = used + tonumber(found[i + 1]), math.min(oldest, tenth)
  end
end
local granted = math.max(0, math.min(tonumber(wanted), tonumber(most) - used - tonumber(spare)))
if granted > 0 then
  redis.call('HINCRBY', calls, string.format('%d', last), granted)
  redis.call('EXPIRE', calls, math.ceil(2 * length))
end
if granted == tonumber(wanted) then return {tostring(granted), ''} end
return {tostring(granted), string.format('%.3f', (oldest + 1) / 10 + length + 0.001)}
