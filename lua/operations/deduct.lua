--[[
deduct: spend credits at once.

FIELDS
  account  who pays
  amount   credits, 1 .. 2^53 - 1
  model    what was used, for reports
  price    what the amount was computed from, as JSON

REPLIES
  ok                    entry, account
  account_unknown
  ledger_fenced         why
  account_closed
  account_frozen
  credits_held          required, available, held, open_reservations, next_release_at_ms
  insufficient_credits  required, available, held
]]
return function(operation, shard)
  credits.assert_amount(operation.amount, 1)
  local account, refusal = claims.spender(operation, shard)
  if not account then return refusal end
  local short = funds.shortage(account, operation.amount, account.settings.overdraft_limit)
  if short then return short end

  local details = text.model(operation.model)
  if operation.price then details = details .. ',"price":' .. operation.price end
  local posted = journal.post({ kind = 'deducted', account = account, amount = operation.amount,
    legs = moves.take(account, operation.amount), details = details }, operation)
  return answer.ok(posted, account)
end
