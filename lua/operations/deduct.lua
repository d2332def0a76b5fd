--[[
deduct: spend credits at once.

FIELDS
  account  who pays
  amount   credits, 1 .. 2^53 - 1
  model    what was used, for reports

REPLIES
  ok                    entry, account
  account_unknown
  ledger_fenced         why
  credits_held          required, available, held, open_reservations, next_release_at_ms
  insufficient_credits  required, available, held
]]
return function(operation, shard)
  credits.assert_amount(operation.amount, 1)
  local account, refusal = claims.account(operation, shard)
  if not account then return refusal end
  local short = funds.shortage(account, operation.amount)
  if short then return short end

  local posted = journal.post({ kind = 'deducted', account = account, amount = operation.amount,
    legs = lots.take(account, operation.amount), details = text.model(operation.model) }, operation)
  return answer.ok({ posted = posted, account = account })
end
