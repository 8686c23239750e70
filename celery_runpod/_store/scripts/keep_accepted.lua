--[[ keep_accepted: a worker has accepted a call, whose copy is kept until its record was seen once more.
  KEYS  outbox(); places = outbox_places(); lanes = outbox_lanes(); held = outbox_held(); accepted = outbox_accepted()
  ARGV  task_id; now (s)
  Returns "kept" | "gone" (there is no copy) ]]
local entry = redis.call('HGET', places, task_id)
if not entry then return 'gone' end
redis.call('ZREM', lanes, entry)
redis.call('ZREM', held, task_id)
redis.call('ZREM', outbox, task_id)
redis.call('ZADD', accepted, now, task_id)
return 'kept'
