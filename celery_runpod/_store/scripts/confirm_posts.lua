--[[ confirm_posts: which POSTs were claimed on this very master, before it is asked whether a replica has them.
  KEYS  posts(endpoint); confirmed(endpoint)
  ARGV  now (s); ttl (s, whole); names ... (members of posts)
  Returns those of the names that stand here
  It writes, so that a WAIT on the same connection is about all that this master has written before: a POST that was
  claimed on another connection too. After a failover a claim may be gone: its POST must not be made. ]]
redis.call('SET', confirmed, now, 'EX', ttl)
local found = {}
for _, name in ipairs(names) do
  if redis.call('ZSCORE', posts, name) then found[#found + 1] = name end
end
return found
