--[[ claim_finish: one copy of finish delivers at a time.
  KEYS  job(endpoint, task_id); undelivered(endpoint)
  ARGV  task_id; attempt; token (of this copy); now (s); lease_until (s)
  Returns {"yours", how often it was claimed, field, value, field, value ... of the record} | {"held"} | {"delivered"} | {"refused"} (no verdict, or another attempt)
        | {"unknown"}
  The lease is longer than Celery's own chord claim, so a repeat never finds a dead claim that still blocks it. ]]
local state = redis.call('HGET', job, 'state')
if not state then
  redis.call('ZREM', undelivered, task_id)
  return {'unknown'}
end
if state == 'DELIVERED' then
  redis.call('ZREM', undelivered, task_id)
  return {'delivered'}
end
if not is_outcome(state) or redis.call('HGET', job, 'attempt') ~= attempt then return {'refused'} end
local holder = redis.call('HGET', job, 'claim')
local held_until = redis.call('HGET', job, 'claim_until')
if holder and holder ~= token and held_until and tonumber(held_until) > tonumber(now) then return {'held'} end
redis.call('HSET', job, 'claim', token, 'claim_until', lease_until)
local claims = redis.call('HINCRBY', job, 'claims', 1)
redis.call('ZADD', undelivered, lease_until, task_id)
local found = redis.call('HGETALL', job)
local answer = {'yours', tostring(claims)}
for _, part in ipairs(found) do answer[#answer + 1] = part end
return answer
