--[[
bind: say which of the provider's tasks (and which of the caller's resources) a reservation pays for.

FIELDS
  reservation  UUIDv7
  task         the provider's id of the work
  provider     whose name space `task` is
  task_shard   where `task` is kept, when this call serves that too; else the task was claimed before:
  claimed_until_ms  until when that is so, by this shard's clock
  bound        the reservation that has the task
  resource     the caller's id of what is made
  account      refuse when the reservation is not this account's

REPLIES
  ok                     entry, account, reservation
  reservation_not_found  foreign
  account_unknown        account
  ledger_fenced          why
  account_closed
  task_conflict          reservation, task
]]
return function(operation, shard)
  local account, reservation = claims.reservation(operation, shard)
  if not account then return reservation end
  local task, provider, resource = operation.task, operation.provider, operation.resource
  local has_task = reservation.task and reservation.task == task and reservation.provider == provider
  if has_task and (not resource or reservation.resource == resource) then
    return memory.replay(shard, reservation.bound_sequence, account, reservation)
  end
  local no = claims.closed(account)
  if no then return no end
  if reservation.task and (not has_task or (resource and reservation.resource)) then
    return answer.refuse('task_conflict', { reservation = reservation.id, task = reservation.task })
  end
  local bound = claims.task(operation, provider, task)
  if bound and bound ~= reservation.id then
    return answer.refuse('task_conflict', { reservation = bound, task = task })
  end

  local posted = journal.post({ kind = 'bound', account = account, amount = 0, legs = {},
    details = ',"reservation":"' .. reservation.id .. '"' .. text.references(task, provider) }, operation)
  reservation.task, reservation.provider = task, provider
  reservation.resource = resource or reservation.resource
  reservation.bound_sequence, reservation.tail = posted.sequence, nil
  book.change_reservation(reservation)
  claims.bind(operation, provider, task, reservation)
  return answer.ok(posted, account, reservation)
end
