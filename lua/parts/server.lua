-- Which server this is. `master_replid` changes with every start and every promotion, so it tells a server from its own
-- past. '' where a script cannot ask.
local server = {}

function server.id()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
end

return server
