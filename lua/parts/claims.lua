--- @include parts/answer
--- @include parts/book
-- Who and what an operation names, in the order in which the API refuses: it exists, it is the caller's, it is served.
-- Each returns what it found, or nil and the refusal.
local claims = {}

function claims.account(operation, shard)
  local account = book.account(shard, operation.account)
  if not account then return nil, answer.refuse('account_unknown') end
  if account.fence then return nil, answer.refuse('ledger_fenced', { why = account.fence }) end
  return account
end

-- The account that is going to be charged, or of which something is going to be set aside.
function claims.spender(operation, shard)
  local account = book.account(shard, operation.account)
  if not account then return nil, answer.refuse('account_unknown') end
  if account.fence then return nil, answer.refuse('ledger_fenced', { why = account.fence }) end
  local status = account.settings.status
  if status == 'active' then return account end
  if status == 'closed' then return nil, answer.refuse('account_closed') end
  return nil, answer.refuse('account_frozen')
end

-- The account, and its reservation.
function claims.reservation(operation, shard)
  local reservation = book.reservation(shard, operation.reservation)
  if not reservation then return nil, answer.refuse('reservation_not_found') end
  if operation.account and operation.account ~= reservation.account then
    return nil, answer.refuse('reservation_not_found', { foreign = 1 })
  end
  local account = book.account(shard, reservation.account)
  if not account then return nil, answer.refuse('account_unknown', { account = reservation.account }) end
  if account.fence then return nil, answer.refuse('ledger_fenced', { why = account.fence }) end
  return account, reservation
end

-- A closed account takes nothing. Returns the refusal, or nil.
function claims.closed(account)
  if account.settings.status == 'closed' then return answer.refuse('account_closed') end
end

-- Neither that nor a frozen one is charged, or has more set aside.
function claims.unspendable(account)
  if account.settings.status == 'closed' then return answer.refuse('account_closed') end
  if account.settings.status == 'frozen' then return answer.refuse('account_frozen') end
end

-- Which reservation has a task, or nil; and whether that is known. Where no call serves two shards the caller has claimed
-- the task in its own shard before (`claimed_until_ms`), or was told who has it (`bound`).
function claims.task(operation, provider, task)
  if operation.task_shard then return book.task(operation.task_shard, provider, task), true end
  return operation.bound, (operation.bound or operation.claimed_until_ms) ~= nil
end

-- The reservation has its task from now on.
function claims.bind(operation, provider, task, reservation)
  if operation.task_shard then book.bind(operation.task_shard, provider, task, reservation) end
end

return claims
