--[[ claim_submit: one process, and no other, may POST this attempt.
  KEYS  job hash; due zset; inflight set; waiting zset (score: place in the order of calls); room
  ARGV  task_id  token (of the claimant)  window_ends (s: until then an unanswered submit may still be confirmed)
        max_in_flight ("" = no limit)  order (s: when it was called)  look_again (s, if there is no place)
  Returns the number of the attempt, as text | "full" (it waits for a place, in its order) | "refused" (not WAITING)
        | "unknown" (no such job)
  The claim is never renewed: a POST is over, by its own total deadline, long before the window ends.
  Asked again with the same token (its answer was lost), it gives the same number. ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'unknown' end
if state == 'SUBMITTING' and redis.call('HGET', KEYS[1], 'lease') == ARGV[2] then
  return redis.call('HGET', KEYS[1], 'attempt')
end
if not may(state, 'SUBMITTING') then return 'refused' end
if ARGV[4] == '' then
  redis.call('DEL', KEYS[5])
else
  redis.call('SET', KEYS[5], ARGV[4])
  local free = tonumber(ARGV[4]) - redis.call('SCARD', KEYS[3])
  if redis.call('ZCOUNT', KEYS[4], '-inf', '(' .. ARGV[5]) >= free then
    redis.call('ZADD', KEYS[4], ARGV[5], ARGV[1])
    redis.call('HSET', KEYS[1], 'reason', 'MAX_IN_FLIGHT')
    redis.call('ZADD', KEYS[2], ARGV[6], ARGV[1])
    return 'full'
  end
end
redis.call('ZREM', KEYS[4], ARGV[1])
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'SUBMITTING', 'lease', ARGV[2], 'window_ends', ARGV[3], 'reason', '')
redis.call('HDEL', KEYS[1], 'job_id', 'hinted_at', 'hint_due')
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return tostring(attempt)
