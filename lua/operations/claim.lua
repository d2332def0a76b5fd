--[[
claim: keep a provider's task for a reservation that lives in another shard. Only where no call serves two shards (a
cluster): there it comes before that reservation is made, bound or extended.

FIELDS
  task         the provider's id of the work
  provider     whose name space `task` is
  reservation  UUIDv7, whose it is to be; it need not have been made
  keep_ms      how long from now the task is kept for it; 0: it is given up
  young_ms     how long its reservation may still be on its way
  request      account and key of the request that claims: repeated, it goes on with the reservation of the first time
  instead_of   the reservation that has it, of which it is known that it was never made

REPLIES
  ok                          it is claimed now, or given up
  located        reservation  it is that reservation's, as it was before
  task_conflict  reservation, young
]]
return function(operation, shard)
  local provider, task, reservation = operation.provider, operation.task, operation.reservation
  local owner = book.task(shard.number, provider, task)
  if operation.keep_ms == 0 then
    if owner == reservation then book.unbind(shard.number, provider, task) end
    return answer.ok()
  end
  local request = owner and book.young(shard.number, provider, task)
  if request and request ~= '' and request == operation.request then reservation = owner end
  if owner and owner ~= reservation and (request or owner ~= operation.instead_of) then
    return answer.refuse('task_conflict', { reservation = owner, young = request and 1 or 0 })
  end
  local young_ms = (request or owner ~= reservation) and operation.young_ms
  book.claim(shard, provider, task, reservation, operation.keep_ms, young_ms, operation.request)
  return owner == reservation and answer.located(reservation) or answer.ok()
end
