-- Every open job stands in `due` (when something must be decided on it). A job at RunPod stands in `look` too, if RunPod is
-- asked about it before that.
local function plan_job(state, due, look, task_id, at, decide_at)
  if at_runpod(state) and tonumber(at) < tonumber(decide_at) then
    redis.call('ZADD', look, at, task_id)
    redis.call('ZADD', due, decide_at, task_id)
  else
    redis.call('ZREM', look, task_id)
    redis.call('ZADD', due, at, task_id)
  end
end
-- The look at a job was planned by its place in RunPod's queue, and is made earlier when that moves faster. No such look
-- is planned for later than in 1,500 s, so the key may expire after 1,800.
local function plan_by_place(by_place, task_id)
  redis.call('ZADD', by_place, 0, task_id)
  redis.call('EXPIRE', by_place, 1800)
end
-- A job that has ended, or is given up, leaves the orders of its endpoint, and with them its place at RunPod.
local function leave_orders(task_id, due, look, waiting, inflight)
  for _, order in ipairs({due, look, waiting, inflight}) do redis.call('ZREM', order, task_id) end
end
-- Why a check may not write to a job: "unknown" (no such job), "refused" (another attempt, or the job has ended), "lost"
-- (the lease lapsed, or someone moved the time). nil: it may.
local function not_leased(job, due, look, task_id, attempt, lease)
  local state = redis.call('HGET', job, 'state')
  if not state then
    redis.call('ZREM', due, task_id)
    redis.call('ZREM', look, task_id)
    return 'unknown'
  end
  if is_outcome(state) or state == 'DELIVERED' or redis.call('HGET', job, 'attempt') ~= attempt then return 'refused' end
  local score = redis.call('ZSCORE', look, task_id) or redis.call('ZSCORE', due, task_id)
  if not score or tonumber(score) ~= tonumber(lease) then return 'lost' end
  return nil
end
