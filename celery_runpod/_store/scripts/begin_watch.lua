--[[ begin_watch: somebody begins to watch a job: it is looked at now.
  KEYS  look(endpoint); next_check_at(endpoint)
  ARGV  task_id; now (s); overdue (s)
  Returns "publish" (a check must be published) | "planned" (one is queued and has not begun) | "elsewhere" (the job is
        not at RunPod: nothing is to be seen)
  A check that holds the job's lease finds its score moved, and leaves the time alone. ]]
if not redis.call('ZSCORE', look, task_id) then return 'elsewhere' end
redis.call('ZADD', look, 'XX', 'LT', now, task_id)
return plan(next_check_at, now, now, 0, '', overdue) and 'publish' or 'planned'
