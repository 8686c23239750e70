--[[ drop_record: an operator gives up a record that no worker can read.
  KEYS  job(endpoint, task_id); due(endpoint); undelivered(endpoint); aside(endpoint); waiting(endpoint);
        inflight(endpoint); cancels(endpoint); cancel_keys(endpoint); input_bytes(endpoint)
  ARGV  task_id; now (s)
  Returns "dropped" | "gone" (it is not put aside any more)
  What RunPod may be doing for it becomes a cancel that the checks send. ]]
if redis.call('ZREM', aside, task_id) == 0 then return 'gone' end
local job_id = redis.call('HGET', job, 'job_id')
if job_id and job_id ~= '' then
  redis.call('ZADD', cancels, now, job_id)
  redis.call('HSET', cancel_keys, job_id, redis.call('HGET', job, 'api_key_name') or '')
end
drop_input(job, input_bytes)
redis.call('DEL', job)
redis.call('ZREM', due, task_id)
redis.call('ZREM', undelivered, task_id)
redis.call('ZREM', waiting, task_id)
redis.call('SREM', inflight, task_id)
return 'dropped'
