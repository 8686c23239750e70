--[[ end_stream_look: RunPod has answered, or not. The chunks are kept in the same step in which the look counts as ended.
  KEYS  job(endpoint, task_id); stream(endpoint, task_id)
  ARGV  attempt; token (of this look); run; gap ("1": chunks may be lost); most; most_bytes; ttl (s, whole);
        chunks ... (JSON)
  Returns "kept" | "refused" (another look has begun since, another attempt, or the job has ended) | "unknown" ]]
local state = redis.call('HGET', job, 'state')
if not state then return 'unknown' end
if not may(state, 'COMPLETED') or redis.call('HGET', job, 'attempt') ~= attempt then return 'refused' end
local begun = redis.call('HGET', job, 'stream_look')
if not begun or string.match(begun, '%S+$') ~= token then return 'refused' end
local bounds = {most = most, most_bytes = most_bytes, ttl = ttl}
add_entries(stream, run, 'chunk', chunks, bounds)
if gap == '1' then add_entries(stream, run, 'gap', {'1'}, bounds) end
redis.call('HDEL', job, 'stream_look')
return 'kept'
