--[[ mark_delivered: finish ran to its end; a tombstone makes every repeat harmless.
  KEYS  job hash; undelivered zset; due zset
  ARGV  task_id  now (s)  tombstone_ttl (s, whole)  format  then what else to keep: field, value, field, value ...
  Returns "delivered" | "already" | "refused" (no verdict yet) | "unknown"
  Repeating it changes nothing. ]]
local state = redis.call('HGET', KEYS[1], 'state')
redis.call('ZREM', KEYS[2], ARGV[1])
if not state then return 'unknown' end
if state == 'DELIVERED' then return 'already' end
if not may(state, 'DELIVERED') then return 'refused' end
local kept = {'format', ARGV[4], 'state', 'DELIVERED', 'verdict', state, 'ended_at', ARGV[2]}
for i = 5, #ARGV do kept[#kept + 1] = ARGV[i] end
for _, name in ipairs({'attempt', 'job_id', 'name', 'checks'}) do
  local value = redis.call('HGET', KEYS[1], name)
  if value then
    kept[#kept + 1] = name
    kept[#kept + 1] = value
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(kept))
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('ZREM', KEYS[3], ARGV[1])
return 'delivered'
