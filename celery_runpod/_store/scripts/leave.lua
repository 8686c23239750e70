--[[ leave: a call waits no longer for a shared job; when the last one leaves, that job is cancelled.
  KEYS  job(endpoint, shared_id); due(endpoint); look(endpoint); undelivered(endpoint); inflight(endpoint); cancels(endpoint);
        cancel_keys(endpoint); waiting(endpoint); input_bytes(endpoint); waiters(endpoint, shared_id)
  ARGV  shared_id; task_id; outcome (of a cancel, JSON); now (s); deliver_again_at (s)
  Returns "left" | "last" (the shared job is CANCELLED now) | "ended" (it has its verdict already)
  Repeating it changes nothing. ]]
redis.call('SREM', waiters, task_id)
local state = redis.call('HGET', job, 'state')
if not state or not may(state, 'CANCELLED') then return 'ended' end
if redis.call('SCARD', waiters) > 0 then return 'left' end
end_cancelled(job, shared_id, outcome, now, deliver_again_at,
  {due = due, look = look, undelivered = undelivered, inflight = inflight, waiting = waiting, input_bytes = input_bytes,
    cancels = cancels, cancel_keys = cancel_keys})
return 'last'
