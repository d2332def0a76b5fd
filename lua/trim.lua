--[[
trim: tell a shard how far its journal is, and let go of entries that are both journaled and no longer wanted.

Nothing behind the cursor of a journal that this server was not admitted by, and nothing after it, is ever let go.

KEYS
  1  meta of the shard
  2  journal of the shard

ARGV
  1  ledger id
  2  incarnation under which the cursor was committed
  3  cursor: the last sequence that PostgreSQL has
  4  bytes of all entries up to it
  5  keep entries younger than this, milliseconds; '' to keep all
  6  keep at most about this many bytes, by the shard's average entry
  7  let go of at most this many entries
  8  '1' to be told though the shard refuses

REPLIES
  told     how many entries were let go
  refused  why; nothing was written
]]
--- @include parts/server
local meta, journal = KEYS[1], KEYS[2]
local ledger, incarnation, cursor, bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local keep_ms, keep_bytes, entries_max = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local though_fenced = ARGV[8] == '1'

if redis.call('TYPE', meta).ok ~= 'hash' then return { 'refused', 'the shard has no meta' } end
local found = redis.call('HMGET', meta, 'ledger', 'incarnation', 'server', 'fence', 'sequence', 'bytes')
if found[1] ~= ledger then return { 'refused', 'another ledger lives here' } end
if found[2] ~= incarnation then return { 'refused', 'the shard is at another incarnation' } end
if found[4] and found[4] ~= '' and not though_fenced then return { 'refused', 'the shard is fenced: ' .. found[4] } end
if found[3] ~= server.id() then return { 'refused', 'the server has changed since it was admitted' } end
local sequence = tonumber(found[5])
if not sequence then return { 'refused', 'the meta is not readable' } end
if cursor > sequence then return { 'refused', 'the shard is behind its journal' } end

local function integer(number)
  return string.format('%d', number)
end

-- When an entry was written, in milliseconds, or nil when there is none.
local function at_ms(number)
  local id = integer(number) .. '-0'
  local entry = redis.call('XRANGE', journal, id, id)[1]
  if not entry then return nil end
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'entry' then return tonumber(string.match(entry[2][i + 1], '"at_ms":(%d+)')) end
  end
end

local let_go = 0
local first = keep_ms and redis.call('XRANGE', journal, '-', '+', 'COUNT', 1)[1]
if first then
  first = tonumber(string.match(first[1], '^%d+'))
  local bound = math.min(cursor + 1, first + entries_max)

  -- Sequences are ids and times never go back within a shard, so the first young entry is found by halving.
  local time = redis.call('TIME')
  local old_ms = time[1] * 1000 + math.floor(time[2] / 1000) - keep_ms
  local keep_from, unknown = first, bound
  while keep_from < unknown do
    local middle = math.floor((keep_from + unknown) / 2)
    local written_ms = at_ms(middle)
    if written_ms and written_ms < old_ms then keep_from = middle + 1 else unknown = middle end
  end

  local entries_kept = math.floor(keep_bytes / math.max(1, (tonumber(found[6]) or 0) / sequence))
  keep_from = math.max(keep_from, math.min(bound, sequence + 1 - entries_kept))
  if keep_from > first then let_go = redis.call('XTRIM', journal, 'MINID', integer(keep_from) .. '-0') end
end

local oldest_ms = cursor < sequence and at_ms(cursor + 1)
redis.call('HSET', meta, 'journaled', integer(cursor), 'journaled_bytes', bytes,
  'oldest_ms', oldest_ms and integer(oldest_ms) or '')
return { 'told', let_go }
