--[[ renew_leader: take or keep the lock of the worker that heals.
  KEYS  leader()
  ARGV  token; ttl (ms, whole)
  Returns "mine" | "other" ]]
local holder = redis.call('GET', leader)
if holder and holder ~= token then return 'other' end
redis.call('SET', leader, token, 'PX', ttl)
return 'mine'
