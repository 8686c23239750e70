--[[ claim_health_look: one look at RunPod's /health for all workers.
  KEYS  health(endpoint)
  ARGV  now (s); every (s); kept (s, whole)
  Returns {"look" (the caller asks RunPod, and notes what it finds) | "known", why jobs wait as the last look found it,
        when the last look was claimed (s)}
  A look that is never noted is made again after the same time. ]]
local found = redis.call('HMGET', health, 'told', 'asked_at')
local reason, asked_at = found[1] or '', found[2] or '0'
if tonumber(asked_at) + tonumber(every) > tonumber(now) then return {'known', reason, asked_at} end
redis.call('HSET', health, 'asked_at', now)
redis.call('EXPIRE', health, kept)
return {'look', reason, asked_at}
