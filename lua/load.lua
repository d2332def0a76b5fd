--[[
load: write what the journal says into one shard that was closed. All of a page or nothing.

KEYS
  1  meta of the shard

ARGV
  1    ledger id
  2    server, as when the shard was closed: one that was replaced may have lost what was loaded before
  3    sequence that the meta has, '' for none
  4    loader, as when the shard was closed
  5..  commands on keys of this shard, each as the number of its words and then its words

REPLIES
  loaded
  moved    the shard is not as it was left, or somebody was let in; nothing was written
]]
--- @include parts/server
local meta = KEYS[1]
local ledger, closed_on, sequence, loader = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if server.id() ~= closed_on then return 'moved' end
if redis.call('TYPE', meta).ok ~= 'hash' then return 'moved' end
local found = redis.call('HMGET', meta, 'ledger', 'incarnation', 'server', 'sequence', 'loader')
if found[1] ~= ledger or found[2] ~= '0' or found[3] ~= closed_on or (found[4] or '') ~= sequence then return 'moved' end
if (found[5] or '') ~= loader then return 'moved' end

local WRITES = { MSET = true, SET = true, UNLINK = true, ZADD = true, ZREM = true, XADD = true, HSET = true, HDEL = true }

local at = 5
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  assert(WRITES[ARGV[at + 1]], 'not a command for loading')
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return 'loaded'
