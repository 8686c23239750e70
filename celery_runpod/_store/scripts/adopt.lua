--[[ adopt: /status knows the RunPod id that a webhook named for an unanswered submit: the job has it from now on.
  KEYS  job(endpoint, task_id); candidates(endpoint, task_id, attempt); by_job_id(endpoint, named_id)
  ARGV  task_id; attempt; named_id (RunPod's); now (s); index_ttl (s, whole)
  Returns "adopted" | "taken" (another record or tombstone, or an earlier attempt, has that id: it is dropped)
        | "refused" (another attempt, or the submit is not unanswered any more) | "unknown"
  The lease stays: whoever asks holds it, and goes on with the answer of /status. ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
if state ~= 'SUBMITTING' or redis.call('HGET', job, 'attempt') ~= attempt then return 'refused' end
if not redis.call('SET', by_job_id, task_id, 'EX', index_ttl, 'NX') then
  redis.call('SREM', candidates, named_id)
  return 'taken'
end
redis.call('HSET', job, 'state', 'IN_QUEUE', 'job_id', named_id, 'submitted_at', now, 'checks', '0', 'reason', '')
redis.call('DEL', candidates)
return 'adopted'
