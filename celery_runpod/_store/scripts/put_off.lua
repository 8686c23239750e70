--[[ put_off: a check gives an open job back without news of it, due again at another time.
  KEYS  job(endpoint, task_id); due(endpoint)
  ARGV  task_id; attempt; lease (the score set by lease_due); due_at (s);
        failures (how often in a row the work on it raised);
        waits_since (s: since when its look waits for the budget, "" = it does not)
  Returns "put_off" | "lost" (lease lapsed, or someone moved the due time) | "refused" (another attempt, or it has ended)
        | "unknown" ]]
local refusal = not_leased(job, due, task_id, attempt, lease)
if refusal then return refusal end
redis.call('HSET', job, 'failures', failures)
if waits_since ~= '' then redis.call('HSET', job, 'waits_since', waits_since) end
redis.call('ZADD', due, due_at, task_id)
return 'put_off'
