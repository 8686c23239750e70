--[[ not_submitted: RunPod certainly has nothing of this attempt, or (RESUBMIT) that is not known and is not to matter; the job
  waits for the next one.
  KEYS  job(endpoint, task_id); due(endpoint); inflight(endpoint)
  ARGV  task_id; attempt; due_at (s); reason; read_hint ("1": the caller knows of the webhook that names the attempt's job)
  Returns "waiting" | "refused" (another attempt, or it has ended; for RESUBMIT: a webhook has named its job) | "unknown" ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
-- Not `may`: a FAILED attempt may wait for its next one too, but only by retry_later.
if state ~= 'SUBMITTING' or redis.call('HGET', job, 'attempt') ~= attempt then return 'refused' end
if reason == 'RESUBMIT' and read_hint ~= '1' and redis.call('HEXISTS', job, 'hinted_at') == 1 then return 'refused' end
redis.call('HSET', job, 'state', 'WAITING', 'reason', reason)
redis.call('ZADD', due, due_at, task_id)
redis.call('ZREM', inflight, task_id)
return 'waiting'
