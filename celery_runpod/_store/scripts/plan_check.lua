--[[ plan_check: is a new check message needed for this time, or does one come early enough?
  KEYS  next_check_at(endpoint)
  ARGV  at (s); now (s); cap (s: at most so much later); whole ("1": by whole seconds); overdue (s)
  Returns {"publish", at (s)} | {"planned"} ]]
local publish_at = plan(next_check_at, at, now, cap, whole, overdue)
if publish_at then return {'publish', publish_at} end
return {'planned'}
