--[[ cancel_failed: RunPod has not accepted a cancel; plan the next try, or give it up.
  KEYS  cancels zset; cancel_keys hash; cancel_refusals hash (RunPod job id -> JSON: since, tries, why)
  ARGV  RunPod job id  why  now (s)  base (s)  cap (s)  most (s: for so long it is tried)
  Returns {"later" | "given_up", tries, since (s)} | {"unknown"} (no such cancel)
  The wait doubles with each failure. ]]
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {'unknown'} end
local known = redis.call('HGET', KEYS[3], ARGV[1])
local failure = known and cjson.decode(known) or {since = ARGV[3], tries = 0}
failure.tries = failure.tries + 1
failure.why = ARGV[2]
local tries = string.format('%d', failure.tries)
if tonumber(ARGV[3]) - tonumber(failure.since) >= tonumber(ARGV[6]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
  return {'given_up', tries, failure.since}
end
redis.call('HSET', KEYS[3], ARGV[1], cjson.encode(failure))
local wait = pause_wait(failure.tries, '', ARGV[4], ARGV[5], 0)
redis.call('ZADD', KEYS[1], string.format('%.3f', tonumber(ARGV[3]) + wait), ARGV[1])
return {'later', tries, failure.since}
