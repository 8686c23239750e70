--[[ deliver_again: an outcome that was not delivered: may it be now, and when next?
  KEYS  job(endpoint, task_id); undelivered(endpoint)
  ARGV  task_id; now (s); base (s); cap (s)
  Returns "first" (the first time, and no process has begun to deliver it) | "publish" (as a message)
        | "later" (not due, or being delivered) | "gone" (delivered, or no such job)
  Each time the wait doubles, so that a long queue is not filled with copies. A state that this version does not know is
  no reason to forget a verdict: whoever reads the record puts it aside. ]]
local state = redis.call('HGET', job, 'state')
if not state or (MOVES[state] and not is_outcome(state)) then
  redis.call('ZREM', undelivered, task_id)
  return 'gone'
end
local due = redis.call('ZSCORE', undelivered, task_id)
if due and tonumber(due) > tonumber(now) then return 'later' end
local times = redis.call('HINCRBY', job, 'published', 1)
local wait = math.min(tonumber(base) * 2 ^ math.min(times, 20), tonumber(cap))
redis.call('ZADD', undelivered, string.format('%.3f', tonumber(now) + wait), task_id)
return times == 1 and redis.call('HEXISTS', job, 'claims') == 0 and 'first' or 'publish'
