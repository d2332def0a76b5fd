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
  local account = book.account(shard, operation.account)
  if not account then return answer.refuse('account_unknown') end
  if account.fence then return answer.refuse('ledger_fenced', { why = account.fence }) end
  local short, facts = funds.shortage(account, operation.amount)
  if short then return answer.refuse(short, facts) end

  local posted = journal.post({ kind = 'deducted', account = account, amount = operation.amount,
    legs = lots.take(account, operation.amount), details = text.member('model', operation.model) }, operation)
  return answer.ok({ posted = posted, account = account })
end
