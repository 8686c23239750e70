-- Why a check may not write to a job: "unknown" (no such job), "refused" (another attempt, or the job has ended), "lost"
-- (the lease lapsed, or someone moved the due time). nil: it may.
local function not_leased(job, due, task_id, attempt, lease)
  local state = redis.call('HGET', job, 'state')
  if not state then
    redis.call('ZREM', due, task_id)
    return 'unknown'
  end
  if is_outcome(state) or state == 'DELIVERED' or redis.call('HGET', job, 'attempt') ~= attempt then return 'refused' end
  local score = redis.call('ZSCORE', due, task_id)
  if not score or tonumber(score) ~= tonumber(lease) then return 'lost' end
  return nil
end
