--[[ mark_delivered: finish ran to its end; a tombstone makes every repeat harmless.
  KEYS  job(endpoint, task_id); undelivered(endpoint); due(endpoint); failed(endpoint, task_id); input_bytes(endpoint)
  ARGV  task_id; now (s); tombstone_ttl (s, whole); format; keep_failed (s, whole; 0 = not at all);
        more ... (what else to keep: field, value, field, value)
  Returns "delivered" | "already" | "refused" (no verdict yet) | "unknown"
  Repeating it changes nothing. Of a job that failed, what a retry by hand needs is kept for keep_failed seconds. ]]
local state = redis.call('HGET', job, 'state')
redis.call('ZREM', undelivered, task_id)
if not state then return 'unknown' end
if state == 'DELIVERED' then return 'already' end
if not may(state, 'DELIVERED') then return 'refused' end
local kept = {'format', format, 'state', 'DELIVERED', 'verdict', state, 'ended_at', now}
for _, part in ipairs(more) do kept[#kept + 1] = part end
for _, name in ipairs({'attempt', 'job_id', 'name', 'checks'}) do
  local value = redis.call('HGET', job, name)
  if value then
    kept[#kept + 1] = name
    kept[#kept + 1] = value
  end
end
if tonumber(keep_failed) > 0 and state ~= 'COMPLETED' and state ~= 'CANCELLED'
  and redis.call('HEXISTS', job, 'input') == 1 then
  redis.call('DEL', failed)
  for _, name in ipairs({'format', 'name', 'root_id', 'continuation', 'options', 'input', 'api_key_name',
    'ignore_result', 'generation'}) do
    local value = redis.call('HGET', job, name)
    if value then redis.call('HSET', failed, name, value) end
  end
  redis.call('EXPIRE', failed, keep_failed)
end
drop_input(job, input_bytes)
redis.call('DEL', job)
redis.call('HSET', job, unpack(kept))
redis.call('EXPIRE', job, tombstone_ttl)
redis.call('ZREM', due, task_id)
return 'delivered'
