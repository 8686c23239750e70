--[[ lease_due: a check takes what is due, so that no other check works on the same jobs.
  KEYS  due(endpoint); look(endpoint); waiting(endpoint); inflight(endpoint); gate = pause(endpoint, "run"); posts(endpoint);
        by_place(endpoint)
  ARGV  now (s); lease_until (s: the lease is this score); batch; submits (so many did the budget grant); looks (the same);
        max_in_flight ("" = no limit); placed ("1": looks were planned by places in RunPod's queue)
  Returns {"1" if more is due else "0", how many of the ids are to be submitted or decided on, their task ids ..., and of
        those to be looked at: task id, how many jobs at RunPod are before it, ...}
  Those to be submitted come first, in their turn; then the oldest. A lease that nobody gives back lapses by itself: the
  job is then due again. ]]
local answer = {'0', '0'}
local free = may_submit(waiting, gate, posts, inflight, tonumber(now), max_in_flight, submits)
local taken = free > 0 and redis.call('ZRANGE', waiting, 0, free - 1) or {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, batch)) do taken[#taken + 1] = id end
for _, id in ipairs(taken) do
  if redis.call('ZADD', due, 'XX', 'CH', lease_until, id) == 1 then answer[#answer + 1] = id end
  redis.call('ZADD', look, 'XX', lease_until, id)
  redis.call('ZREM', waiting, id)
  if placed == '1' then redis.call('ZREM', by_place, id) end
end
answer[2] = tostring(#answer - 2)
if tonumber(looks) > 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', look, '-inf', now, 'LIMIT', 0, looks)) do
    redis.call('ZADD', look, lease_until, id)
    if placed == '1' then redis.call('ZREM', by_place, id) end
    answer[#answer + 1] = id
    answer[#answer + 1] = tostring(redis.call('ZRANK', inflight, id) or 0)
  end
end
if redis.call('ZCOUNT', due, '-inf', now) > 0 then answer[1] = '1' end
return answer
