--[[ request_cancel: the one moment in which a cancel is decided.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); undelivered(endpoint); inflight(endpoint); cancels(endpoint);
        cancel_keys(endpoint); waiting(endpoint); input_bytes(endpoint)
  ARGV  task_id; outcome (JSON); now (s); deliver_again_at (s)
  Returns "cancelled" (the verdict is CANCELLED, and later ones are dropped) | "ended" (a verdict was there) | "unknown"
  What RunPod works on is put among the cancels; a submit still on its way is cancelled when its answer comes. ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
if not may(state, 'CANCELLED') then return 'ended' end
end_cancelled(job, task_id, outcome, now, deliver_again_at,
  {due = due, look = look, undelivered = undelivered, inflight = inflight, waiting = waiting, input_bytes = input_bytes,
    cancels = cancels, cancel_keys = cancel_keys})
return 'cancelled'
