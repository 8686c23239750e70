--[[ plan_check: is a new check message needed for this time, or does one come early enough?
  KEYS  next_check_at(endpoint)
  ARGV  at (s); now (s); slack (s); overdue (s)
  Returns "publish" | "planned"
  A planned time that is seconds past counts for nothing: its message was lost. ]]
local planned = redis.call('GET', next_check_at)
if planned then
  local due = tonumber(planned)
  if due > tonumber(now) - tonumber(overdue) and tonumber(at) >= due - tonumber(slack) then
    return 'planned'
  end
end
redis.call('SET', next_check_at, at)
return 'publish'
