--[[ end_stream_look: RunPod has answered, or not. The chunks are kept in the same step in which the look counts as ended.
  KEYS  job(endpoint, task_id); stream(endpoint, task_id)
  ARGV  attempt; token (of this look); run; gap ("1": chunks may be lost); most; most_bytes; ttl (s, whole);
        chunks ... (JSON)
  Returns {"kept" | "refused" (the store does not know this look any more, it is another attempt, or the job has ended) |
        "unknown", then the id of the newest entry, "" = none}
  A look that the store does not know any more was overtaken by another one, or Redis has lost it: its chunks have no place
  now, and are a gap. Repeating it changes nothing. ]]
local state = redis.call('HGET', job, 'state')
if not state then return {'unknown', ''} end
if not may(state, 'COMPLETED') or redis.call('HGET', job, 'attempt') ~= attempt then return {'refused', ''} end
local bounds = {most = most, most_bytes = most_bytes, ttl = ttl}
local by, whose = string.match(redis.call('HGET', job, 'stream_look') or '', '^%S+ (%S+) (%S+)$')
local mine = whose == token
if not mine then
  if #chunks > 0 or gap == '1' then add_entries(stream, run, 'gap', {'1'}, bounds) end
elseif tonumber(by) > 0 then
  add_entries(stream, run, 'chunk', chunks, bounds)
  if gap == '1' then add_entries(stream, run, 'gap', {'1'}, bounds) end
  redis.call('HSET', job, 'stream_look', attempt .. ' 0 ' .. token)
end
local last = newest(stream)
return {mine and 'kept' or 'refused', last and last.id or ''}
