--[[
survey: what a Redis shows of one shard, in one moment, to whoever has to judge it. Writes nothing.

KEYS
  1  meta of the shard
  2  journal of the shard

ARGV
  1  the sequence after the journal's cursor

REPLIES
  a list: server (master_replid, '' where a script cannot ask), now in milliseconds, type of the meta, type of the
  journal, last id of the stream, id and entry of the first entry from that sequence on ('' where there is none),
  ledger, incarnation, server, fence, sequence, link, goal as in meta
]]
--- @include parts/server
local meta, journal = KEYS[1], KEYS[2]
local following = ARGV[1]

local time = redis.call('TIME')
local now_ms = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))

local meta_type, journal_type = redis.call('TYPE', meta), redis.call('TYPE', journal)
meta_type, journal_type = meta_type.ok or meta_type, journal_type.ok or journal_type

local last_id, next_id, entry = '', '', ''
if journal_type == 'stream' then
  local stream = redis.call('XINFO', 'STREAM', journal)
  for i = 1, #stream, 2 do
    if stream[i] == 'last-generated-id' then last_id = stream[i + 1] end
  end
  local found = redis.call('XRANGE', journal, following .. '-0', '+', 'COUNT', 1)[1]
  if found then
    next_id = found[1]
    for i = 1, #found[2], 2 do
      if found[2][i] == 'entry' then entry = found[2][i + 1] end
    end
  end
end

local reply = { server.id(), now_ms, meta_type, journal_type, last_id, next_id, entry }
if meta_type == 'hash' then
  local fields = redis.call('HMGET', meta, 'ledger', 'incarnation', 'server', 'fence', 'sequence', 'link', 'goal')
  for i = 1, 7 do reply[#reply + 1] = fields[i] or '' end
else
  for _ = 1, 7 do reply[#reply + 1] = '' end
end
return reply
