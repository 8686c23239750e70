--[[ adopt: /status knows the RunPod id that a webhook named for an unanswered submit: the job has it from now on.
  KEYS  job hash; candidates set of the attempt; by_job_id (index: task id of this RunPod id)
  ARGV  task_id  attempt  job_id  now (s)  index_ttl (s, whole)
  Returns "adopted" | "taken" (another record or tombstone, or an earlier attempt, has that id: it is dropped)
        | "refused" (another attempt, or the submit is not unanswered any more) | "unknown"
  The due time stays: whoever asks holds the job's lease, and goes on with the answer of /status. ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'unknown' end
if state ~= 'SUBMITTING' or redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then return 'refused' end
if not redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[5], 'NX') then
  redis.call('SREM', KEYS[2], ARGV[3])
  return 'taken'
end
redis.call('HSET', KEYS[1], 'state', 'IN_QUEUE', 'job_id', ARGV[3], 'submitted_at', ARGV[4], 'checks', '0', 'reason', '')
redis.call('DEL', KEYS[2])
return 'adopted'
