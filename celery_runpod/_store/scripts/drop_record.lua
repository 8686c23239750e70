--[[ drop_record: an operator gives up a record that no worker can read.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); undelivered(endpoint); aside(endpoint); waiting(endpoint);
        inflight(endpoint); cancels(endpoint); cancel_keys(endpoint); input_bytes(endpoint)
  ARGV  task_id; now (s)
  Returns "dropped" | "gone" (it is not put aside any more)
  What RunPod may be doing for it becomes a cancel that the checks send. ]]
if redis.call('ZREM', aside, task_id) == 0 then return 'gone' end
cancel_at_runpod(job, cancels, cancel_keys, now)
drop_input(job, input_bytes)
redis.call('DEL', job)
redis.call('ZREM', undelivered, task_id)
leave_orders(task_id, due, look, waiting, inflight)
return 'dropped'
