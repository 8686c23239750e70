--[[ lease_due: a check takes what is due, so that no other check works on the same jobs.
  KEYS  due zset; checks zset (token of a live check -> given up at, s); next_check_at
  ARGV  token  now (s)  lease_until (s: the lease is this score in the due zset)  batch  max_checks
  Returns {"busy"} (as many checks live as are allowed) | {"leased", "1" if more is due else "0", task ids ...}
  A lease that nobody gives back lapses by itself: the job is then due again. ]]
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[2])
local planned = redis.call('GET', KEYS[3])
if planned and tonumber(planned) <= tonumber(ARGV[2]) + 0.5 then redis.call('DEL', KEYS[3]) end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
  return {'busy'}
end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[4])
local answer = {'leased', '0'}
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], ARGV[3], id)
  answer[#answer + 1] = id
end
if redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[2]) > 0 then answer[2] = '1' end
return answer
