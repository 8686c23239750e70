--[[ claim_submit: one process, and no other, may POST this attempt now; or the job waits for its turn.
  KEYS  job(endpoint, task_id); due(endpoint); inflight(endpoint); waiting(endpoint); gate = pause(endpoint, "run");
        posts(endpoint); post_times(endpoint, operation)
  ARGV  task_id; attempt (as the claimant knows it); token (of the claimant); now (s);
        window_ends (s: until then an unanswered submit may still be confirmed); max_in_flight ("" = no limit);
        turn (in the order of the submits); decide_at (s: when something must be decided on it while it waits);
        held ("" | "ON_HOLD" | "PAUSED" | "BUDGET": the caller knows already that it must wait); ask_again (s: the hold);
        expected (s: how long RunPod was asked to hold the answer); given_up (s: the POST is over by then);
        healthy ("1": /health has answered the claimant); probe_until (s);
        place (in RunPod's queue: the smallest goes first)
  Returns {"go", number of the attempt, how many jobs at RunPod are before it}
        | {"health"} (the claimant alone may try: it asks /health, and claims again)
        | {"wait", reason, "changed" | "same"} | {"refused"} (not WAITING, or another attempt) | {"unknown"} (no such job)
  The claim is never renewed: a POST is over, by its own total deadline, long before the window ends.
  Asked again with the same token (its answer was lost), it gives the same number. ]]
local state = redis.call('HGET', job, 'state')
if not state then return {'unknown'} end
local function go(attempt) return {'go', attempt, tostring(redis.call('ZRANK', inflight, task_id) or 0)} end
if state == 'SUBMITTING' and redis.call('HGET', job, 'lease') == token then return go(redis.call('HGET', job, 'attempt')) end
if not may(state, 'SUBMITTING') or redis.call('HGET', job, 'attempt') ~= attempt then return {'refused'} end
local time = tonumber(now)

-- The first in the order is looked at when it may go; it is the one that tries, and the others are made due after it.
local function wait(reason, at)
  local changed = redis.call('HGET', job, 'reason') ~= reason and 'changed' or 'same'
  redis.call('HSET', job, 'reason', reason)
  redis.call('HSET', gate, 'why', reason)
  redis.call('ZADD', waiting, turn, task_id)
  redis.call('ZADD', due, decide_at, task_id)
  if at and redis.call('ZRANK', waiting, task_id) == 0 then look_by(due, task_id, at) end
  return {'wait', reason, changed}
end

if held == 'ON_HOLD' then
  redis.call('HSET', gate, 'hold_until', ask_again)
  return wait('ON_HOLD', ask_again)
end
redis.call('HDEL', gate, 'hold_until')
local word, at = gate_state(gate, posts, time, token)
if word ~= 'open' and word ~= 'one' then return wait(word, at) end
if held == 'BUDGET' then return wait(held) end
if held ~= '' then return wait(held, now) end
if max_in_flight ~= '' then
  local free = tonumber(max_in_flight) - redis.call('ZCARD', inflight)
  if redis.call('ZCOUNT', waiting, '-inf', '(' .. turn) >= free then return wait('MAX_IN_FLIGHT') end
end
if word == 'one' and healthy ~= '1' then
  redis.call('HSET', gate, 'probe', token, 'probe_until', probe_until)
  return {'health'}
end

redis.call('ZREM', waiting, task_id)
attempt = redis.call('HINCRBY', job, 'attempt', 1)
redis.call('HSET', job, 'state', 'SUBMITTING', 'lease', token, 'window_ends', window_ends, 'reason', '')
redis.call('HDEL', job, 'job_id', 'hinted_at', 'hint_due', 'started_at')
redis.call('ZADD', due, window_ends, task_id)
redis.call('ZADD', inflight, place, task_id)
local times = redis.call('LRANGE', post_times, 0, -1)
for i = 1, #times do times[i] = tonumber(times[i]) end
table.sort(times)
local median = times[math.ceil(#times / 2)] or 0
local late = time + tonumber(expected) + math.max(2, 10 * median)
redis.call('ZADD', posts, string.format('%.3f', late), given_up .. ' ' .. token)
return go(tostring(attempt))
