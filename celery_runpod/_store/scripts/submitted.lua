--[[ submitted: RunPod has taken this attempt and named its job.
  KEYS  job hash; due zset; cancels zset; cancel_keys hash; by_job_id (index: task id of this RunPod id)
  ARGV  task_id  attempt  job_id  due (s)  now (s)  api_key_name  index_ttl (s, whole)
  Returns "accepted" | "already_ended" | "cancel_asked" | "too_late" (a later attempt, or no record any more)
  On the last three the RunPod job is put among the cancels, because no task will fetch its result.
  Where a webhook has said already that the attempt has ended, the job is due now. ]]
local state = redis.call('HGET', KEYS[1], 'state')
local attempt = redis.call('HGET', KEYS[1], 'attempt')
local job_id = redis.call('HGET', KEYS[1], 'job_id')
if state then redis.call('SET', KEYS[5], ARGV[1], 'EX', ARGV[7], 'NX') end
if state and attempt == ARGV[2] then
  if state == 'SUBMITTING' then
    redis.call('HSET', KEYS[1], 'state', 'IN_QUEUE', 'job_id', ARGV[3], 'submitted_at', ARGV[5], 'checks', '0')
    local hinted = redis.call('HEXISTS', KEYS[1], 'hinted_at') == 1
    redis.call('ZADD', KEYS[2], hinted and ARGV[5] or ARGV[4], ARGV[1])
    return 'accepted'
  end
  if job_id == ARGV[3] then
    if may(state, 'COMPLETED') then return 'accepted' end
    return 'already_ended'
  end
end
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[3])
redis.call('HSET', KEYS[4], ARGV[3], ARGV[6])
if state == 'CANCELLED' then return 'cancel_asked' end
if state and attempt == ARGV[2] then return 'already_ended' end
return 'too_late'
