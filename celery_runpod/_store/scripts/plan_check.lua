--[[ plan_check: is a new check message needed for this time, or does one come early enough?
  KEYS  next_check_at
  ARGV  at (s)  now (s)  slack (s)  overdue (s)
  Returns "publish" | "planned"
  A planned time that is seconds past counts for nothing: its message was lost. ]]
local planned = redis.call('GET', KEYS[1])
if planned then
  local due = tonumber(planned)
  if due > tonumber(ARGV[2]) - tonumber(ARGV[4]) and tonumber(ARGV[1]) >= due - tonumber(ARGV[3]) then
    return 'planned'
  end
end
redis.call('SET', KEYS[1], ARGV[1])
return 'publish'
