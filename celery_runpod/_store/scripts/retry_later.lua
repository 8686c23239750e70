--[[ retry_later: an attempt failed at RunPod, and the call allows another one: the job waits for it.
  KEYS  job hash; due zset; inflight set
  ARGV  task_id  attempt  verdict (FAILED or TIMED_OUT)  retries  due (s)  start_by (s, "" = none)  job_id
  Returns "waiting" | "spent" (every retry was used) | "refused" (another attempt or job, or no such move) | "unknown"
  A repeat, or a second report of the same verdict, is refused: the job is WAITING, or has a new attempt. ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'unknown' end
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then return 'refused' end
if not may(state, ARGV[3]) or not may(ARGV[3], 'WAITING') then return 'refused' end
local known_id = redis.call('HGET', KEYS[1], 'job_id') or ''
if known_id ~= '' and known_id ~= ARGV[7] then return 'refused' end
if tonumber(redis.call('HGET', KEYS[1], 'retried') or '0') >= tonumber(ARGV[4]) then return 'spent' end
redis.call('HINCRBY', KEYS[1], 'retried', 1)
redis.call('HSET', KEYS[1], 'state', 'WAITING', 'reason', 'RETRY', 'start_by', ARGV[6])
redis.call('HDEL', KEYS[1], 'job_id', 'progress', 'submitted_at')
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
return 'waiting'
