--[[ claim_finish: one copy of finish delivers at a time.
  KEYS  job hash; undelivered zset
  ARGV  task_id  attempt  token (of this copy)  now (s)  lease_until (s)
  Returns {"yours", how often it was claimed} | {"held"} | {"delivered"} | {"refused"} (no verdict, or another attempt)
        | {"unknown"}
  The lease is longer than Celery's own chord claim, so a repeat never finds a dead claim that still blocks it. ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {'unknown'}
end
if state == 'DELIVERED' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {'delivered'}
end
if not is_outcome(state) or redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then return {'refused'} end
local holder = redis.call('HGET', KEYS[1], 'claim')
local held_until = redis.call('HGET', KEYS[1], 'claim_until')
if holder and holder ~= ARGV[3] and held_until and tonumber(held_until) > tonumber(ARGV[4]) then return {'held'} end
redis.call('HSET', KEYS[1], 'claim', ARGV[3], 'claim_until', ARGV[5])
local claims = redis.call('HINCRBY', KEYS[1], 'claims', 1)
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
return {'yours', tostring(claims)}
