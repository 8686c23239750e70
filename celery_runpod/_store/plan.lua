-- When a check is to be published for a time (s), or nil if one comes early enough. The time is at least `now`, at most
-- `cap` seconds later, and a whole number of seconds later where the broker delays by these (`whole` is "1").
-- A planned time that is over for `overdue` seconds does not count: its message was lost.
local function plan(next_check_at, at, now, cap, whole, overdue)
  local time = tonumber(now)
  at = math.min(math.max(tonumber(at), time), time + tonumber(cap))
  if at > time and whole == '1' then at = time + math.max(1, math.ceil(at - time)) end
  local planned = tonumber(redis.call('GET', next_check_at) or '-inf')
  if planned > time - tonumber(overdue) and at >= planned - 0.5 then return nil end
  local text = string.format('%.6f', at)
  redis.call('SET', next_check_at, text)
  return text
end
