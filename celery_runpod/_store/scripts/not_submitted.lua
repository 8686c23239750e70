--[[ not_submitted: RunPod certainly has nothing of this attempt; the job waits for the next one.
  KEYS  job hash; due zset; inflight set
  ARGV  task_id  attempt  due (s)  reason
  Returns "waiting" | "refused" (another attempt, or it has ended) | "unknown" ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'unknown' end
-- Not `may`: a FAILED attempt may wait for its next one too, but only by retry_later.
if state ~= 'SUBMITTING' or redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then return 'refused' end
redis.call('HSET', KEYS[1], 'state', 'WAITING', 'reason', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
return 'waiting'
