--[[
admit: write into the meta of one shard under which number its Redis was admitted, and whether it refuses. A shard
that refuses has a number too, because calls for other shards may name it.

PostgreSQL has that number already. Between the survey and this moment the server may have been replaced or have
gone back, or another process may have admitted it: then nothing is written, and the admission begins again.

KEYS
  1  meta of the shard

ARGV
  1  ledger id
  2  server, as surveyed
  3  sequence, as surveyed
  4  link, as surveyed
  5  incarnation, as committed
  6  fence: why the shard refuses, '' when it does not
  7  the fence, as surveyed, that has been lifted; '' for none

REPLIES
  admitted  meta says so now; repeating is harmless
  moved     this is not what was surveyed, or a higher number has come first
]]
--- @include parts/server
local meta = KEYS[1]
local ledger, surveyed, sequence, link, incarnation, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local lifted = ARGV[7]

if server.id() ~= surveyed then return 'moved' end

local found = redis.call('HMGET', meta, 'ledger', 'sequence', 'link', 'fence', 'incarnation', 'server')
if found[1] ~= ledger or found[2] ~= sequence or found[3] ~= link then return 'moved' end
if found[4] ~= '' and found[4] ~= lifted then
  if fence == '' then return 'moved' end
  fence = found[4]
end
if tonumber(found[5]) > tonumber(incarnation) then return 'moved' end
if found[5] == incarnation and found[6] ~= surveyed then return 'moved' end

redis.call('HSET', meta, 'incarnation', incarnation, 'server', surveyed, 'fence', fence)
return 'admitted'
