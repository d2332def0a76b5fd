--- @include parts/keys
--- @include parts/server
-- Is this server, today, the one that the caller was admitted to? Asked before anything else is read.
local admission = {}

local META = { 'ledger', 'incarnation', 'server', 'fence', 'sequence', 'journaled', 'bytes', 'journaled_bytes',
               'oldest_ms', 'link', 'now_ms' }

-- Returns the shards of the call as tables by number, in the call's order too; or nil and why not.
function admission.admit(call)
  local shards, order = {}, {}
  local own
  for _, term in ipairs(call.shards) do
    local number, incarnation = term[1], term[2]
    local meta = redis.call('HMGET', keys.meta(number), unpack(META))
    if not meta[1] then return nil, string.format('shard %d has no meta', number) end
    if meta[1] ~= call.ledger then return nil, 'another ledger lives here' end
    if tonumber(meta[2]) ~= incarnation then
      return nil, string.format('shard %d is at another incarnation', number)
    end
    -- A server that could not be asked at its admission (meta.server is empty) cannot be asked now either.
    if meta[3] ~= '' and own == nil then own = server.id() end
    if meta[3] ~= call.server or (own and meta[3] ~= own) then
      return nil, 'the server has changed since it was admitted'
    end
    local shard = {
      number = number,
      incarnation = incarnation,
      fence = meta[4] ~= '' and meta[4] or nil,
      sequence = tonumber(meta[5]),
      journaled = tonumber(meta[6]),
      bytes = tonumber(meta[7]),
      journaled_bytes = tonumber(meta[8]),
      oldest_ms = tonumber(meta[9]) or 0,
      link = assert(meta[10], 'a meta without a link'),
      now_ms = tonumber(meta[11]),
      appended = {},
      accounts = {},
      reservations = {},
    }
    shards[number] = shard
    order[#order + 1] = shard
  end
  return shards, nil, order
end

-- Appends come first among the writes, so they must be known to succeed: the stream stands where meta says.
-- Returns why not, or nil.
function admission.stream_fault(shard)
  local info = redis.pcall('XINFO', 'STREAM', keys.journal(shard.number))
  if info.err then
    if redis.call('EXISTS', keys.journal(shard.number)) == 0 and shard.journaled == shard.sequence then return nil end
    return 'the journal stream is missing or is not a stream'
  end
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      if info[i + 1] == string.format('%d-0', shard.sequence) then return nil end
      return string.format('the journal stream ends at %s, the shard at %d', info[i + 1], shard.sequence)
    end
  end
  return 'the journal stream has no last id'
end

return admission
