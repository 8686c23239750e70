--[[ cancel_failed: RunPod has not taken a cancel; when it is tried again, or that it is not.
  KEYS  cancels zset; cancel_keys hash; cancel_refusals hash (RunPod job id -> JSON: since, tries, why)
  ARGV  RunPod job id  why  now (s)  base (s)  cap (s)  most (s: for so long it is tried)
  Returns {"later" | "given_up", tries, since (s)} | {"unknown"} (it is owed no more)
  The wait doubles with each failure. ]]
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {'unknown'} end
local known = redis.call('HGET', KEYS[3], ARGV[1])
local debt = known and cjson.decode(known) or {since = ARGV[3], tries = 0}
debt.tries = debt.tries + 1
debt.why = ARGV[2]
local tries = string.format('%d', debt.tries)
if tonumber(ARGV[3]) - tonumber(debt.since) >= tonumber(ARGV[6]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
  return {'given_up', tries, debt.since}
end
redis.call('HSET', KEYS[3], ARGV[1], cjson.encode(debt))
local wait = pause_wait(debt.tries, '', ARGV[4], ARGV[5], 0)
redis.call('ZADD', KEYS[1], string.format('%.3f', tonumber(ARGV[3]) + wait), ARGV[1])
return {'later', tries, debt.since}
