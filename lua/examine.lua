--[[
examine: what a shard has of some accounts, their open reservations and what is due of them, all of one moment, for
whoever compares it with the journal. Writes nothing.

KEYS
  1  meta of the shard
  2  what is due in the shard

ARGV
  1  ledger id
  2  incarnation, as PostgreSQL has it; '' to look at a shard that refuses
  3  how the keys of accounts begin
  4  how the keys of holds begin
  5  how the keys of reservations begin
  6  how many reservations at most; the first account comes whole in any case
  7  a list of lists, as JSON: an account, and those reservations of it that are wanted though they may not be open

REPLIES
  ok       sequence; of each account, in order and as far as the bound allows: text ('' where there is none, ' ' where
           there is no text), when something of it is due ('' never), and a list of id, deadline in the holds, deadline
           in what is due, text, one after another
  refused  why
]]
--- @include parts/server
local meta, due = KEYS[1], KEYS[2]
local ledger, incarnation = ARGV[1], ARGV[2]
local accounts, holds, reservations = ARGV[3], ARGV[4], ARGV[5]
local reservations_max, wanted = tonumber(ARGV[6]), cjson.decode(ARGV[7])

if redis.call('TYPE', meta).ok ~= 'hash' then return { 'refused', 'the shard has no meta' } end
local found = redis.call('HMGET', meta, 'ledger', 'incarnation', 'server', 'fence', 'sequence')
if found[1] ~= ledger then return { 'refused', 'another ledger lives here' } end
if not found[5] then return { 'refused', 'the shard is being loaded' } end
if incarnation ~= '' then
  if found[4] and found[4] ~= '' then return { 'refused', 'the shard is fenced: ' .. found[4] } end
  if found[2] ~= incarnation then return { 'refused', 'the shard is at another incarnation' } end
  if found[3] ~= server.id() then return { 'refused', 'the server has changed since it was admitted' } end
end

-- What is stored under a key that should hold a text: '' nothing, ' ' something else.
local function stored(key)
  local text = redis.pcall('GET', key)
  if type(text) == 'table' then return ' ' end
  return text or ''
end

local function scores(key)
  local members = redis.pcall('ZRANGE', key, 0, -1, 'WITHSCORES')
  if members.err then return {} end
  return members
end

local budget, shown = reservations_max, {}
for _, names in ipairs(wanted) do
  local id = names[1]
  local open = scores(holds .. id)
  budget = budget - #open / 2 - #names + 1
  if budget < 0 and #shown > 0 then break end
  local listed, seen = {}, {}
  local function show(reservation, deadline)
    local n = #listed
    listed[n + 1] = reservation
    listed[n + 2] = deadline
    listed[n + 3] = redis.call('ZSCORE', due, 'reservation:' .. reservation .. ':' .. id) or ''
    listed[n + 4] = stored(reservations .. reservation)
    seen[reservation] = true
  end
  for i = 1, #open, 2 do show(open[i], open[i + 1]) end
  for i = 2, #names do
    if not seen[names[i]] then show(names[i], '') end
  end
  shown[#shown + 1] = { stored(accounts .. id), redis.call('ZSCORE', due, 'account:' .. id) or '', listed }
end
return { 'ok', found[5], shown }
