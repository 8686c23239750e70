--[[ lease_cancels: which RunPod jobs to cancel now.
  KEYS  cancels zset (score: POST /cancel again at, s); cancel_keys hash
  ARGV  now (s)  again_at (s)  batch
  Returns {RunPod job id, api_key_name, RunPod job id, api_key_name ...} ]]
local answer = {}
for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  redis.call('ZADD', KEYS[1], ARGV[2], job_id)
  answer[#answer + 1] = job_id
  answer[#answer + 1] = redis.call('HGET', KEYS[2], job_id) or ''
end
return answer
