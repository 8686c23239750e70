--[[ keep_message: a call was published, and no worker has accepted it yet.
  KEYS  index = task(task_id); outbox(); messages = outbox_messages(); places = outbox_places(); lanes = outbox_lanes()
  ARGV  task_id; published_at (s); entry (in the order of its lane); text (JSON)
  Returns "kept" | "accepted" (a worker has it: nothing is written)
  A worker writes the index before it drops the copy, so none is left over. ]]
local known = redis.call('GET', index)
if known and cjson.decode(known).endpoint ~= cjson.null then return 'accepted' end
local before = redis.call('HGET', places, task_id)
if before then redis.call('ZREM', lanes, before) end
redis.call('HSET', messages, task_id, text)
redis.call('HSET', places, task_id, entry)
redis.call('ZADD', lanes, 0, entry)
redis.call('ZADD', outbox, published_at, task_id)
return 'kept'
