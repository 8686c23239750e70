--[[ drop_record: an operator gives up a record that no worker can read.
  KEYS  job hash; due zset; undelivered zset; aside zset; waiting zset; inflight set; cancels zset; cancel_keys hash;
        input_bytes
  ARGV  task_id  now (s)
  Returns "dropped" | "gone" (it is not put aside any more)
  What RunPod may be doing for it becomes a cancel that the checks send. ]]
if redis.call('ZREM', KEYS[4], ARGV[1]) == 0 then return 'gone' end
local job_id = redis.call('HGET', KEYS[1], 'job_id')
if job_id and job_id ~= '' then
  redis.call('ZADD', KEYS[7], ARGV[2], job_id)
  redis.call('HSET', KEYS[8], job_id, redis.call('HGET', KEYS[1], 'api_key_name') or '')
end
drop_input(KEYS[1], KEYS[9])
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('SREM', KEYS[6], ARGV[1])
return 'dropped'
