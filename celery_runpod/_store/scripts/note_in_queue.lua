--[[ note_in_queue: these calls' messages are in their queue now.
  KEYS  outbox zset; waiting zset (score: last seen in its queue at, s)
  ARGV  now (s)  task_id ...
  Returns "noted"
  One that was accepted meanwhile is left out: nobody would ever forget it. ]]
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then redis.call('ZADD', KEYS[2], ARGV[1], ARGV[i]) end
end
return 'noted'
