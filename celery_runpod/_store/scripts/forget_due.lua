--[[ forget_due: take out of the due set what has no open record, and with it its place of max_in_flight.
  KEYS  job(endpoint, task_id); due(endpoint); look(endpoint); inflight(endpoint); waiting(endpoint)
  ARGV  task_id
  Returns "forgotten" | "open" (also for a record of a newer format: another version's business) ]]
local state = redis.call('HGET', job, 'state')
if state and state ~= 'DELIVERED' and not is_outcome(state) then return 'open' end
leave_orders(task_id, due, look, waiting, inflight)
return 'forgotten'
