--[[ lease_due: a check takes what is due, so that no other check works on the same jobs.
  KEYS  due(endpoint); checks(endpoint); next_check_at(endpoint)
  ARGV  token; now (s); lease_until (s: the lease is this score in the due zset); batch; max_checks
  Returns {"busy"} (as many checks live as are allowed) | {"leased", "1" if more is due else "0", task ids ...}
  A lease that nobody gives back lapses by itself: the job is then due again. ]]
redis.call('ZREMRANGEBYSCORE', checks, '-inf', now)
local planned = redis.call('HGET', next_check_at, 'at')
if planned and tonumber(planned) <= tonumber(now) + 0.5 then redis.call('DEL', next_check_at) end
if not redis.call('ZSCORE', checks, token) and redis.call('ZCARD', checks) >= tonumber(max_checks) then
  return {'busy'}
end
redis.call('ZADD', checks, lease_until, token)
local ids = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, batch)
local answer = {'leased', '0'}
for _, id in ipairs(ids) do
  redis.call('ZADD', due, lease_until, id)
  answer[#answer + 1] = id
end
if redis.call('ZCOUNT', due, '-inf', now) > 0 then answer[2] = '1' end
return answer
