--[[ hint: a signed webhook says that an attempt has ended: look at its job now.
  KEYS  job hash; due zset; candidates set of the attempt; next_check_at
  ARGV  task_id  attempt  now (s)  job_id that the body names ("" = the body was not read)  format  most candidates
        candidates_ttl (s)  every (s)
  Returns "closed" (no such job, another attempt, not at RunPod, ended, or a record of a newer format)
        | "unnamed" (the submit is unanswered: call again with the id that the body names)
        | "full" (enough other ids were named: the caller asks RunPod to try again)
        | "publish" (a check must be published) | "planned" (one is queued and has not begun, or a hint came just before)
  A verdict is none of its answers: the job becomes due, and a worker asks /status. A check that holds the job's lease
  finds its score moved, and leaves the due time alone. Hints make a job due at most once in `every` seconds: whoever has
  the URL must not cause looks without end. ]]
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'format', 'hinted_at', 'hint_due')
local state, now = record[1], tonumber(ARGV[3])
if not state or record[2] ~= ARGV[2] or tonumber(record[3] or '0') > tonumber(ARGV[5]) then return 'closed' end
if state ~= 'SUBMITTING' and state ~= 'IN_QUEUE' and state ~= 'IN_PROGRESS' then return 'closed' end
local named = false
if state == 'SUBMITTING' then
  if ARGV[4] == '' then return 'unnamed' end
  if redis.call('SISMEMBER', KEYS[3], ARGV[4]) == 0 then
    if redis.call('SCARD', KEYS[3]) >= tonumber(ARGV[6]) then return 'full' end
    redis.call('SADD', KEYS[3], ARGV[4])
    redis.call('EXPIRE', KEYS[3], ARGV[7])
    named = true
  end
end
if not record[4] then redis.call('HSET', KEYS[1], 'hinted_at', ARGV[3]) end
local due, last = now, tonumber(record[5] or '0')
if not named and last > now then
  due = last
elseif not named and last + tonumber(ARGV[8]) > now then
  due = last + tonumber(ARGV[8])
end
redis.call('HSET', KEYS[1], 'hint_due', string.format('%.6f', due))
redis.call('ZADD', KEYS[2], 'XX', 'LT', string.format('%.6f', due), ARGV[1])
if due > now then return 'planned' end
-- As plan_check: a planned time that is seconds past counts for nothing, because its message was lost.
local planned = tonumber(redis.call('GET', KEYS[4]) or '0')
if planned > now - 3 and planned <= now + 0.5 then return 'planned' end
redis.call('SET', KEYS[4], ARGV[3])
return 'publish'
