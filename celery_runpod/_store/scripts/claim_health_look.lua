--[[ claim_health_look: one look at RunPod's /health for all workers.
  KEYS  health(endpoint)
  ARGV  now (s); every (s); kept (s, whole)
  Returns {"look" (the caller asks RunPod, and notes the reason) | "known", the reason that the last look found}
  A look that is never noted is made again after the same time. ]]
local reason = redis.call('HGET', health, 'told') or ''
local next_at = redis.call('HGET', health, 'next_at')
if next_at and tonumber(next_at) > tonumber(now) then return {'known', reason} end
redis.call('HSET', health, 'next_at', string.format('%.3f', tonumber(now) + tonumber(every)))
redis.call('EXPIRE', health, kept)
return {'look', reason}
