--[[
balance: read an account.

FIELDS
  account  whose
  open     with its open reservations, by deadline, as of the same moment

REPLIES
  ok               account
  account_unknown
  ledger_fenced    why
]]
return function(operation, shard)
  local account, refusal = claims.account(operation, shard)
  if not account then return refusal end
  for _, id in ipairs(operation.open and book.open_reservations(account) or {}) do
    if not book.reservation(shard, id) then
      return answer.refuse('ledger_fenced', { why = 'an open reservation is missing: ' .. id })
    end
  end
  local result = answer.ok(nil, account)
  result.open = operation.open
  return result
end
