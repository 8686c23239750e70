--[[ join: a call with an idempotency key becomes one of those that wait for one job.
  KEYS  key = shared(endpoint, key_hash); call = job(endpoint, task_id); shared_job = job(endpoint, shared_id);
        waiters(endpoint, shared_id); due(endpoint); input_bytes(endpoint)
  ARGV  task_id; shared_id (the job that holds the key, or a new one); replaces (a job that was found "free", or "");
        input_hash; call_fields (JSON); call_end_by (s); call_due (s: its end_by or its expires);
        shared_fields (of a new shared job, JSON); shared_due (of a new shared job, s); look_again (s)
  Returns {"begun"} (the shared job is new, and the caller submits it) | {"joined"} | {"ended"} (it has its verdict)
        | {"conflict"} (the key's job has another input) | {"free"} (the key's job failed: begin a new one in its place)
        | {"moved", the job that holds the key now} | {"known", state of the call's record}
  After the verdict nobody can join. So the task that hands the verdict to the waiters sees all of them. ]]
local known = redis.call('HGET', call, 'state')
if known then return {'known', known} end
local holder = redis.call('HGET', key, 'job')
local answer = 'begun'
if holder and holder ~= replaces then
  if holder ~= shared_id then return {'moved', holder} end
  local state = redis.call('HGET', shared_job, 'state')
  local verdict = state == 'DELIVERED' and redis.call('HGET', shared_job, 'verdict') or state
  local outcome = redis.call('HGET', shared_job, 'outcome')
  answer = 'joined'
  if not verdict then return {'free'} end
  if is_outcome(verdict) then
    -- What may have been paid for keeps its key; what failed frees it.
    local unconfirmed = verdict == 'ENDED_HERE' and outcome
      and cjson.decode(outcome)['error']['type'] == 'SubmissionUnconfirmed'
    if not outcome or (verdict ~= 'COMPLETED' and not unconfirmed) then return {'free'} end
    answer = 'ended'
  end
  if redis.call('HGET', key, 'input') ~= input_hash then return {'conflict'} end
end
-- The key expired meanwhile: what the caller took for its holder is an old job.
if answer == 'begun' and redis.call('EXISTS', shared_job) == 1 then return {'free'} end
for name, value in pairs(cjson.decode(call_fields)) do redis.call('HSET', call, name, value) end
count_input(call, input_bytes)
if answer == 'begun' then
  redis.call('HSET', key, 'job', shared_id, 'input', input_hash)
  redis.call('PERSIST', key)
  for name, value in pairs(cjson.decode(shared_fields)) do redis.call('HSET', shared_job, name, value) end
  count_input(shared_job, input_bytes)
  redis.call('ZADD', due, shared_due, shared_id)
end
if answer == 'ended' then
  redis.call('ZADD', due, look_again, task_id)
  return {answer}
end
redis.call('SADD', waiters, task_id)
redis.call('ZADD', due, call_due, task_id)
if tonumber(call_end_by) > tonumber(redis.call('HGET', shared_job, 'end_by')) then
  redis.call('HSET', shared_job, 'end_by', call_end_by)
end
return {answer}
