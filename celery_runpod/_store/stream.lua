--[[ The chunks of a job, as entries of a Redis Stream. This text precedes each script.
  run      which run of the handler it belongs to ("generation.attempt")
  attempt  1 for the first run that has entries, then one more for each
  n        1, 2, 3 ... among the entries of its run
  bytes    of all texts so far, those of entries that are gone too
  and one of  chunk (JSON) | gap ("1": chunks may be missing here) | retry ("1", n 0: another run begins here)
  a job's hash has  stream_look: "<attempt> <over by, s> <token>" of the latest look; over by 0: it has ended ]]
local function first_of(found)
  if #found == 0 then return nil end
  local fields = {id = found[1][1]}
  for i = 1, #found[1][2], 2 do fields[found[1][2][i]] = found[1][2][i + 1] end
  return fields
end
local function oldest(stream) return first_of(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)) end
local function newest(stream) return first_of(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)) end
local function add_entries(stream, run, name, texts, bounds)
  if #texts == 0 then return end
  local last = newest(stream)
  local attempt, n, bytes = 1, 0, 0
  if last then attempt, n, bytes = tonumber(last.attempt), tonumber(last.n), tonumber(last.bytes) end
  local function add(what, text)
    bytes = bytes + #text
    redis.call('XADD', stream, 'MAXLEN', bounds.most, '*', 'run', run, 'attempt', string.format('%d', attempt),
      'n', string.format('%d', n), 'bytes', string.format('%d', bytes), what, text)
  end
  if last and last.run ~= run then
    attempt, n = attempt + 1, 0
    add('retry', '1')
  end
  for _, text in ipairs(texts) do
    n = n + 1
    add(name, text)
  end
  local first = oldest(stream)
  while bytes - tonumber(first.bytes) > tonumber(bounds.most_bytes) do
    redis.call('XDEL', stream, first.id)
    first = oldest(stream)
  end
  redis.call('EXPIRE', stream, bounds.ttl)
end
