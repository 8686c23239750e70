--[[ claim_health_look: one look at RunPod's /health for all workers.
  KEYS  health(endpoint)
  ARGV  now (s); every (s); kept (s, whole)
  Returns {"look" (the caller asks RunPod, and notes what it finds) | "known", then what the last look found: why jobs wait,
        how many are in progress}
  A look that is never noted is made again after the same time. ]]
local found = redis.call('HMGET', health, 'told', 'in_progress', 'next_at')
local reason, in_progress, next_at = found[1] or '', found[2] or '0', found[3]
if next_at and tonumber(next_at) > tonumber(now) then return {'known', reason, in_progress} end
redis.call('HSET', health, 'next_at', string.format('%.3f', tonumber(now) + tonumber(every)))
redis.call('EXPIRE', health, kept)
return {'look', reason, in_progress}
