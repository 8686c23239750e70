--[[ put_off: a check gives an open job back without news of it, to be worked on at another time.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint)
  ARGV  task_id; attempt; lease (the score set by lease_due); at (s); decide_at (s);
        failures (how often in a row the work on it raised)
  Returns "put_off" | "lost" (lease lapsed, or someone moved the time) | "refused" (another attempt, or it has ended)
        | "unknown" ]]
local refusal = not_leased(job, due, look, task_id, attempt, lease)
if refusal then return refusal end
redis.call('HSET', job, 'failures', failures)
plan_job(redis.call('HGET', job, 'state'), due, look, task_id, at, decide_at)
return 'put_off'
