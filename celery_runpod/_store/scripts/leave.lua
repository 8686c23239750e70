--[[ leave: a call waits no longer for a shared job; when the last one leaves, that job is cancelled.
  KEYS  job(endpoint, shared_id); due(endpoint); undelivered(endpoint); inflight(endpoint); cancels(endpoint);
        cancel_keys(endpoint); waiting(endpoint); input_bytes(endpoint); waiters(endpoint, shared_id)
  ARGV  shared_id; task_id; outcome (of a cancel, JSON); now (s); deliver_again_at (s)
  Returns "left" | "last" (the shared job is CANCELLED now) | "ended" (it has its verdict already)
  Repeating it changes nothing. ]]
redis.call('SREM', waiters, task_id)
local state = redis.call('HGET', job, 'state')
if not state or not may(state, 'CANCELLED') then return 'ended' end
if redis.call('SCARD', waiters) > 0 then return 'left' end
redis.call('HSET', job, 'state', 'CANCELLED', 'outcome', outcome, 'ended_at', now)
drop_input(job, input_bytes)
redis.call('HDEL', job, 'progress')
redis.call('ZREM', due, shared_id)
redis.call('ZADD', undelivered, deliver_again_at, shared_id)
redis.call('SREM', inflight, shared_id)
redis.call('ZREM', waiting, shared_id)
local job_id = redis.call('HGET', job, 'job_id')
if job_id and job_id ~= '' then
  redis.call('ZADD', cancels, now, job_id)
  redis.call('HSET', cancel_keys, job_id, redis.call('HGET', job, 'api_key_name') or '')
end
return 'last'
