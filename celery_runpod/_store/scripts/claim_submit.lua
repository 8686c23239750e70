--[[ claim_submit: one process, and no other, may POST this attempt now; or the job waits, in the order of the calls.
  KEYS  job hash; due zset; inflight set; waiting zset (score: when it was called); gate hash; posts zset;
        post_times list (s, the latest first)
  ARGV  task_id  token (of the claimant)  now (s)  window_ends (s: until then an unanswered submit may still be confirmed)
        max_in_flight ("" = no limit)  order (s: when it was called)  look_again (s: when to look at it while it waits)
        held ("" | "ON_HOLD" | "PAUSED": the caller knows already that it must wait)  ask_again (s: the brake)
        expected (s: how long RunPod was asked to hold the answer)  given_up (s: the POST is over by then)
        healthy ("1": /health has answered the claimant)  probe_until (s)
  Returns {"go", number of the attempt} | {"health"} (the claimant alone may try: it asks /health, and claims again)
        | {"wait", reason, "changed" | "same"} | {"refused"} (not WAITING) | {"unknown"} (no such job)
  The claim is never renewed: a POST is over, by its own total deadline, long before the window ends.
  Asked again with the same token (its answer was lost), it gives the same number. ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return {'unknown'} end
if state == 'SUBMITTING' and redis.call('HGET', KEYS[1], 'lease') == ARGV[2] then
  return {'go', redis.call('HGET', KEYS[1], 'attempt')}
end
if not may(state, 'SUBMITTING') then return {'refused'} end
local now = tonumber(ARGV[3])

-- The first in the order is looked at when it may go; it is the one that tries, and the others are made due after it.
local function wait(reason, at)
  local changed = redis.call('HGET', KEYS[1], 'reason') ~= reason and 'changed' or 'same'
  redis.call('HSET', KEYS[1], 'reason', reason)
  redis.call('ZADD', KEYS[4], ARGV[6], ARGV[1])
  redis.call('ZADD', KEYS[2], ARGV[7], ARGV[1])
  if at and redis.call('ZRANK', KEYS[4], ARGV[1]) == 0 then look_by(KEYS[2], ARGV[1], at) end
  return {'wait', reason, changed}
end

if ARGV[8] == 'ON_HOLD' then
  redis.call('HSET', KEYS[5], 'hold_until', ARGV[9])
  return wait('ON_HOLD', ARGV[9])
end
redis.call('HDEL', KEYS[5], 'hold_until')
local word, at = gate_state(KEYS[5], KEYS[6], now, ARGV[2])
if word ~= 'open' and word ~= 'one' then return wait(word, at) end
if ARGV[8] ~= '' then return wait(ARGV[8], ARGV[3]) end
if ARGV[5] ~= '' then
  local free = tonumber(ARGV[5]) - redis.call('SCARD', KEYS[3])
  if redis.call('ZCOUNT', KEYS[4], '-inf', '(' .. ARGV[6]) >= free then return wait('MAX_IN_FLIGHT') end
end
if word == 'one' and ARGV[12] ~= '1' then
  redis.call('HSET', KEYS[5], 'probe', ARGV[2], 'probe_until', ARGV[13])
  return {'health'}
end

redis.call('ZREM', KEYS[4], ARGV[1])
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'SUBMITTING', 'lease', ARGV[2], 'window_ends', ARGV[4], 'reason', '')
redis.call('HDEL', KEYS[1], 'job_id', 'hinted_at', 'hint_due')
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
local times = redis.call('LRANGE', KEYS[7], 0, -1)
table.sort(times, function(one, other) return tonumber(one) < tonumber(other) end)
local median = #times > 0 and tonumber(times[math.ceil(#times / 2)]) or 0
local late = now + tonumber(ARGV[10]) + math.max(2, 10 * median)
redis.call('ZADD', KEYS[6], string.format('%.3f', late), ARGV[11] .. ' ' .. ARGV[2])
return {'go', tostring(attempt)}
