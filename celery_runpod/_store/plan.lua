-- The check that is planned for an endpoint: next_check_at hash  at (s)  lost (how many in a row were published and did not
-- begin; a check that begins removes both)  rested (s: by when the checks so far have had their pauses).
-- Returns when a check is to be published for a time (s), or nil if one comes early enough. The time is at least `now`, at
-- most `cap` seconds later, and a whole number of seconds later where the broker delays by these (`whole` is "1").
-- A planned check that is late by `overdue` seconds counts as lost. Its message may only wait in a long queue, so each one
-- that seems lost doubles the patience with the next: checks do not pile up where nobody has time for them.
-- Checks of one endpoint begin `BREATH` seconds apart where they follow each other for long, and `BURST` seconds of them may
-- come at once: under load each check then has several jobs, which costs less than a check for each job, and a few calls
-- do not wait. A webhook's hint (`cap` 0) waits for nothing, and RabbitMQ's whole seconds are apart enough.
local BREATH, BURST = 0.25, 1
local function check_begins(next_check_at, now, rested)
  rested = math.max(tonumber(rested or '0'), tonumber(now)) + BREATH
  redis.call('HSET', next_check_at, 'rested', string.format('%.6f', rested))
end
local function plan(next_check_at, at, now, cap, whole, overdue)
  local time = tonumber(now)
  local found = redis.call('HMGET', next_check_at, 'at', 'lost', 'rested')
  local rested = whole == '1' and 0 or tonumber(found[3] or '0') - BURST
  at = math.min(math.max(tonumber(at), time, rested), time + tonumber(cap))
  if at > time and whole == '1' then at = time + math.max(1, math.ceil(at - time)) end
  local planned, lost = tonumber(found[1] or '-inf'), tonumber(found[2] or '0')
  local late = planned <= time - tonumber(overdue) * 2 ^ math.min(lost, 8)
  if not late and at >= planned - 0.5 then return nil end
  local text = string.format('%.6f', at)
  if found[1] and late then lost = lost + 1 end
  redis.call('HSET', next_check_at, 'at', text, 'lost', string.format('%d', lost))
  return text
end
