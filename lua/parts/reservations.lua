--- @include parts/keys
--- @include parts/text
-- How a reservation is written: first what changes while it lives, then, from `id` on, what hardly ever does, so that
-- an ending writes a new head and keeps the tail as it was read. Sums that are 0 are left out.
local reservations = {}

local digits, format = text.digits, string.format
local HEAD, TAIL = '{"v":1,"status":"', ',"id":"'

-- `legs`: a list of { bucket, expiry, credits }; what is held of which lot.
local function legs_text(legs)
  local line = ''
  for i = 1, #legs do
    local leg = legs[i]
    line = line .. (i > 1 and ',["' or '["') .. leg[1] .. '",' .. digits[leg[2]] .. ',' .. digits[leg[3]] .. ']'
  end
  return line
end

local function parts_text(parts)
  local pieces = {}
  for i, part in ipairs(parts) do
    pieces[i] = '[' .. digits[part[1]] .. ',' .. text.quoted(part[2]) .. ',' .. text.quoted(part[3]) .. ']'
  end
  return table.concat(pieces, ',')
end

local function head(reservation)
  local ended = ''
  if reservation.ended_sequence then
    ended = format(',"ended_sequence":%d,"settled_at_ms":%d', reservation.ended_sequence, reservation.settled_at_ms)
    if reservation.cancel_cause then
      ended = ended .. text.member('cancel_cause', reservation.cancel_cause)
        .. text.member('cancel_reason', reservation.cancel_reason)
    end
  end
  local held = reservation.held
  return HEAD .. reservation.status .. '","reserved":' .. digits[reservation.reserved]
    .. (reservation.captured > 0 and ',"captured":' .. digits[reservation.captured] or '')
    .. (reservation.charged > 0 and ',"charged":' .. digits[reservation.charged] or '')
    .. (reservation.released > 0 and ',"released":' .. digits[reservation.released] or '')
    .. (held > 0 and ',"held":' .. digits[held] .. ',"legs":[' .. legs_text(reservation.legs) .. ']' or '')
    .. format(',"expires_at_ms":%d,"created_at_ms":%d,"reserved_sequence":%d', reservation.expires_at_ms,
      reservation.created_at_ms, reservation.reserved_sequence)
    .. (reservation.bound_sequence and text.member('bound_sequence', reservation.bound_sequence) or '') .. ended
    .. (reservation.late and ',"late":true' or '')
    .. (reservation.extensions and text.member('extensions', reservation.extensions) or '')
    .. (reservation.parts and ',"parts":[' .. parts_text(reservation.parts) .. ']' or '')
end

-- What was agreed on when it was made, as the members that an entry has too. `price`: its text.
function reservations.terms(over_capture, on_expired, price)
  return text.member('over_capture', over_capture) .. text.member('on_expired', on_expired)
    .. (price and ',"price":' .. price or '')
end

local function tail(id, account, references, resource, metadata, terms)
  return TAIL .. id .. '","account":"' .. account .. '"' .. references .. text.member('resource', resource)
    .. (metadata and next(metadata) and ',"metadata":' .. cjson.encode(metadata) or '') .. terms .. '}'
end

-- Members in the order in which the API writes them.
local function price_text(price)
  return '{"model":' .. text.quoted(price.model) .. ',"version":' .. digits[price.version] .. ',"base":"' .. price.base
    .. '","price":"' .. price.price .. '","units":"' .. price.units .. '"}'
end

-- The text of a reservation; `tail` is missing after a change of what stands in it.
function reservations.text(reservation)
  return head(reservation) .. (reservation.tail or tail(reservation.id, reservation.account,
    text.references(reservation.task, reservation.provider, reservation.model), reservation.resource,
    reservation.metadata, reservations.terms(reservation.over_capture, reservation.on_expired,
    reservation.price and price_text(reservation.price))))
end

-- A pending one that `operation` has just made. It is mostly left alone by the rest of the call, so that only its text
-- is made; whoever asks the book for it gets the whole of it, read from there. `references` and `terms`: those of the
-- entry.
function reservations.made(operation, account, legs, deadline_ms, references, terms, sequence)
  local sum, entry = digits[operation.amount], format('%d', sequence)
  local stored = HEAD .. 'pending","reserved":' .. sum .. ',"held":' .. sum .. ',"legs":['
    .. legs_text(legs) .. '],"expires_at_ms":' .. digits[deadline_ms] .. ',"created_at_ms":'
    .. digits[account.shard.now_ms] .. ',"reserved_sequence":' .. entry
    .. (operation.task and ',"bound_sequence":' .. entry or '')
    .. tail(operation.reservation, account.id, references, operation.resource, operation.metadata,
      terms)
  return { id = operation.reservation, shard = account.shard,
           key = keys.reservation(account.shard.number, operation.reservation), account = account.id, stored = stored,
           changed = false, holds_key = false, place = false, expires_at_ms = deadline_ms }
end

-- A stored reservation as the table that operations work on.
function reservations.read(shard, key, stored, format)
  local reservation = cjson.decode(stored)
  if reservation.v ~= format then error('written by another release') end
  reservation.shard, reservation.key, reservation.stored = shard, key, stored
  reservation.captured = reservation.captured or 0
  reservation.charged = reservation.charged or 0
  reservation.released = reservation.released or 0
  reservation.held = reservation.held or 0
  -- Another order of members (somebody's hand, another release) has no tail that could be kept.
  if string.find(stored, HEAD, 1, true) == 1 then
    reservation.tail = string.sub(stored, (string.find(stored, TAIL, 1, true)))
  end
  return reservation
end

-- The rest of one that was made in this call.
function reservations.complete(reservation, format)
  local whole = reservations.read(reservation.shard, reservation.key, reservation.stored, format)
  for name, value in pairs(whole) do reservation[name] = value end
end

return reservations
