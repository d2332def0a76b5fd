--[[
birth: make the meta of one shard, once.

KEYS
  1  meta of the shard
  2  journal of the shard

ARGV
  1  ledger id

REPLIES
  born    the shard has an empty meta of this ledger, made now or by an earlier attempt
  taken   there is something here that this birth has not made; nothing was written
]]
local meta, journal = KEYS[1], KEYS[2]
local ledger = ARGV[1]

if redis.call('EXISTS', journal) == 1 then return 'taken' end
if redis.call('EXISTS', meta) == 1 then
  local found = redis.call('HMGET', meta, 'ledger', 'sequence', 'incarnation')
  if found[1] == ledger and found[2] == '0' and found[3] == '0' then return 'born' end
  return 'taken'
end

redis.call('HSET', meta,
  'ledger', ledger, 'incarnation', '0', 'server', '', 'fence', '',
  'sequence', '0', 'link', 'genesis', 'now_ms', '0',
  'journaled', '0', 'bytes', '0', 'journaled_bytes', '0', 'oldest_ms', '')
return 'born'
