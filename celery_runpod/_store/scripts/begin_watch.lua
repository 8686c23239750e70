--[[ begin_watch: somebody begins to watch a job: it is to be looked at soon, however far away its next look is.
  KEYS  look(endpoint); next_check_at(endpoint)
  ARGV  task_id; now (s); due_at (s: it counts as due since then)
  Returns "due" | "elsewhere" (the job is not at RunPod: nothing is to be seen)
  A check that is planned for later counts for nothing now. One that holds the job's lease finds its score moved, and leaves
  the time alone. ]]
if not redis.call('ZSCORE', look, task_id) then return 'elsewhere' end
redis.call('ZADD', look, 'XX', 'LT', due_at, task_id)
local planned = redis.call('HGET', next_check_at, 'at')
if planned and tonumber(planned) > tonumber(now) then redis.call('HDEL', next_check_at, 'at', 'lost') end
return 'due'
