-- What RunPod may be doing for a job becomes a cancel that the checks send; nothing, where RunPod has named no job.
local function cancel_at_runpod(job, cancels, cancel_keys, now)
  local job_id = redis.call('HGET', job, 'job_id')
  if not job_id or job_id == '' then return end
  redis.call('ZADD', cancels, now, job_id)
  redis.call('HSET', cancel_keys, job_id, redis.call('HGET', job, 'api_key_name') or '')
end
-- A job that may become CANCELLED is that now. It leaves the orders of its endpoint, and waits for its delivery.
local function end_cancelled(job, task_id, outcome, now, deliver_again_at, keys)
  redis.call('HSET', job, 'state', 'CANCELLED', 'outcome', outcome, 'ended_at', now)
  drop_input(job, keys.input_bytes)
  redis.call('HDEL', job, 'progress')
  redis.call('ZADD', keys.undelivered, deliver_again_at, task_id)
  leave_orders(task_id, keys.due, keys.look, keys.waiting, keys.inflight)
  cancel_at_runpod(job, keys.cancels, keys.cancel_keys, now)
end
