--[[ pause: RunPod asked us to wait, or does not answer: no calls of this operation for a while.
  KEYS  pause(endpoint, operation)
  ARGV  now (s); retry_after (s, "" = not given); base (s); cap (s); spread (0 to 1)
  Returns until (s), as text. ]]
local until_now = redis.call('HGET', pause, 'until')
if until_now and tonumber(until_now) > tonumber(now) and retry_after == '' then return until_now end
local failures = redis.call('HINCRBY', pause, 'failures', 1)
local wait = pause_wait(failures, retry_after, base, cap, spread)
local until_s = string.format('%.3f', tonumber(now) + wait)
redis.call('HSET', pause, 'until', until_s)
redis.call('EXPIRE', pause, math.ceil(wait) + 600)
return until_s
