-- A record's input comes, and goes, together with its part of the endpoint's `input_bytes`.
local function count_input(job, bytes)
  local length = redis.call('HSTRLEN', job, 'input')
  if length > 0 then redis.call('INCRBY', bytes, length) end
end
local function drop_input(job, bytes)
  local length = redis.call('HSTRLEN', job, 'input')
  if length > 0 and redis.call('DECRBY', bytes, length) <= 0 then redis.call('DEL', bytes) end
  redis.call('HDEL', job, 'input')
end
