--[[ record_outcome: a verdict on an attempt, RunPod's or ours. From here only delivery follows.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); undelivered(endpoint); inflight(endpoint); cancels(endpoint);
        cancel_keys(endpoint); waiting(endpoint); input_bytes(endpoint); by_job_id(endpoint, given_id); lengths(endpoint)
  ARGV  task_id; attempt; verdict (a state); outcome (JSON); now (s); deliver_again_at (s);
        given_id (RunPod's; "" = as recorded); cancel ("1": the RunPod job must be cancelled); api_key_name;
        index_ttl (s, whole); length (s: how long RunPod worked on it; "" = not known);
        read_state (our own verdict was decided on a record in this state; "" = it needs no record); read_id (RunPod's id
        there, or ""); read_hint ("1": a webhook had said already that it has ended); end_by (s: the verdict is due because
        this deadline is over; "" = for another reason)
  Returns "recorded" | "recorded_others_wait" (so are jobs in the order of the submits) | "already" (it had a verdict)
        | "refused" (another attempt, no such move, or another task has the job of this id; our own verdict: there is other
        news of the job) | "unknown"
  Repeating it changes nothing. A check takes its time between reading a job and its own verdict on it. Meanwhile another
  may have noted the answer to its submit, its beginning or its retry; a webhook may say for the first time that it has
  ended; and a call that joins it may have put off its deadline. ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
if is_outcome(state) or state == 'DELIVERED' then return 'already' end
if redis.call('HGET', job, 'attempt') ~= attempt or not may(state, verdict) then return 'refused' end
local known_id = redis.call('HGET', job, 'job_id') or ''
if read_state ~= '' then
  -- The verdict itself may rest on news that is not in the record yet. A call that shares a job has no news of its own.
  local as_read = state == read_state or state == 'JOINED' or (at_runpod(state) and may(state, read_state))
  if not as_read or known_id ~= read_id then return 'refused' end
  if read_hint ~= '1' and redis.call('HEXISTS', job, 'hinted_at') == 1 then return 'refused' end
end
if end_by ~= '' and tonumber(redis.call('HGET', job, 'end_by')) > tonumber(end_by) then
  for _, order in ipairs({due, look}) do redis.call('ZADD', order, 'XX', now, task_id) end
  return 'refused'
end
if given_id ~= '' and known_id ~= '' and known_id ~= given_id then return 'refused' end
if state == 'SUBMITTING' and given_id ~= '' and (redis.call('GET', by_job_id) or task_id) ~= task_id then return 'refused' end
if given_id ~= '' then
  known_id = given_id
  -- NX: the calls that share a job end with its id, which stays that job's own.
  redis.call('SET', by_job_id, task_id, 'EX', index_ttl, 'NX')
end
redis.call('HSET', job, 'state', verdict, 'outcome', outcome, 'ended_at', now, 'job_id', known_id)
redis.call('HDEL', job, 'progress')
-- What failed may be run again by hand: its input stays until mark_delivered.
if verdict == 'COMPLETED' or verdict == 'CANCELLED' then drop_input(job, input_bytes) end
redis.call('ZADD', undelivered, deliver_again_at, task_id)
leave_orders(task_id, due, look, waiting, inflight)
if length ~= '' then
  redis.call('LPUSH', lengths, length)
  redis.call('LTRIM', lengths, 0, 199)
  redis.call('EXPIRE', lengths, 30 * 86400)
end
if cancel == '1' and known_id ~= '' then
  redis.call('ZADD', cancels, now, known_id)
  redis.call('HSET', cancel_keys, known_id, api_key_name)
end
return redis.call('ZCARD', waiting) > 0 and 'recorded_others_wait' or 'recorded'
