--[[ end_check: a check is over; is the next one to be published?
  KEYS  checks(endpoint); due(endpoint); cancels(endpoint); cancel_pause = pause(endpoint, "cancel");
        next_check_at(endpoint)
  ARGV  token; now (s); cap (s); whole ("1": by whole seconds); overdue (s)
  Returns {"publish", at (s)} | {"planned"} (one comes early enough) | {"nothing"} (nothing is due at any time) ]]
redis.call('ZREM', checks, token)
local job = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
local cancel = redis.call('ZRANGE', cancels, 0, 0, 'WITHSCORES')[2]
local at = job and tonumber(job)
if cancel then
  local until_s = math.max(tonumber(cancel), tonumber(redis.call('HGET', cancel_pause, 'until') or '0'))
  at = at and math.min(at, until_s) or until_s
end
if not at then return {'nothing'} end
local publish_at = plan(next_check_at, at, now, cap, whole, overdue)
if publish_at then return {'publish', publish_at} end
return {'planned'}
