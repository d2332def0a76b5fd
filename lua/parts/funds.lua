--- @include parts/book
-- Is there enough? Holds are not there to be spent, but somebody who has them is told so.
local funds = {}

-- Why `amount` cannot be taken from what is available: a word and its facts, or nil.
function funds.shortage(account, amount)
  if account.available >= amount then return nil end
  local facts = { required = amount, available = account.available, held = account.held }
  if account.available < amount - account.held then return 'insufficient_credits', facts end
  facts.open_reservations = account.open_holds
  facts.next_release_at_ms = book.next_release_ms(account)
  return 'credits_held', facts
end

return funds
