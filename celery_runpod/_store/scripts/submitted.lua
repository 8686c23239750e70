--[[ submitted: RunPod has taken this attempt and named its job.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); cancels(endpoint); cancel_keys(endpoint);
        by_job_id(endpoint, given_id); by_place(endpoint)
  ARGV  task_id; attempt; given_id (RunPod's); look_at (s); decide_at (s); now (s); api_key_name; index_ttl (s, whole);
        placed ("1": the look was planned by its place in RunPod's queue)
  Returns "accepted" | "foreign" (another task has this job) | "already_ended" | "cancel_asked"
        | "too_late" (a later attempt, or no record any more)
  A "foreign" id comes from an answer to another request; the attempt goes on as one without an answer.
  On the last three the RunPod job is put among the cancels, because no task will fetch its result.
  Where a webhook has said already that the attempt has ended, RunPod is asked now. ]]
local state = redis.call('HGET', job, 'state')
local latest = redis.call('HGET', job, 'attempt')
local job_id = redis.call('HGET', job, 'job_id')
if (redis.call('GET', by_job_id) or task_id) ~= task_id then return 'foreign' end
if state then redis.call('SET', by_job_id, task_id, 'EX', index_ttl, 'NX') end
if state and latest == attempt then
  if state == 'SUBMITTING' then
    redis.call('HSET', job, 'state', 'IN_QUEUE', 'job_id', given_id, 'submitted_at', now, 'checks', '0')
    local hinted = redis.call('HEXISTS', job, 'hinted_at') == 1
    plan_job('IN_QUEUE', due, look, task_id, hinted and now or look_at, decide_at)
    if placed == '1' then plan_by_place(by_place, task_id) end
    return 'accepted'
  end
  if job_id == given_id then
    if may(state, 'COMPLETED') then return 'accepted' end
    return 'already_ended'
  end
end
redis.call('ZADD', cancels, now, given_id)
redis.call('HSET', cancel_keys, given_id, api_key_name)
if state == 'CANCELLED' then return 'cancel_asked' end
if state and latest == attempt then return 'already_ended' end
return 'too_late'
