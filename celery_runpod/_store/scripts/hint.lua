--[[ hint: a signed webhook says that an attempt has ended: look at its job now.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); candidates(endpoint, task_id, attempt); next_check_at(endpoint)
  ARGV  task_id; attempt; now (s); named_id (that the body names; "" = the body was not read); format;
        most_candidates; candidates_ttl (s, whole); every (s); overdue (s)
  Returns "closed" (no such job, another attempt, not at RunPod, ended, or a record of a newer format)
        | "unnamed" (the submit is unanswered: call again with the id that the body names)
        | "full" (enough other ids were named: the caller asks RunPod to try again)
        | "publish" (a check must be published) | "planned" (one is queued and has not begun, or a hint came just before)
  It never records a verdict: it makes the job due, and a worker asks /status. A check that holds the job's lease
  finds its score moved, and leaves the time alone. Hints make a job due at most once in `every` seconds: whoever has
  the URL must not cause looks without end. ]]
local record = redis.call('HMGET', job, 'state', 'attempt', 'format', 'hinted_at', 'hint_due')
local state, time = record[1], tonumber(now)
if not state or record[2] ~= attempt or tonumber(record[3] or '0') > tonumber(format) then return 'closed' end
if state ~= 'SUBMITTING' and not at_runpod(state) then return 'closed' end
local named = false
if state == 'SUBMITTING' then
  if named_id == '' then return 'unnamed' end
  if redis.call('SISMEMBER', candidates, named_id) == 0 then
    if redis.call('SCARD', candidates) >= tonumber(most_candidates) then return 'full' end
    redis.call('SADD', candidates, named_id)
    redis.call('EXPIRE', candidates, candidates_ttl)
    named = true
  end
end
if not record[4] then redis.call('HSET', job, 'hinted_at', now) end
local due_at, last = time, tonumber(record[5] or '0')
if not named and last > time then
  due_at = last
elseif not named and last + tonumber(every) > time then
  due_at = last + tonumber(every)
end
redis.call('HSET', job, 'hint_due', string.format('%.6f', due_at))
redis.call('ZADD', redis.call('ZSCORE', look, task_id) and look or due, 'XX', 'LT', string.format('%.6f', due_at), task_id)
if due_at > time then return 'planned' end
if not plan(next_check_at, now, now, 0, '', overdue) then return 'planned' end
return 'publish'
