--[[ end_post: a POST of a new job is over, or the look at /health before it failed. It opens, pauses or leaves the gate.
  KEYS  gate = pause(endpoint, "run"); posts(endpoint); post_times(endpoint, operation); waiting(endpoint);
        due(endpoint)
  ARGV  token; given_up (s, as in claim_submit); now (s);
        api_state ("works": RunPod answered | "trouble": 429, 5xx, no or no readable answer | "": nothing is known);
        took (s past what RunPod was asked to hold; "" = do not count it); retry_after (s, "" = not given); base (s);
        cap (s); spread (0 to 1)
  Returns {"ended"} | {"opened"} (what waits may go now) | {"paused", until (s)}
  Only the probe ends a pause or makes the next one longer: the other POSTs began before the pause. ]]
local post = given_up .. ' ' .. token
local time = tonumber(now)
local late = redis.call('ZSCORE', posts, post)
redis.call('ZREM', posts, post)
if took ~= '' then
  redis.call('LPUSH', post_times, took)
  redis.call('LTRIM', post_times, 0, 30)
end
local probe = redis.call('HGET', gate, 'probe') == token
if api_state ~= 'trouble' then
  if probe and api_state == 'works' then
    redis.call('DEL', gate)
    return {'opened'}
  end
  if probe then redis.call('HDEL', gate, 'probe', 'probe_until') end
  return {late and tonumber(late) <= time and 'opened' or 'ended'}
end
local until_now = redis.call('HGET', gate, 'until')
if until_now and not probe and retry_after == '' then return {'paused', until_now} end
local failures = tonumber(redis.call('HGET', gate, 'failures') or '0')
if probe or not until_now then failures = redis.call('HINCRBY', gate, 'failures', 1) end
local until_s = time + pause_wait(failures, retry_after, base, cap, spread)
if until_now then until_s = math.max(until_s, tonumber(until_now)) end
until_s = string.format('%.3f', until_s)
redis.call('HSET', gate, 'until', until_s)
if probe then redis.call('HDEL', gate, 'probe', 'probe_until') end
local first = redis.call('ZRANGE', waiting, 0, 0)[1]
if first then look_by(due, first, until_s) end
return {'paused', until_s}
