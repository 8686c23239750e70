--[[ observe: note RunPod's latest answer about an open job, and when to look again.
  KEYS  job hash; due zset
  ARGV  task_id  attempt  lease (the score set by lease_due)  state ("" = nothing new)  due (s)  checks
        progress (JSON, "" = none)  reason  now (s)  missing_since (s: since when RunPod answers 404, "" = it does not)
  Returns "changed" (state, progress or reason) | "same" | "lost" (lease lapsed, or someone moved the due time)
        | "refused" (another attempt, or it has ended) | "unknown"
  Within an attempt a state never goes back: RunPod may put a job into its queue again, its cost is the same. ]]
local refusal = not_leased(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
local answer = 'same'
if ARGV[4] ~= '' and may(redis.call('HGET', KEYS[1], 'state'), ARGV[4]) then
  redis.call('HSET', KEYS[1], 'state', ARGV[4])
  answer = 'changed'
end
if ARGV[7] ~= '' and redis.call('HGET', KEYS[1], 'progress') ~= ARGV[7] then
  redis.call('HSET', KEYS[1], 'progress', ARGV[7])
  answer = 'changed'
end
if (redis.call('HGET', KEYS[1], 'reason') or '') ~= ARGV[8] then
  redis.call('HSET', KEYS[1], 'reason', ARGV[8])
  answer = 'changed'
end
redis.call('HSET', KEYS[1], 'checks', ARGV[6], 'seen_at', ARGV[9])
redis.call('HDEL', KEYS[1], 'missing_since', 'failures', 'waits_since')
if ARGV[10] ~= '' then redis.call('HSET', KEYS[1], 'missing_since', ARGV[10]) end
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
return answer
