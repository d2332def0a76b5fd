--[[
refund: give back what was spent, all of it or a part.

FIELDS
  account    who gets the credits
  originals  what spent them, the first to be given back first: transaction, left (what left which lot: bucket, expiry,
             credits), refunded (as far as the journal knows), and its references
  amount     credits, 1 .. 2^53 - 1; omitted: all that is left
  bucket     there, never to lapse, instead of the lots that it came from
  refusal    why nothing can be given back of what was named (facts of `not_refundable`); the ledger has looked
  by         who asks; of several entries the first has the key and the notes, the others this only

REPLIES
  ok                   entry (of the first of several), account
  account_unknown
  ledger_fenced        why
  account_closed
  not_refundable       kind, status
  exceeds_transaction  required, refunded, left
  limit_reached        what, limit
  balance_overflow     available, held
]]
-- Of each original: how much was given back before, and how much is to be now.
local function shares(operation, shard)
  local found, spent, before = {}, 0, 0
  for i, original in ipairs(operation.originals) do
    local sum = 0
    for _, lot in ipairs(original.left) do sum = sum + lot[3] end
    local refunded = book.refunded(shard, original.transaction) or original.refunded or 0
    assert(refunded <= sum, 'more was given back than was spent')
    found[i] = { original = original, refunded = refunded, left = sum - refunded }
    spent, before = spent + sum, before + refunded
  end
  local left = spent - before
  local amount = operation.amount or left
  if amount > left or left == 0 then
    return nil, answer.refuse('exceeds_transaction', { required = operation.amount or spent, refunded = before, left = left })
  end
  for _, share in ipairs(found) do
    share.amount = math.min(share.left, amount)
    amount = amount - share.amount
  end
  return found
end

local function legs_of(account, share, bucket)
  return lots.give_back(account, share.original.left, share.refunded, share.amount, bucket)
end

local function post(operation, share, account, asked)
  local original, shard = share.original, account.shard
  local legs = lots.repay(account, legs_of(account, share, operation.bucket))
  local lapsing = lots.lapsing(legs, shard.now_ms)
  local posted = journal.post({ kind = 'refunded', account = account, amount = share.amount, legs = legs,
    details = ',"refund_of":"' .. original.transaction .. '"' .. text.member('bucket', operation.bucket)
      .. text.member('reservation', original.reservation)
      .. text.references(original.task, original.provider, original.model)
      .. (lapsing > 0 and text.member('lapsed', lapsing) or '') }, asked)
  book.give_back(shard, original.transaction, share.refunded + share.amount)
  time.lapse(account)
  return posted
end

return function(operation, shard)
  local account, refusal = claims.account(operation, shard)
  if not account then return refusal end
  local no = claims.closed(account)
  if no then return no end
  if operation.refusal then return answer.refuse('not_refundable', operation.refusal) end
  local found, exceeds = shares(operation, shard)
  if not found then return exceeds end

  local whole, legs = 0, {}
  for _, share in ipairs(found) do
    whole = whole + share.amount
    for _, leg in ipairs(legs_of(account, share, operation.bucket)) do legs[#legs + 1] = leg end
  end
  if not lots.fit(account, lots.repay(account, legs)) then return answer.refuse('limit_reached', { what = 'lots', limit = lots.MAX }) end
  if whole > credits.MAX - account.held - account.available then
    return answer.refuse('balance_overflow', { available = account.available, held = account.held })
  end

  -- The first entry carries the key: it is what a repeated request is answered with.
  local first
  for _, share in ipairs(found) do
    if share.amount > 0 then
      local posted = post(operation, share, account, first and { by = operation.by } or operation)
      first = first or posted
    end
  end
  return answer.ok({ posted = first, account = account })
end
