--[[ lease_due: a check takes what is due, so that no other check works on the same jobs.
  KEYS  due(endpoint); look(endpoint); waiting(endpoint); inflight(endpoint)
  ARGV  now (s); lease_until (s: the lease is this score); batch; looks (as many calls did the budget grant)
  Returns {"1" if more is due else "0", how many of the ids are to be decided on, their task ids ..., and of those to
        be looked at: task id, how many jobs at RunPod were submitted before it, ...}; each the oldest first
  A lease that nobody gives back lapses by itself: the job is then due again. ]]
local decided = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, batch)
local answer = {'0', tostring(#decided)}
for _, id in ipairs(decided) do
  redis.call('ZADD', due, lease_until, id)
  redis.call('ZADD', look, 'XX', lease_until, id)
  redis.call('ZREM', waiting, id)
  answer[#answer + 1] = id
end
if tonumber(looks) > 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', look, '-inf', now, 'LIMIT', 0, looks)) do
    redis.call('ZADD', look, lease_until, id)
    answer[#answer + 1] = id
    answer[#answer + 1] = tostring(redis.call('ZRANK', inflight, id) or 0)
  end
end
if redis.call('ZCOUNT', due, '-inf', now) > 0 then answer[1] = '1' end
return answer
