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
local digits = text.digits

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
  local amount = held
  if operation.amount then
    amount = operation.amount
    credits.assert_amount(amount, 0)
  end
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
    no = claims.unspendable(account)
      or funds.shortage(account, charged, account.settings.overdraft_limit, reservation)
    if no then return no end
  end

  local legs, rest, released = nil, nil, 0
  if is_part then
    legs, rest = moves.capture(account, reservation.legs, captured)
  elseif late then
    legs = moves.take(account, charged)
  else
    book.holds(account)
    released = reservation.held - captured
    legs = moves.repay(account, moves.release(account, reservation.legs, captured))
    if charged > 0 then legs = moves.joined(legs, moves.take(account, charged)) end
  end
  local model = operation.model or reservation.model
  local details = ',"reservation":"' .. reservation.id .. '","captured":' .. digits[captured]
    .. ',"charged":' .. digits[charged] .. ',"released":' .. digits[released]
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
    if released > 0 then time.lapse(account) end
  end
  return answer.ok(posted, account, reservation)
end
