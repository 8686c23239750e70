--[[ end_post: a POST of a new job is over, or the look at /health before it failed. It opens, pauses or leaves the gate.
  KEYS  gate hash; posts zset; post_times list; waiting zset; due zset
  ARGV  token  given_up (s, as in claim_submit)  now (s)
        verdict ("works": RunPod answered | "trouble": 429, 5xx, no or no readable answer | "": nothing is known)
        took (s past what RunPod was asked to hold; "" = do not count it)  retry_after (s, "" = not given)
        base (s)  cap (s)  spread (0 to 1)
  Returns {"ended"} | {"opened"} (what waits may go now) | {"paused", until (s)}
  Only the probe ends a pause or makes the next one longer: the other POSTs began before the pause. ]]
local post = ARGV[2] .. ' ' .. ARGV[1]
local now = tonumber(ARGV[3])
local late = redis.call('ZSCORE', KEYS[2], post)
redis.call('ZREM', KEYS[2], post)
if ARGV[5] ~= '' then
  redis.call('LPUSH', KEYS[3], ARGV[5])
  redis.call('LTRIM', KEYS[3], 0, 30)
end
local probe = redis.call('HGET', KEYS[1], 'probe') == ARGV[1]
if ARGV[4] ~= 'trouble' then
  if probe and ARGV[4] == 'works' then
    redis.call('DEL', KEYS[1])
    return {'opened'}
  end
  if probe then redis.call('HDEL', KEYS[1], 'probe', 'probe_until') end
  return {late and tonumber(late) <= now and 'opened' or 'ended'}
end
local until_now = redis.call('HGET', KEYS[1], 'until')
if until_now and not probe and ARGV[6] == '' then return {'paused', until_now} end
local failures = tonumber(redis.call('HGET', KEYS[1], 'failures') or '0')
if probe or not until_now then failures = redis.call('HINCRBY', KEYS[1], 'failures', 1) end
local until_s = now + pause_wait(failures, ARGV[6], ARGV[7], ARGV[8], ARGV[9])
if until_now then until_s = math.max(until_s, tonumber(until_now)) end
until_s = string.format('%.3f', until_s)
redis.call('HSET', KEYS[1], 'until', until_s)
if probe then redis.call('HDEL', KEYS[1], 'probe', 'probe_until') end
local first = redis.call('ZRANGE', KEYS[4], 0, 0)[1]
if first then look_by(KEYS[5], first, until_s) end
return {'paused', until_s}
