--[[ join: a call with an idempotency key becomes one of those that wait for one job.
  KEYS  key hash (job, input); job hash of the call; job hash of the shared job; its waiters set; due zset;
        input_bytes
  ARGV  task_id  shared_id (the job that holds the key, or a new one)  replaces (a job that was found "free", or "")
        input (hash)  fields of the call (JSON)  end_by of the call (s)  due of the call (s: its end_by or its expires)
        fields of a new shared job (JSON)  due of a new shared job (s)  look_again (s)
  Returns {"begun"} (the shared job is new, and the caller submits it) | {"joined"} | {"ended"} (it has its verdict)
        | {"conflict"} (the key's job has another input) | {"free"} (the key's job failed: begin a new one in its place)
        | {"moved", the job that holds the key now} | {"known", state of the call's record}
  Nobody joins after the verdict: those who hand it to the waiters have seen all of them. ]]
local known = redis.call('HGET', KEYS[2], 'state')
if known then return {'known', known} end
local holder = redis.call('HGET', KEYS[1], 'job')
local answer = 'begun'
if holder and holder ~= ARGV[3] then
  if holder ~= ARGV[2] then return {'moved', holder} end
  local state = redis.call('HGET', KEYS[3], 'state')
  local verdict = state == 'DELIVERED' and redis.call('HGET', KEYS[3], 'verdict') or state
  local outcome = redis.call('HGET', KEYS[3], 'outcome')
  answer = 'joined'
  if not verdict then return {'free'} end
  if is_outcome(verdict) then
    -- What may have been paid for keeps its key; what failed frees it.
    local unconfirmed = verdict == 'ENDED_HERE' and outcome
      and cjson.decode(outcome)['error']['type'] == 'SubmissionUnconfirmed'
    if not outcome or (verdict ~= 'COMPLETED' and not unconfirmed) then return {'free'} end
    answer = 'ended'
  end
  if redis.call('HGET', KEYS[1], 'input') ~= ARGV[4] then return {'conflict'} end
end
-- The key expired meanwhile: what the caller took for its holder is an old job.
if answer == 'begun' and redis.call('EXISTS', KEYS[3]) == 1 then return {'free'} end
for name, value in pairs(cjson.decode(ARGV[5])) do redis.call('HSET', KEYS[2], name, value) end
count_input(KEYS[2], KEYS[6])
if answer == 'begun' then
  redis.call('HSET', KEYS[1], 'job', ARGV[2], 'input', ARGV[4])
  redis.call('PERSIST', KEYS[1])
  for name, value in pairs(cjson.decode(ARGV[8])) do redis.call('HSET', KEYS[3], name, value) end
  count_input(KEYS[3], KEYS[6])
  redis.call('ZADD', KEYS[5], ARGV[9], ARGV[2])
end
if answer == 'ended' then
  redis.call('ZADD', KEYS[5], ARGV[10], ARGV[1])
  return {answer}
end
redis.call('SADD', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[5], ARGV[7], ARGV[1])
if tonumber(ARGV[6]) > tonumber(redis.call('HGET', KEYS[3], 'end_by')) then
  redis.call('HSET', KEYS[3], 'end_by', ARGV[6])
end
return {answer}
