--[[ put_off: a check gives an open job back without news of it, due again at another time.
  KEYS  job hash; due zset
  ARGV  task_id  attempt  lease (the score set by lease_due)  due (s)  failures (how often in a row the work on it raised)
        waits_since (s: since when its look waits for the budget, "" = it does not)
  Returns "put_off" | "lost" (lease lapsed, or someone moved the due time) | "refused" (another attempt, or it has ended)
        | "unknown" ]]
local refusal = not_leased(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
if refusal then return refusal end
redis.call('HSET', KEYS[1], 'failures', ARGV[5])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'waits_since', ARGV[6]) end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
return 'put_off'
