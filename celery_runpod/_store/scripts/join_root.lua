--[[ join_root: a task is one of those under a root or a group.
  KEYS  root(any_id)
  ARGV  task_id; ttl (s, whole)
  Returns "joined"
  A longer job under the same root must be reached for as long as it lives. ]]
redis.call('SADD', root, task_id)
if redis.call('TTL', root) < tonumber(ttl) then redis.call('EXPIRE', root, ttl) end
return 'joined'
