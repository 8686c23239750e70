--[[ record_outcome: a verdict on an attempt, RunPod's or ours. From here only delivery follows.
  KEYS  job hash; due zset; undelivered zset; inflight set; cancels zset; cancel_keys hash; waiting zset;
        input_bytes; by_job_id (index: task id of this RunPod id)
  ARGV  task_id  attempt  state  outcome (JSON)  now (s)  deliver_again_at (s)  job_id ("" = as recorded)
        "1" if the RunPod job must be cancelled  api_key_name  index_ttl (s, whole)
  Returns "recorded" | "already" (it had a verdict) | "refused" (another attempt, or no such move) | "unknown"
  Repeating it changes nothing. ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'unknown' end
if is_outcome(state) or state == 'DELIVERED' then return 'already' end
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] or not may(state, ARGV[3]) then return 'refused' end
local known_id = redis.call('HGET', KEYS[1], 'job_id') or ''
if ARGV[7] ~= '' and known_id ~= '' and known_id ~= ARGV[7] then return 'refused' end
if ARGV[7] ~= '' then
  known_id = ARGV[7]
  -- NX: the calls that share a job end with its id, which stays that job's own.
  redis.call('SET', KEYS[9], ARGV[1], 'EX', ARGV[10], 'NX')
end
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'outcome', ARGV[4], 'ended_at', ARGV[5], 'job_id', known_id)
redis.call('HDEL', KEYS[1], 'progress')
-- What failed may be run again by hand: its input stays until mark_delivered.
if ARGV[3] == 'COMPLETED' or ARGV[3] == 'CANCELLED' then drop_input(KEYS[1], KEYS[8]) end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[6], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[7], ARGV[1])
if ARGV[8] == '1' and known_id ~= '' then
  redis.call('ZADD', KEYS[5], ARGV[5], known_id)
  redis.call('HSET', KEYS[6], known_id, ARGV[9])
end
return 'recorded'
