--[[ pause: RunPod asked us to wait, or does not answer: no calls of this operation for a while.
  KEYS  pause hash of one endpoint and operation
  ARGV  now (s)  retry_after (s, "" = not given)  base (s)  cap (s)  spread (0 to 1)
  Returns until (s), as text. ]]
local until_now = redis.call('HGET', KEYS[1], 'until')
if until_now and tonumber(until_now) > tonumber(ARGV[1]) and ARGV[2] == '' then return until_now end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local wait = pause_wait(failures, ARGV[2], ARGV[3], ARGV[4], ARGV[5])
local until_s = string.format('%.3f', tonumber(ARGV[1]) + wait)
redis.call('HSET', KEYS[1], 'until', until_s)
redis.call('EXPIRE', KEYS[1], math.ceil(wait) + 600)
return until_s
