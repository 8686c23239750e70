--[[ drop_message: a call needs no copy any more: a worker has accepted it, or it has ended.
  KEYS  outbox(); messages = outbox_messages(); places = outbox_places(); lanes = outbox_lanes(); held = outbox_held()
  ARGV  task_id
  Returns "dropped" | "gone" ]]
local entry = redis.call('HGET', places, task_id)
if entry then
  redis.call('ZREM', lanes, entry)
  redis.call('HDEL', places, task_id)
end
redis.call('HDEL', messages, task_id)
redis.call('ZREM', held, task_id)
return redis.call('ZREM', outbox, task_id) == 1 and 'dropped' or 'gone'
