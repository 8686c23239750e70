--[[ beat: a worker is alive, and compares what it remembers with what the store holds.
  KEYS  incarnation(master)
  ARGV  run_id (of the Redis process); now (s); remembered (s, "" = nothing: the latest beat this worker knows of);
        lost (s: what Redis may lose by design); grace (s: in which every living worker has compared);
        known (the life of the store that this worker has beaten on or compared with last, "" = none)
  Returns {"ok" | "restarted" (nobody has vouched for this Redis process yet) | "went_back" (it holds older data), life}
  A store begins another life with each Redis process that the workers vouch for, also with one that was there before:
  replicas take turns. While nobody has vouched, `life` is the one that begins.
  After a restart the beat stands still until the grace is over, so that no worker hides an old one from another. Who comes
  later compares with what stood there at the beginning of each life since the one that it knows.
  fence: calls begun until then may have been submitted in the time that the store has lost. ]]
local vouched = redis.call('HGET', incarnation, 'run_id')
local lives = redis.call('HGET', incarnation, 'lives') or ''
local function went_back(beat)
  if remembered == '' or tonumber(remembered) <= tonumber(beat) + tonumber(lost) then return false end
  local fence = tonumber(redis.call('HGET', incarnation, 'fence') or '0')
  if tonumber(remembered) > fence then redis.call('HSET', incarnation, 'fence', remembered) end
  return true
end
if vouched == run_id then
  -- "life beat life beat ...", the last twenty: the life that began, and the beat that stood there.
  local life, least = '', nil
  for one, beat in string.gmatch(lives, '(%S+) (%S+)') do
    life, least = one, one ~= known and math.min(least or math.huge, tonumber(beat)) or nil
  end
  if life ~= known and least and went_back(least) then return {'went_back', life} end
  local beat = redis.call('HGET', incarnation, 'beat')
  if not beat or tonumber(beat) < tonumber(now) then redis.call('HSET', incarnation, 'beat', now) end
  return {'ok', life}
end
local number, list = 0, {}
for one, beat in string.gmatch(lives, '(%S+) (%S+)') do
  number = tonumber(string.match(one, '%d+$')) + 1
  list[#list + 1] = one .. ' ' .. beat
end
local life = run_id .. ':' .. string.format('%d', number)
local beat = redis.call('HGET', incarnation, 'beat') or '0'
local answer = went_back(beat) and 'went_back' or 'restarted'
if redis.call('HGET', incarnation, 'next') ~= run_id then
  redis.call('HSET', incarnation, 'next', run_id, 'seen_at', now)
end
-- A store without a beat is new, or was emptied: only a worker that remembers can tell.
local waited = tonumber(now) - tonumber(redis.call('HGET', incarnation, 'seen_at'))
if not vouched or waited >= tonumber(grace) then
  list[#list + 1] = life .. ' ' .. beat
  local from = math.max(1, #list - 19)
  redis.call('HSET', incarnation, 'run_id', run_id, 'beat', now, 'lives', table.concat(list, ' ', from))
  redis.call('HDEL', incarnation, 'next', 'seen_at')
  if answer == 'restarted' then answer = 'ok' end
end
return {answer, life}
