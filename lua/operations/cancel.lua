--[[
cancel: the work will not be done, or has failed. What the reservation holds goes back.

FIELDS
  reservation  UUIDv7
  cause        `failed`; omitted: requested
  reason       for people, shown with the reservation
  account      refuse when the reservation is not this account's

REPLIES
  ok                     entry, account, reservation
  reservation_not_found  foreign
  account_unknown        account
  ledger_fenced          why
  reservation_confirmed  at_ms
  reservation_expired    at_ms
]]
return function(operation, shard)
  local account, reservation = claims.reservation(operation, shard)
  if not account then return reservation end
  if reservation.status == 'confirmed' then
    return answer.refuse('reservation_confirmed', { at_ms = reservation.settled_at_ms })
  end
  if reservation.cancel_cause == 'expired' then
    return answer.refuse('reservation_expired', { at_ms = reservation.settled_at_ms })
  end
  if reservation.status == 'cancelled' then return memory.replay(shard, reservation.ended_sequence, account, reservation) end

  local cause = operation.cause or 'requested'
  local posted = time.cancel(reservation, account, cause, { kind = 'cancelled',
    details = ',"cause":"' .. cause .. '"'
      .. text.references(reservation.task, reservation.provider, reservation.model) }, operation)
  reservation.cancel_reason = operation.reason
  return answer.ok(posted, account, reservation)
end
