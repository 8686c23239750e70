--[[ show_state: write an open state over a Celery result that has not ended.
  KEYS  result = celery_result(result_key)
  ARGV  meta (encoded by the result backend); expires (s, whole)
  Returns "written" | "ended"
  It runs in the result backend, which may be another Redis. Celery's own check is a race, and does not protect a FAILURE. ]]
local found = redis.call('GET', result)
if found then
  local ok, known = pcall(cjson.decode, found)
  if not ok then return 'ended' end
  if known['status'] == 'SUCCESS' or known['status'] == 'FAILURE' or known['status'] == 'REVOKED' then return 'ended' end
end
redis.call('SETEX', result, expires, meta)
redis.call('PUBLISH', result, meta)
return 'written'
