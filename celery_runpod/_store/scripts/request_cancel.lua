--[[ request_cancel: the one moment in which a cancel is decided.
  KEYS  job hash; due zset; undelivered zset; inflight set; cancels zset; cancel_keys hash; waiting zset;
        input_bytes
  ARGV  task_id  outcome (JSON)  now (s)  deliver_again_at (s)
  Returns "cancelled" (the verdict is CANCELLED, and later ones are dropped) | "ended" (a verdict was there) | "unknown"
  What RunPod works on is put among the cancels; a submit still on its way is cancelled when its answer comes. ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'unknown' end
if not may(state, 'CANCELLED') then return 'ended' end
redis.call('HSET', KEYS[1], 'state', 'CANCELLED', 'outcome', ARGV[2], 'ended_at', ARGV[3])
drop_input(KEYS[1], KEYS[8])
redis.call('HDEL', KEYS[1], 'progress')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[7], ARGV[1])
local job_id = redis.call('HGET', KEYS[1], 'job_id')
if job_id and job_id ~= '' then
  redis.call('ZADD', KEYS[5], ARGV[3], job_id)
  redis.call('HSET', KEYS[6], job_id, redis.call('HGET', KEYS[1], 'api_key_name') or '')
end
return 'cancelled'
