--[[ beat: a worker is alive, and compares what it remembers with what the store holds.
  KEYS  epoch hash (run_id: the Redis process that was vouched for; beat: latest beat, s; fence: s)
  ARGV  run_id (of the Redis process)  now (s)  remembered (s, "" = nothing: the latest beat this worker knows of)
        lost (s: what Redis may lose by design)  grace (s: in which every living worker has compared)
  Returns "ok" | "restarted" (nobody has vouched for this Redis process yet) | "went_back" (it holds older data)
  After a restart the beat stands still until the grace is over, so that no worker hides an old one from another.
  fence: calls begun until then may have been submitted in the time that the store has lost. ]]
local run_id = redis.call('HGET', KEYS[1], 'run_id')
if run_id == ARGV[1] then
  local beat = redis.call('HGET', KEYS[1], 'beat')
  if not beat or tonumber(beat) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'beat', ARGV[2]) end
  return 'ok'
end
local answer = 'restarted'
local beat = tonumber(redis.call('HGET', KEYS[1], 'beat') or '0')
if ARGV[3] ~= '' and tonumber(ARGV[3]) > beat + tonumber(ARGV[4]) then
  answer = 'went_back'
  local fence = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0')
  if tonumber(ARGV[3]) > fence then redis.call('HSET', KEYS[1], 'fence', ARGV[3]) end
end
if redis.call('HGET', KEYS[1], 'next') ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'next', ARGV[1], 'seen_at', ARGV[2])
end
-- A store that never had a beat has nothing to be compared with, but by the one that remembers.
local waited = tonumber(ARGV[2]) - tonumber(redis.call('HGET', KEYS[1], 'seen_at'))
if not run_id or waited >= tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'run_id', ARGV[1], 'beat', ARGV[2])
  redis.call('HDEL', KEYS[1], 'next', 'seen_at')
  if answer == 'restarted' then answer = 'ok' end
end
return answer
