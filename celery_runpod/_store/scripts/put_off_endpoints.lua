--[[ put_off_endpoints: the watchdog has read these endpoints, and reads each again at another time.
  KEYS  endpoints()
  ARGV  rows ... (endpoint, the time that it had (s), when to read it again (s))
  Returns how many were put off
  One that has another time by now keeps it: a check was published for it meanwhile. ]]
local number = 0
for i = 1, #rows, 3 do
  local at = redis.call('ZSCORE', endpoints, rows[i])
  if at and tonumber(at) == tonumber(rows[i + 1]) then
    redis.call('ZADD', endpoints, rows[i + 2], rows[i])
    number = number + 1
  end
end
return number
