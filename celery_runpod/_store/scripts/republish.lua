--[[ republish: a verdict whose finish has not run: may it be published again now, and when next?
  KEYS  job hash; undelivered zset
  ARGV  task_id  now (s)  base (s)  cap (s)
  Returns "publish" | "later" (not due, or being delivered) | "gone" (delivered, or no such job)
  Each time the wait doubles, so that a long queue is not filled with copies. A state that this version does not know is
  no reason to forget a verdict: whoever reads the record puts it aside. ]]
local state = redis.call('HGET', KEYS[1], 'state')
if not state or (MOVES[state] and not is_outcome(state)) then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 'gone'
end
local due = redis.call('ZSCORE', KEYS[2], ARGV[1])
if due and tonumber(due) > tonumber(ARGV[2]) then return 'later' end
local times = redis.call('HINCRBY', KEYS[1], 'published', 1)
local wait = math.min(tonumber(ARGV[3]) * 2 ^ math.min(times, 20), tonumber(ARGV[4]))
redis.call('ZADD', KEYS[2], string.format('%.3f', tonumber(ARGV[2]) + wait), ARGV[1])
return 'publish'
