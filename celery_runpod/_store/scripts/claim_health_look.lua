--[[ claim_health_look: one look at RunPod's /health for all workers.
  KEYS  health hash of an endpoint
  ARGV  now (s)  every (s)  kept (s, whole)
  Returns {"look" (the caller asks RunPod, and notes the reason) | "known", the reason that the last look found}
  A look that is never noted is made again after the same time. ]]
local reason = redis.call('HGET', KEYS[1], 'told') or ''
local next_at = redis.call('HGET', KEYS[1], 'next_at')
if next_at and tonumber(next_at) > tonumber(ARGV[1]) then return {'known', reason} end
redis.call('HSET', KEYS[1], 'next_at', string.format('%.3f', tonumber(ARGV[1]) + tonumber(ARGV[2])))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {'look', reason}
