--[[
read: may the entries of one shard be read for the journal? Only from a server that is admitted. Writes nothing.

The entries themselves are read by XRANGE in the same transaction: through a script they would cost the server
several times as long, and everybody waits for it.

KEYS
  1  meta of the shard

ARGV
  1  ledger id
  2  incarnation, as PostgreSQL has it
  3  '1' to read a shard that refuses, too

REPLIES
  ok       sequence of the shard, journaled as last told
  refused  why
]]
--- @include parts/server
local meta = KEYS[1]
local ledger, incarnation, though_fenced = ARGV[1], ARGV[2], ARGV[3] == '1'

if redis.call('TYPE', meta).ok ~= 'hash' then return { 'refused', 'the shard has no meta' } end
local found = redis.call('HMGET', meta, 'ledger', 'incarnation', 'server', 'fence', 'sequence', 'journaled')
if found[1] ~= ledger then return { 'refused', 'another ledger lives here' } end
if found[4] and found[4] ~= '' and not though_fenced then return { 'refused', 'the shard is fenced: ' .. found[4] } end
if found[2] ~= incarnation then return { 'refused', 'the shard is at another incarnation' } end
if found[3] ~= server.id() then return { 'refused', 'the server has changed since it was admitted' } end
if not tonumber(found[5]) then return { 'refused', 'the meta is not readable' } end
return { 'ok', found[5], tonumber(found[6]) and found[6] or '0' }
