--[[
extend: the work takes longer. The reservation ends later by itself.

FIELDS
  reservation  UUIDv7
  ttl_ms       milliseconds from now, 1,000 .. 86,400,000
  task_shard   where the task of the reservation is kept, when it has one and this call serves that too; else it was
               claimed before:
  claimed_until_ms  until when that is so, by this shard's clock
  bound        another reservation that has the task by now
  account      refuse when the reservation is not this account's

REPLIES
  ok                     entry, account, reservation
  reservation_not_found  foreign
  account_unknown        account
  ledger_fenced          why
  reservation_confirmed  at_ms
  reservation_cancelled  cause, at_ms
  reservation_expired    at_ms
  account_closed
  account_frozen
  invalid_extension      expires_at_ms, latest_ms
  limit_reached          what, limit
  task_elsewhere         task, provider
]]
local EXTENSIONS_MAX = 100

local function ended(reservation)
  local at_ms, cause = reservation.settled_at_ms, reservation.cancel_cause
  if reservation.status == 'confirmed' then return answer.refuse('reservation_confirmed', { at_ms = at_ms }) end
  if cause == 'expired' then return answer.refuse('reservation_expired', { at_ms = at_ms }) end
  return answer.refuse('reservation_cancelled', { cause = cause, at_ms = at_ms })
end

return function(operation, shard)
  local account, reservation = claims.reservation(operation, shard)
  if not account then return reservation end
  if reservation.status ~= 'pending' then return ended(reservation) end
  local no = claims.unspendable(account)
  if no then return no end
  local deadline_ms, extensions = shard.now_ms + operation.ttl_ms, reservation.extensions or 0
  if deadline_ms < reservation.expires_at_ms then
    return answer.refuse('invalid_extension', { expires_at_ms = reservation.expires_at_ms, latest_ms = deadline_ms })
  end
  if extensions >= EXTENSIONS_MAX then
    return answer.refuse('limit_reached', { what = 'extensions', limit = EXTENSIONS_MAX })
  end
  local task, provider = reservation.task, reservation.provider
  local owner, is_known
  if task then owner, is_known = claims.task(operation, provider, task) end
  if task and not is_known then
    return answer.refuse('task_elsewhere', { task = task, provider = provider or '' })
  end

  book.holds(account)
  local posted = journal.post({ kind = 'extended', account = account, amount = 0, legs = {},
    details = ',"reservation":"' .. reservation.id .. '"' .. text.member('deadline_ms', deadline_ms)
      .. text.references(task, provider, reservation.model) }, operation)
  reservation.extensions = extensions + 1
  book.move_deadline(reservation, account, deadline_ms)
  -- The index lives a day longer than the deadline; one that somebody has bound anew meanwhile is theirs.
  if task and (not owner or owner == reservation.id) then claims.bind(operation, provider, task, reservation) end
  return answer.ok(posted, account, reservation)
end
