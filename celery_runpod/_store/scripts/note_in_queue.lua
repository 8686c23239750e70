--[[ note_in_queue: these calls' messages are in their queue now.
  KEYS  outbox(); seen = outbox_waiting()
  ARGV  now (s); task_ids ...
  Returns "noted"
  One that was accepted meanwhile is left out: nobody would ever forget it. ]]
for _, task_id in ipairs(task_ids) do
  if redis.call('ZSCORE', outbox, task_id) then redis.call('ZADD', seen, now, task_id) end
end
return 'noted'
