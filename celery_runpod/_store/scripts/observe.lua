--[[ observe: note RunPod's latest answer about an open job, and when to look again.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); inflight(endpoint); by_place(endpoint)
  ARGV  task_id; attempt; lease (the score set by lease_due); new_state ("" = nothing new); at (s); decide_at (s); checks;
        progress (JSON, "" = none); reason;
        missing_since (s: since when RunPod answers 404, "" = it does not);
        started_at (s: since when a RunPod worker works on it, "" = not known);
        placed ("1": in RunPod's queue, the look was planned by its place there)
  Returns "changed" (state, progress or reason) | "same" | "lost" (lease lapsed, or someone moved the time)
        | "refused" (another attempt, or it has ended) | "unknown"
  Within an attempt a state never goes back: RunPod may put a job into its queue again, its cost is the same. ]]
local refusal = not_leased(job, due, look, task_id, attempt, lease)
if refusal then return refusal end
local answer = 'same'
if new_state ~= '' and may(redis.call('HGET', job, 'state'), new_state) then
  redis.call('HSET', job, 'state', new_state)
  if new_state == 'IN_PROGRESS' then redis.call('ZADD', inflight, 'XX', 0, task_id) end
  answer = 'changed'
end
if progress ~= '' and redis.call('HGET', job, 'progress') ~= progress then
  redis.call('HSET', job, 'progress', progress)
  answer = 'changed'
end
if (redis.call('HGET', job, 'reason') or '') ~= reason then
  redis.call('HSET', job, 'reason', reason)
  answer = 'changed'
end
redis.call('HSET', job, 'checks', checks)
redis.call('HDEL', job, 'missing_since', 'failures')
if started_at ~= '' then redis.call('HSET', job, 'started_at', started_at) end
if missing_since ~= '' then redis.call('HSET', job, 'missing_since', missing_since) end
local state = redis.call('HGET', job, 'state')
plan_job(state, due, look, task_id, at, decide_at)
if placed == '1' and state == 'IN_QUEUE' then plan_by_place(by_place, task_id) end
return answer
