--[[ note_held: workers hold these calls' messages now.
  KEYS  outbox(); held = outbox_held()
  ARGV  now (s); task_ids ...
  Returns "noted"
  One that was accepted meanwhile is left out: nobody would ever forget it. ]]
for _, task_id in ipairs(task_ids) do
  if redis.call('ZSCORE', outbox, task_id) then redis.call('ZADD', held, now, task_id) end
end
return 'noted'
