--[[
fence: make one account refuse, alone, until it is repaired. No entry is written: no credits move.

FIELDS
  account  whose
  reason   in words, for the operator

REPLIES
  ok               account
  account_unknown
]]
return function(operation, shard)
  local account = book.account(shard, operation.account)
  if not account then return answer.refuse('account_unknown') end
  if not account.fence then book.fence(account, operation.reason) end
  return answer.ok(nil, account)
end
