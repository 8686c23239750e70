--[[ beat: a worker is alive, and compares what it remembers with what the store holds.
  KEYS  incarnation(master)
  ARGV  run_id (of the Redis process); now (s); remembered (s, "" = nothing: the latest beat this worker knows of);
        lost (s: what Redis may lose by design); grace (s: in which every living worker has compared)
  Returns "ok" | "restarted" (nobody has vouched for this Redis process yet) | "went_back" (it holds older data)
  After a restart the beat stands still until the grace is over, so that no worker hides an old one from another.
  fence: calls begun until then may have been submitted in the time that the store has lost. ]]
local vouched = redis.call('HGET', incarnation, 'run_id')
if vouched == run_id then
  local beat = redis.call('HGET', incarnation, 'beat')
  if not beat or tonumber(beat) < tonumber(now) then redis.call('HSET', incarnation, 'beat', now) end
  return 'ok'
end
local answer = 'restarted'
local beat = tonumber(redis.call('HGET', incarnation, 'beat') or '0')
if remembered ~= '' and tonumber(remembered) > beat + tonumber(lost) then
  answer = 'went_back'
  local fence = tonumber(redis.call('HGET', incarnation, 'fence') or '0')
  if tonumber(remembered) > fence then redis.call('HSET', incarnation, 'fence', remembered) end
end
if redis.call('HGET', incarnation, 'next') ~= run_id then
  redis.call('HSET', incarnation, 'next', run_id, 'seen_at', now)
end
-- A store without a beat is new, or was emptied: only a worker that remembers can tell.
local waited = tonumber(now) - tonumber(redis.call('HGET', incarnation, 'seen_at'))
if not vouched or waited >= tonumber(grace) then
  redis.call('HSET', incarnation, 'run_id', run_id, 'beat', now)
  redis.call('HDEL', incarnation, 'next', 'seen_at')
  if answer == 'restarted' then answer = 'ok' end
end
return answer
