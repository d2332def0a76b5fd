--- @include parts/answer
--- @include parts/book
-- Is there enough? Holds are not there to be spent, but somebody who has them is told so.
local funds = {}

-- The refusal to take `amount` from what is available, or nil when there is enough.
function funds.shortage(account, amount)
  if account.available >= amount then return nil end
  local facts = { required = amount, available = account.available, held = account.held }
  if account.available < amount - account.held then return answer.refuse('insufficient_credits', facts) end
  facts.open_reservations = account.open_holds
  facts.next_release_at_ms = book.next_release_ms(account)
  return answer.refuse('credits_held', facts)
end

return funds
