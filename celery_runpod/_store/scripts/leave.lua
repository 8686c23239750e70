--[[ leave: a call waits no longer for a shared job; when the last one leaves, that job is cancelled.
  KEYS  job hash of the shared job; due; undelivered; inflight; cancels; cancel_keys; waiting;
        input_bytes; its waiters set
  ARGV  shared_id  task_id  outcome of a cancel (JSON)  now (s)  deliver_again_at (s)
  Returns "left" | "last" (the shared job is CANCELLED now) | "ended" (it has its verdict already)
  Repeating it changes nothing. ]]
redis.call('SREM', KEYS[9], ARGV[2])
local state = redis.call('HGET', KEYS[1], 'state')
if not state or not may(state, 'CANCELLED') then return 'ended' end
if redis.call('SCARD', KEYS[9]) > 0 then return 'left' end
redis.call('HSET', KEYS[1], 'state', 'CANCELLED', 'outcome', ARGV[3], 'ended_at', ARGV[4])
drop_input(KEYS[1], KEYS[8])
redis.call('HDEL', KEYS[1], 'progress')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[7], ARGV[1])
local job_id = redis.call('HGET', KEYS[1], 'job_id')
if job_id and job_id ~= '' then
  redis.call('ZADD', KEYS[5], ARGV[4], job_id)
  redis.call('HSET', KEYS[6], job_id, redis.call('HGET', KEYS[1], 'api_key_name') or '')
end
return 'last'
