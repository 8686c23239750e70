--[[ The gate that every POST of a new job goes through, and how long a pause lasts. This text precedes each script.
  gate hash   until (s)  failures (in a row)
              probe (token) and probe_until (s): the one POST that may try after a pause
              hold_until (s): submits were stopped by hand; a job looks again then
              budget_from (s): before that the budget has no submit;  why: the reason of the last job that had to wait
  posts zset  "<given up at, s> <token>" of a POST under way -> from when on it is late (s) ]]
local function late_until(posts, now)
  for _, post in ipairs(redis.call('ZRANGEBYSCORE', posts, '-inf', now)) do
    local given_up = string.match(post, '^%S+')
    if tonumber(given_up) > now then return given_up end
    -- Its process died: no POST outlives its own deadline.
    redis.call('ZREM', posts, post)
  end
  return nil
end
-- Returns "open" | "one" (a pause is over: one job may try) | why no job may be submitted, and until when (s, text).
local function gate_state(gate, posts, now, token)
  local found = redis.call('HMGET', gate, 'until', 'probe', 'probe_until', 'hold_until')
  if found[4] and tonumber(found[4]) > now then return 'ON_HOLD', found[4] end
  if found[1] and tonumber(found[1]) > now then return 'PAUSED', found[1] end
  if found[2] and found[2] ~= token and tonumber(found[3]) > now then return 'PAUSED', found[3] end
  local late = late_until(posts, now)
  if late then return 'API_SLOW', late end
  if found[1] or found[4] then return 'one' end
  return 'open'
end
-- How many of the jobs that wait to be submitted may go now, at most `most`; and from when on the budget has submits (s).
local function may_submit(waiting, gate, posts, inflight, now, max_in_flight, most)
  local number = math.min(redis.call('ZCARD', waiting), tonumber(most))
  if number == 0 then return 0, 0 end
  local from = tonumber(redis.call('HGET', gate, 'budget_from') or '0')
  local word = gate_state(gate, posts, now, '')
  if word == 'one' then number = 1 elseif word ~= 'open' then return 0, from end
  if max_in_flight ~= '' then number = math.min(number, tonumber(max_in_flight) - redis.call('ZCARD', inflight)) end
  return math.max(number, 0), from
end
-- Makes a job due, unless it is due before that.
local function look_by(due, id, at)
  local planned = redis.call('ZSCORE', due, id)
  if planned and tonumber(planned) > tonumber(at) then redis.call('ZADD', due, at, id) end
end
-- How long a pause lasts (s). A Retry-After (text, "" = not given) goes first. Without one the wait begins at `base`,
-- doubles with each failure in a row, and stops at `cap`. `spread` (0 to 1) adds up to a fifth.
local function pause_wait(failures, retry_after, base, cap, spread)
  local wait = math.min(tonumber(base) * 2 ^ math.min(failures - 1, 20), tonumber(cap))
  if retry_after ~= '' then wait = tonumber(retry_after) end
  return wait * (1 + 0.2 * tonumber(spread))
end
