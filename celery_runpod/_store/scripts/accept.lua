--[[ accept: a call becomes a record, once.
  KEYS  job hash; due zset (score: look again at, s); undelivered zset (score: publish finish again at, s);
        input_bytes
  ARGV  task_id  due (s)  then field, value, field, value ...
        A record that begins with an outcome (state ENDED_HERE) goes to undelivered instead of due.
  Returns "accepted" | the state of the record that was there before
  Repeating it changes nothing. ]]
local known = redis.call('HGET', KEYS[1], 'state')
if known then return known end
local record = {}
for i = 3, #ARGV do record[#record + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(record))
count_input(KEYS[1], KEYS[4])
if is_outcome(redis.call('HGET', KEYS[1], 'state')) then
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
end
return 'accepted'
