--[[ begin_check: a check begins, if fewer than `max_checks` live. What could it do, if the budget allows?
  KEYS  checks(endpoint); next_check_at(endpoint); look(endpoint); look_pause = pause(endpoint, "status");
        waiting(endpoint); gate = pause(endpoint, "run"); posts(endpoint); inflight(endpoint);
        by_place(endpoint); due(endpoint)
  ARGV  token; now (s); alive_until (s); batch; max_checks; max_in_flight ("" = no limit); soon (s)
  Returns {"busy"} | {"begun", looks that are due, jobs that may be submitted (each at most `batch`),
        jobs whose look was planned by their place in RunPod's queue, jobs on which something must be decided by `soon`,
        until when looks are or were paused (s, "" = they are not, and the last one was answered)} ]]
redis.call('ZREMRANGEBYSCORE', checks, '-inf', now)
local found = redis.call('HMGET', next_check_at, 'at', 'rested')
if found[1] and tonumber(found[1]) <= tonumber(now) + 0.5 then redis.call('HDEL', next_check_at, 'at', 'lost') end
if not redis.call('ZSCORE', checks, token) and redis.call('ZCARD', checks) >= tonumber(max_checks) then
  return {'busy'}
end
redis.call('ZADD', checks, alive_until, token)
check_begins(next_check_at, now, found[2])
local paused_until = redis.call('HGET', look_pause, 'until') or ''
local looks = paused_until ~= '' and tonumber(paused_until) > tonumber(now) and 0 or math.min(redis.call('ZCOUNT', look, '-inf', now), tonumber(batch))
local submits, from = may_submit(waiting, gate, posts, inflight, tonumber(now), max_in_flight, batch)
if from > tonumber(now) then submits = 0 end
local placed = redis.call('ZCARD', by_place)
return {'begun', tostring(looks), tostring(submits), tostring(placed),
  tostring(redis.call('ZCOUNT', due, '-inf', soon)), paused_until}
