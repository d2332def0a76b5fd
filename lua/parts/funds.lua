--- @include parts/answer
--- @include parts/book
-- Is there enough? Holds are not there to be spent, but somebody who has them is told so.
local funds = {}

-- The refusal to take `amount` from what is available, or nil when there is enough. `limit`: how much may be owed
-- afterwards. `own`: the reservation that it is for; what that one holds is no help.
function funds.shortage(account, amount, limit, own)
  local needed = amount - limit
  if account.available >= needed then return nil end
  local held = account.held - (own and own.held or 0)
  local facts = { required = amount, available = account.available, held = held }
  if account.available < needed - held then return answer.refuse('insufficient_credits', facts) end
  facts.open_reservations = account.open_holds - (own and own.held > 0 and 1 or 0)
  facts.next_release_at_ms = book.next_release_ms(account, own and own.id)
  return answer.refuse('credits_held', facts)
end

return funds
