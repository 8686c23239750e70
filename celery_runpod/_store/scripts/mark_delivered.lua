--[[ mark_delivered: finish ran to its end; a tombstone makes every repeat harmless.
  KEYS  job hash; undelivered zset; due zset; failed hash; input_bytes
  ARGV  task_id  now (s)  tombstone_ttl (s, whole)  format  keep_failed (s, whole; 0 = not at all)
        then what else to keep: field, value, field, value ...
  Returns "delivered" | "already" | "refused" (no verdict yet) | "unknown"
  Repeating it changes nothing. Of a job that failed, what a retry by hand needs is kept for keep_failed seconds. ]]
local state = redis.call('HGET', KEYS[1], 'state')
redis.call('ZREM', KEYS[2], ARGV[1])
if not state then return 'unknown' end
if state == 'DELIVERED' then return 'already' end
if not may(state, 'DELIVERED') then return 'refused' end
local kept = {'format', ARGV[4], 'state', 'DELIVERED', 'verdict', state, 'ended_at', ARGV[2]}
for i = 6, #ARGV do kept[#kept + 1] = ARGV[i] end
for _, name in ipairs({'attempt', 'job_id', 'name', 'checks'}) do
  local value = redis.call('HGET', KEYS[1], name)
  if value then
    kept[#kept + 1] = name
    kept[#kept + 1] = value
  end
end
if tonumber(ARGV[5]) > 0 and state ~= 'COMPLETED' and state ~= 'CANCELLED'
  and redis.call('HEXISTS', KEYS[1], 'input') == 1 then
  redis.call('DEL', KEYS[4])
  for _, name in ipairs({'format', 'name', 'root_id', 'continuation', 'options', 'input', 'api_key_name',
    'ignore_result', 'generation'}) do
    local value = redis.call('HGET', KEYS[1], name)
    if value then redis.call('HSET', KEYS[4], name, value) end
  end
  redis.call('EXPIRE', KEYS[4], ARGV[5])
end
drop_input(KEYS[1], KEYS[5])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(kept))
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('ZREM', KEYS[3], ARGV[1])
return 'delivered'
