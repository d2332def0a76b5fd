--[[
confirm: the work is done. Spend what the reservation holds, or a part of it.

FIELDS
  reservation   UUIDv7
  amount        credits, 0 .. 2^53 - 1; omitted: all that is held
  final         false: what is not captured stays held; omitted: it goes back
  over_capture  when more is asked for than is held: `reject`, `cap`, `charge`; omitted: the reservation's
  on_expired    after the deadline: `reject`, `charge`; omitted: the reservation's
  account       refuse when the reservation is not this account's
  model         what was used, when it is known better than at the reservation
  key           kept in the reservation when the rest stays held
  fingerprint   with it

REPLIES
  ok                     entry, account, reservation
  reservation_not_found  foreign
  account_unknown        account
  ledger_fenced          why
  reservation_cancelled  cause, at_ms
  reservation_expired    at_ms
  account_closed
  account_frozen
  exceeds_reservation    required, held
  limit_reached          what, limit
  credits_held           required, available, held, open_reservations, next_release_at_ms
  insufficient_credits   required, available, held
]]
local LATE_MAX_MS, PARTS_MAX = 86400000, 100

-- Why one that was cancelled can not be confirmed, or nil: the deadline alone has ended it, and it may be late.
local function ended(operation, reservation, now_ms)
  if reservation.cancel_cause ~= 'expired' then
    return answer.refuse('reservation_cancelled', { cause = reservation.cancel_cause, at_ms = reservation.settled_at_ms })
  end
  local on_expired = operation.on_expired or reservation.on_expired
  if on_expired ~= 'charge' or now_ms > reservation.expires_at_ms + LATE_MAX_MS then
    return answer.refuse('reservation_expired', { at_ms = reservation.settled_at_ms })
  end
end

-- What is taken: of what is held, and of what is available. Late, nothing is held any more.
local function asked_for(operation, reservation, late)
  local held = late and reservation.reserved - reservation.captured or reservation.held
  local amount = operation.amount or held
  credits.assert_amount(amount, 0)
  if amount > held then
    local over_capture = operation.over_capture or reservation.over_capture
    if over_capture == 'cap' then
      amount = held
    elseif over_capture ~= 'charge' then
      return nil, nil, answer.refuse('exceeds_reservation', { required = amount, held = held })
    end
  end
  if late then return 0, amount end
  if amount > held then return held, amount - held end
  return amount, 0
end

local function legs_of(account, reservation, captured, charged, is_part)
  if is_part then return lots.capture(account, reservation.legs, captured) end
  local legs = reservation.legs and lots.repay(account, lots.release(account, reservation.legs, captured)) or {}
  return charged > 0 and lots.joined(legs, lots.take(account, charged)) or legs
end

return function(operation, shard)
  local account, reservation = claims.reservation(operation, shard)
  if not account then return reservation end
  if reservation.status == 'confirmed' then return memory.replay(shard, reservation.ended_sequence, account, reservation) end
  local late = reservation.status == 'cancelled'
  local no = late and ended(operation, reservation, shard.now_ms) or claims.closed(account)
  if late and not no and operation.amount ~= 0 then no = claims.unspendable(account) end
  if no then return no end
  local captured, charged, exceeds = asked_for(operation, reservation, late)
  if exceeds then return exceeds end
  local is_part, parts = operation.final == false and captured < reservation.held, reservation.parts
  if is_part then
    assert(operation.key and captured > 0, 'a part of nothing, or without a key')
    if parts and #parts == PARTS_MAX then
      return answer.refuse('limit_reached', { what = 'parts', limit = PARTS_MAX })
    end
  end
  if charged > 0 then
    no = claims.unspendable(account) or funds.shortage(account, charged, account.overdraft_limit, reservation)
    if no then return no end
  end

  if not late then book.holds(account) end
  local legs, rest = legs_of(account, reservation, captured, charged, is_part)
  local released = (late or is_part) and 0 or reservation.held - captured
  local model = operation.model or reservation.model
  local details = ',"reservation":"' .. reservation.id .. '","captured":' .. text.digits[captured]
    .. ',"charged":' .. text.digits[charged] .. ',"released":' .. text.digits[released]
    .. text.references(reservation.task, reservation.provider, model) .. (late and ',"late":true' or '')
  local posted = journal.post({ kind = 'confirmed', account = account, amount = captured + charged, legs = legs,
    details = details }, operation)
  if model ~= reservation.model then reservation.model, reservation.tail = model, nil end
  reservation.captured = reservation.captured + captured
  reservation.charged = reservation.charged + charged
  reservation.released = reservation.released + released
  if is_part then
    parts = parts or {}
    parts[#parts + 1] = { posted.sequence, operation.key, operation.fingerprint }
    reservation.parts, reservation.held, reservation.legs = parts, reservation.held - captured, rest
    book.change_reservation(reservation)
  else
    reservation.status = 'confirmed'
    if late then
      book.confirm_late(reservation, shard, posted.sequence)
    else
      book.unhold(reservation, account, posted.sequence)
    end
    time.lapse(account)
  end
  return answer.ok({ posted = posted, account = account, reservation = reservation })
end
