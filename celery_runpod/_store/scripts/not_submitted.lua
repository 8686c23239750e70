--[[ not_submitted: RunPod certainly has nothing of this attempt, or (RESUBMIT) that is not known and is not to matter; the job
  waits for the next one.
  KEYS  job(endpoint, task_id); due(endpoint); inflight(endpoint); candidates(endpoint, task_id, attempt)
  ARGV  task_id; attempt; due_at (s); reason
  Returns "waiting" | "refused" (another attempt, or it has ended; for RESUBMIT: a webhook has named a job) | "unknown" ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
-- Not `may`: a FAILED attempt may wait for its next one too, but only by retry_later.
if state ~= 'SUBMITTING' or redis.call('HGET', job, 'attempt') ~= attempt then return 'refused' end
if reason == 'RESUBMIT' and redis.call('EXISTS', candidates) == 1 then return 'refused' end
redis.call('HSET', job, 'state', 'WAITING', 'reason', reason)
redis.call('ZADD', due, due_at, task_id)
redis.call('ZREM', inflight, task_id)
return 'waiting'
