--[[ cancel_failed: RunPod has not accepted a cancel; plan the next try, or give it up.
  KEYS  cancels(endpoint); cancel_keys(endpoint); cancel_refusals(endpoint)
  ARGV  job_id (RunPod's); why; now (s); base (s); cap (s); most (s: for so long it is tried);
        gone (what RunPod does not know: "JobNotFound" or "EndpointNotFound"; "": it has not said so);
        gone_most (s: where RunPod goes on saying so, it is tried for so long)
  Returns {"later" | "given_up", tries, since (s)} | {"unknown"} (no such cancel)
  The wait doubles with each failure. ]]
if not redis.call('ZSCORE', cancels, job_id) then return {'unknown'} end
local known = redis.call('HGET', cancel_refusals, job_id)
local failure = known and cjson.decode(known) or {since = now, tries = 0}
failure.tries = failure.tries + 1
failure.why = why
local tries = string.format('%d', failure.tries)
-- One 404 may come from a replica that lags, also after other trouble.
if gone ~= (failure.gone or '') then failure.gone_since = gone ~= '' and now or nil end
failure.gone = gone
local since = failure.gone_since
if now - failure.since >= tonumber(most) or (since and now - since >= tonumber(gone_most)) then
  redis.call('ZREM', cancels, job_id)
  redis.call('HDEL', cancel_keys, job_id)
  redis.call('HDEL', cancel_refusals, job_id)
  return {'given_up', tries, failure.since}
end
redis.call('HSET', cancel_refusals, job_id, cjson.encode(failure))
local wait = pause_wait(failure.tries, '', base, cap, 0)
redis.call('ZADD', cancels, string.format('%.3f', tonumber(now) + wait), job_id)
return {'later', tries, failure.since}
