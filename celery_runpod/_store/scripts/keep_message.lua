--[[ keep_message: a call was published, and no worker has accepted it yet.
  KEYS  outbox(); messages = outbox_messages(); places = outbox_places(); lanes = outbox_lanes()
  ARGV  task_id; published_at (s); entry (in the order of its lane); text (JSON)
  Returns "kept" ]]
local before = redis.call('HGET', places, task_id)
if before then redis.call('ZREM', lanes, before) end
redis.call('HSET', messages, task_id, text)
redis.call('HSET', places, task_id, entry)
redis.call('ZADD', lanes, 0, entry)
redis.call('ZADD', outbox, published_at, task_id)
return 'kept'
