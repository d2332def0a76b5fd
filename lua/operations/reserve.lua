--[[
reserve: set credits aside for one piece of work. Nothing is spent yet.

FIELDS
  account      who pays when the work succeeds
  reservation  UUIDv7, carries the shard
  amount       credits, 1 .. 2^53 - 1
  ttl_ms       milliseconds from now, 1,000 .. 86,400,000; omitted: 1,800,000
  holds_max    how many open reservations an account may have; omitted: 10,000
  task         the provider's id of the work, when it is known already
  provider     whose name space `task` is
  task_shard   where `task` is kept, when this call serves that too; else the task was claimed before:
  claimed_until_ms  until when that is so, by this shard's clock
  bound        the reservation that has the task
  resource     the caller's id of what is made
  model        what is used, for reports
  metadata     strings by name, shown with the reservation
  over_capture what a confirm of more than is held does, when it does not say: `cap`, `charge`; omitted: reject
  on_expired   what a confirm after the deadline does, when it does not say: `charge`; omitted: reject
  price        what the amount was computed from, as JSON

REPLIES
  ok                    entry, account, reservation
  account_unknown
  ledger_fenced         why
  account_closed
  account_frozen
  task_conflict         reservation
  limit_reached         what, limit
  credits_held          required, available, held, open_reservations, next_release_at_ms
  insufficient_credits  required, available, held
]]
return function(operation, shard)
  credits.assert_amount(operation.amount, 1)
  local account, refusal = claims.spender(operation, shard)
  if not account then return refusal end
  local task, provider = operation.task, operation.provider
  local bound = task and claims.task(operation, provider, task)
  if bound then return answer.refuse('task_conflict', { reservation = bound }) end
  local holds_max = operation.holds_max or 10000
  if account.open_holds >= holds_max then
    return answer.refuse('limit_reached', { what = 'holds', limit = holds_max })
  end
  local short = funds.shortage(account, operation.amount, 0)
  if short then return short end

  book.demand_free(shard, operation.reservation)
  book.holds(account)
  local legs = moves.take(account, operation.amount, 'hold')
  local deadline_ms = shard.now_ms + (operation.ttl_ms or 1800000)
  local references = text.references(task, provider, operation.model)
  local over_capture, on_expired, price = operation.over_capture, operation.on_expired, operation.price
  local terms = (over_capture or on_expired or price) and reservations.terms(over_capture, on_expired, price) or ''
  local posted = journal.post({ kind = 'reserved', account = account, amount = operation.amount, legs = legs,
    details = ',"reservation":"' .. operation.reservation .. '","deadline_ms":' .. text.digits[deadline_ms]
      .. references .. terms }, operation)
  local reservation = reservations.made(operation, account, moves.held(legs), deadline_ms, references, terms,
    posted.sequence)
  book.hold(reservation, account)
  if task then claims.bind(operation, provider, task, reservation) end
  return answer.ok(posted, account, reservation)
end
