--[[ end_check: a check is over; is the next one to be published?
  KEYS  checks(endpoint); due(endpoint); look(endpoint); cancels(endpoint); cancel_pause = pause(endpoint, "cancel");
        look_pause = pause(endpoint, "status"); waiting(endpoint); gate = pause(endpoint, "run"); posts(endpoint);
        inflight(endpoint); next_check_at(endpoint); by_place(endpoint)
  ARGV  token; now (s); looks_from (s: until then the budget has no look); submits_from (s: nor a submit; 0 = it has);
        max_in_flight ("" = no limit); cap (s); whole ("1": by whole seconds); overdue (s);
        count_every (s: RunPod is asked how many jobs are in progress)
  Returns {"publish", at (s)} | {"planned"} (one comes early enough) | {"nothing"} (nothing is due at any time) ]]
redis.call('ZREM', checks, token)
local job = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
local cancel = redis.call('ZRANGE', cancels, 0, 0, 'WITHSCORES')[2]
local at = job and tonumber(job)
local function by(other) at = at and math.min(at, other) or other end
local next_look = redis.call('ZRANGE', look, 0, 0, 'WITHSCORES')[2]
if next_look then
  local paused = tonumber(redis.call('HGET', look_pause, 'until') or '0')
  by(math.max(tonumber(next_look), tonumber(looks_from), paused))
end
-- What has ended without a look is still noted as placed.
if redis.call('ZCARD', inflight) == 0 then redis.call('DEL', by_place) end
if redis.call('EXISTS', by_place) == 1 then by(tonumber(now) + tonumber(count_every)) end
if tonumber(submits_from) > 0 then redis.call('HSET', gate, 'budget_from', submits_from) end
local free, from = may_submit(waiting, gate, posts, inflight, tonumber(now), max_in_flight, 1)
if free > 0 then by(from) end
if cancel then
  local until_s = math.max(tonumber(cancel), tonumber(redis.call('HGET', cancel_pause, 'until') or '0'))
  by(until_s)
end
if not at then
  redis.call('HDEL', next_check_at, 'rested')
  return {'nothing'}
end
local publish_at = plan(next_check_at, at, now, cap, whole, overdue)
if publish_at then return {'publish', publish_at} end
return {'planned'}
