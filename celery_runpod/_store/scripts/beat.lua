--[[ beat: a worker is alive, and compares what it remembers with what the store holds.
  KEYS  incarnation(master)
  ARGV  run_id (of the Redis process); now (s); remembered (s, "" = nothing: the latest beat this worker knows of);
        lost (s: what Redis may lose by design); grace (s: in which every living worker has compared);
        compared ("1": this worker has compared with this Redis process before)
  Returns "ok" | "restarted" (nobody has vouched for this Redis process yet) | "went_back" (it holds older data)
  After a restart the beat stands still until the grace is over, so that no worker hides an old one from another. Who comes
  later compares with the beat that stood there until then (`before`).
  fence: calls begun until then may have been submitted in the time that the store has lost. ]]
local vouched = redis.call('HGET', incarnation, 'run_id')
local function went_back(beat)
  if remembered == '' or tonumber(remembered) <= tonumber(beat) + tonumber(lost) then return false end
  local fence = tonumber(redis.call('HGET', incarnation, 'fence') or '0')
  if tonumber(remembered) > fence then redis.call('HSET', incarnation, 'fence', remembered) end
  return true
end
if vouched == run_id then
  local before = redis.call('HGET', incarnation, 'before')
  if compared ~= '1' and before and went_back(before) then return 'went_back' end
  local beat = redis.call('HGET', incarnation, 'beat')
  if not beat or tonumber(beat) < tonumber(now) then redis.call('HSET', incarnation, 'beat', now) end
  return 'ok'
end
local beat = redis.call('HGET', incarnation, 'beat') or '0'
local answer = went_back(beat) and 'went_back' or 'restarted'
if redis.call('HGET', incarnation, 'next') ~= run_id then
  redis.call('HSET', incarnation, 'next', run_id, 'seen_at', now)
end
-- A store without a beat is new, or was emptied: only a worker that remembers can tell.
local waited = tonumber(now) - tonumber(redis.call('HGET', incarnation, 'seen_at'))
if not vouched or waited >= tonumber(grace) then
  redis.call('HSET', incarnation, 'run_id', run_id, 'beat', now, 'before', beat)
  redis.call('HDEL', incarnation, 'next', 'seen_at')
  if answer == 'restarted' then answer = 'ok' end
end
return answer
