--[[ forget_due: take out of the due set what has no open record, and with it its place of max_in_flight.
  KEYS  job hash; due zset; inflight set; waiting zset
  ARGV  task_id
  Returns "forgotten" | "open" (also for a record of a newer format: another version's business) ]]
local state = redis.call('HGET', KEYS[1], 'state')
if state and state ~= 'DELIVERED' and not is_outcome(state) then return 'open' end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return 'forgotten'
