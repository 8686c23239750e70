--[[ begin_stream_look: RunPod is about to be asked for the chunks of a job. It gives each chunk once.
  KEYS  job(endpoint, task_id); stream(endpoint, task_id)
  ARGV  attempt; token (of this look); now (s); over_by (s: the request is over by then); known ("" = none: the id of the
        last entry that this process knows of); run; most; most_bytes; ttl (s, whole)
  Returns "begun" | "held" (another process is asking) | "refused" (another attempt, or not at RunPod) | "unknown"
  A look that was begun and not ended, and whose request is over, died with its process, and maybe with chunks: that is
  a gap. So it is if Redis has lost the last known entry. Asked again with the same token, it changes nothing. ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
if not may(state, 'COMPLETED') or redis.call('HGET', job, 'attempt') ~= attempt then return 'refused' end
local lost = known ~= '' and #redis.call('XRANGE', stream, known, known) == 0
local begun = redis.call('HGET', job, 'stream_look')
if begun then
  local of, by, whose = string.match(begun, '^(%S+) (%S+) (%S+)$')
  if whose == token then return 'begun' end
  if of == attempt then
    if tonumber(by) > tonumber(now) then return 'held' end
    lost = lost or tonumber(by) > 0
  end
end
if lost then add_entries(stream, run, 'gap', {'1'}, {most = most, most_bytes = most_bytes, ttl = ttl}) end
redis.call('HSET', job, 'stream_look', attempt .. ' ' .. over_by .. ' ' .. token)
return 'begun'
