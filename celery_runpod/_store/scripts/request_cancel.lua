--[[ request_cancel: the one moment in which a cancel is decided.
  KEYS  job(endpoint, task_id); due(endpoint); undelivered(endpoint); inflight(endpoint); cancels(endpoint);
        cancel_keys(endpoint); waiting(endpoint); input_bytes(endpoint)
  ARGV  task_id; outcome (JSON); now (s); deliver_again_at (s)
  Returns "cancelled" (the verdict is CANCELLED, and later ones are dropped) | "ended" (a verdict was there) | "unknown"
  What RunPod works on is put among the cancels; a submit still on its way is cancelled when its answer comes. ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
if not may(state, 'CANCELLED') then return 'ended' end
redis.call('HSET', job, 'state', 'CANCELLED', 'outcome', outcome, 'ended_at', now)
drop_input(job, input_bytes)
redis.call('HDEL', job, 'progress')
redis.call('ZREM', due, task_id)
redis.call('ZADD', undelivered, deliver_again_at, task_id)
redis.call('SREM', inflight, task_id)
redis.call('ZREM', waiting, task_id)
local job_id = redis.call('HGET', job, 'job_id')
if job_id and job_id ~= '' then
  redis.call('ZADD', cancels, now, job_id)
  redis.call('HSET', cancel_keys, job_id, redis.call('HGET', job, 'api_key_name') or '')
end
return 'cancelled'
