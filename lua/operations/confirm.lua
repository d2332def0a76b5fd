--[[
confirm: the work is done. Spend what the reservation holds, or a part of it; the rest goes back.

FIELDS
  reservation  UUIDv7
  amount       credits, 0 .. 2^53 - 1; omitted: all that is held
  account      refuse when the reservation is not this account's
  model        what was used, when it is known better than at the reservation

REPLIES
  ok                     entry, account, reservation
  reservation_not_found  foreign
  account_unknown        account
  ledger_fenced          why
  reservation_cancelled  cause, at_ms
  reservation_expired    at_ms
  exceeds_reservation    required, held
]]
return function(operation, shard)
  local account, reservation = claims.reservation(operation, shard)
  if not account then return reservation end
  if reservation.status == 'confirmed' then return memory.replay(shard, reservation.ended_sequence, account, reservation) end
  if reservation.cancel_cause == 'expired' then
    return answer.refuse('reservation_expired', { at_ms = reservation.settled_at_ms })
  end
  if reservation.status == 'cancelled' then
    return answer.refuse('reservation_cancelled', { cause = reservation.cancel_cause, at_ms = reservation.settled_at_ms })
  end
  local amount = operation.amount or reservation.held
  credits.assert_amount(amount, 0)
  if amount > reservation.held then
    return answer.refuse('exceeds_reservation', { required = amount, held = reservation.held })
  end

  book.holds(account)
  local released = reservation.held - amount
  local model = operation.model or reservation.model
  local details = ',"reservation":"' .. reservation.id .. '","captured":' .. text.digits[amount]
    .. ',"charged":0,"released":' .. text.digits[released] .. text.references(reservation.task, reservation.provider, model)
  local posted = journal.post({ kind = 'confirmed', account = account, amount = amount,
    legs = lots.release(account, reservation.legs, amount), details = details }, operation)
  reservation.status = 'confirmed'
  if model ~= reservation.model then reservation.model, reservation.tail = model, nil end
  reservation.captured = reservation.captured + amount
  reservation.released = reservation.released + released
  book.unhold(reservation, account, posted.sequence)
  time.lapse(account)
  return answer.ok({ posted = posted, account = account, reservation = reservation })
end
