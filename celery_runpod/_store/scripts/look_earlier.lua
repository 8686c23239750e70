--[[ look_earlier: RunPod's queue moves faster than looks at the jobs in it were planned for.
  KEYS  look(endpoint); by_place(endpoint); inflight(endpoint)
  ARGV  plans ... (task_id, when to look at it: s)
  Returns "earlier"
  A look that a check holds, or that something else has planned, stays as it is; none is made later.
  Repeating it changes nothing. ]]
for i = 1, #plans, 2 do
  if redis.call('ZSCORE', by_place, plans[i]) then redis.call('ZADD', look, 'XX', 'LT', plans[i + 1], plans[i]) end
end
-- What has ended without a look is still noted.
if redis.call('ZCARD', by_place) > redis.call('ZCARD', inflight) then
  for _, id in ipairs(redis.call('ZRANGE', by_place, 0, 999)) do
    if not redis.call('ZSCORE', look, id) then redis.call('ZREM', by_place, id) end
  end
end
return 'earlier'
