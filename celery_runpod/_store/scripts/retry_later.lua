--[[ retry_later: an attempt failed at RunPod, and the call allows another one: the job waits for it.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); inflight(endpoint)
  ARGV  task_id; attempt; verdict (FAILED or TIMED_OUT); retries; due_at (s); start_by (s, "" = none);
        given_id (RunPod's)
  Returns "waiting" | "spent" (every retry was used) | "refused" (another attempt or job, or no such move) | "unknown"
  A repeat, or a second report of the same verdict, is refused: the job is WAITING, or has a new attempt. ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
if redis.call('HGET', job, 'attempt') ~= attempt then return 'refused' end
if not may(state, verdict) or not may(verdict, 'WAITING') then return 'refused' end
local known_id = redis.call('HGET', job, 'job_id') or ''
if known_id ~= '' and known_id ~= given_id then return 'refused' end
if tonumber(redis.call('HGET', job, 'retried') or '0') >= tonumber(retries) then return 'spent' end
redis.call('HINCRBY', job, 'retried', 1)
redis.call('HSET', job, 'state', 'WAITING', 'reason', 'RETRY', 'start_by', start_by)
redis.call('HDEL', job, 'job_id', 'progress', 'submitted_at')
redis.call('ZADD', due, due_at, task_id)
redis.call('ZREM', look, task_id)
redis.call('ZREM', inflight, task_id)
return 'waiting'
