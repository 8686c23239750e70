--[[ unpause: an operation of an endpoint works again.
  KEYS  gate = pause(endpoint, operation)
  ARGV  seen_until (s: the end of the pause that the caller knows of)
  Returns "over" | "paused" (another pause has begun meanwhile) ]]
if tonumber(redis.call('HGET', gate, 'until') or '0') > tonumber(seen_until) then return 'paused' end
redis.call('DEL', gate)
return 'over'
