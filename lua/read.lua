--[[
read: entries of one shard for the journal, from a server that is admitted. Writes nothing.

KEYS
  1  meta of the shard
  2  journal of the shard

ARGV
  1  ledger id
  2  incarnation, as PostgreSQL has it
  3  the sequence to begin with
  4  how many entries at most

REPLIES
  ok       sequence of the shard, journaled as last told, entries as XRANGE gives them
  refused  why
]]
local meta, journal = KEYS[1], KEYS[2]
local ledger, incarnation, first, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if redis.call('TYPE', meta).ok ~= 'hash' then return { 'refused', 'the shard has no meta' } end
local found = redis.call('HMGET', meta, 'ledger', 'incarnation', 'server', 'fence', 'sequence', 'journaled')
if found[1] ~= ledger then return { 'refused', 'another ledger lives here' } end
if found[4] and found[4] ~= '' then return { 'refused', 'the shard is fenced: ' .. found[4] } end
if found[2] ~= incarnation then
  return { 'refused', 'the shard is at incarnation ' .. tostring(found[2]) .. ', not ' .. incarnation }
end
local info = redis.pcall('INFO', 'replication')
local server = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
if found[3] ~= server then return { 'refused', 'the server has changed since it was admitted' } end

local journal_type = redis.call('TYPE', journal).ok
if journal_type ~= 'stream' and journal_type ~= 'none' then
  return { 'refused', 'the journal of the shard is not a stream' }
end
return { 'ok', found[5], found[6], redis.call('XRANGE', journal, first .. '-0', '+', 'COUNT', count) }
