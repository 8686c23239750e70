--[[ lease_cancels: which RunPod jobs to cancel now.
  KEYS  cancels(endpoint); cancel_keys(endpoint)
  ARGV  now (s); again_at (s); batch
  Returns {RunPod job id, api_key_name, RunPod job id, api_key_name ...} ]]
local answer = {}
for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', cancels, '-inf', now, 'LIMIT', 0, batch)) do
  redis.call('ZADD', cancels, again_at, job_id)
  answer[#answer + 1] = job_id
  answer[#answer + 1] = redis.call('HGET', cancel_keys, job_id) or ''
end
return answer
