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
-- Of each original: how much was given back before, and how much is to be now. No sum of several is needed exactly
-- where it could pass 2^53 - 1.
local function shares(operation, shard)
  local found, seen, amount, spent, before, left = {}, {}, operation.amount, 0, 0, 0
  for i, original in ipairs(operation.originals) do
    local sum, transaction = 0, original.transaction
    for _, lot in ipairs(original.left) do
      credits.assert_amount(lot[3], 1)
      sum = sum + lot[3]
    end
    local refunded = book.refunded(shard, transaction) or original.refunded or 0
    assert(refunded <= sum, 'more was given back than was spent')
    assert(not seen[transaction], 'a transaction is named twice')
    seen[transaction] = true
    found[i] = { original = original, refunded = refunded, left = sum - refunded }
    spent, before, left = spent + sum, before + refunded, left + (sum - refunded)
  end
  if left == 0 or (amount and amount > left) then
    return nil, answer.refuse('exceeds_transaction', { required = amount or spent, refunded = before, left = left })
  end
  for _, share in ipairs(found) do
    share.amount = amount and math.min(share.left, amount) or share.left
    amount = amount and amount - share.amount
  end
  return found
end

local function legs_of(account, share, bucket)
  return moves.give_back(account, share.original.left, share.refunded, share.amount, bucket)
end

local function post(operation, share, account, asked)
  local original, shard = share.original, account.shard
  local legs = moves.repay(account, legs_of(account, share, operation.bucket))
  local lapsing = moves.lapsing(legs, shard.now_ms)
  local posted = journal.post({ kind = 'refunded', account = account, amount = share.amount, legs = legs,
    details = ',"refund_of":"' .. original.transaction .. '"' .. text.member('bucket', operation.bucket)
      .. text.member('reservation', original.reservation)
      .. text.references(original.task, original.provider, original.model)
      .. (lapsing > 0 and text.member('lapsed', lapsing) or '') }, asked)
  book.give_back(shard, original.transaction, share.refunded + share.amount)
  time.lapse(account)
  return posted
end

-- Why all of it together finds no room, or nil.
local function crowded(found, account, bucket)
  local legs, available = {}, account.available
  for _, share in ipairs(found) do
    for _, leg in ipairs(legs_of(account, share, bucket)) do legs[#legs + 1] = leg end
  end
  if not lots.fit(account, moves.repay(account, legs)) then
    return answer.refuse('limit_reached', { what = 'lots', limit = lots.MAX })
  end
  for _, share in ipairs(found) do
    if share.amount > credits.MAX - account.held - available then
      return answer.refuse('balance_overflow', { available = account.available, held = account.held })
    end
    available = available + share.amount
  end
end

return function(operation, shard)
  if operation.amount then credits.assert_amount(operation.amount, 1) end
  local account, refusal = claims.account(operation, shard)
  if not account then return refusal end
  local no = claims.closed(account)
  if no then return no end
  if operation.refusal then return answer.refuse('not_refundable', operation.refusal) end
  local found, exceeds = shares(operation, shard)
  if not found then return exceeds end
  no = crowded(found, account, operation.bucket)
  if no then return no end

  -- The first entry carries the key: it is what a repeated request is answered with.
  local first
  for _, share in ipairs(found) do
    if share.amount > 0 then
      local posted = post(operation, share, account, first and { by = operation.by } or operation)
      first = first or posted
    end
  end
  return answer.ok(first, account)
end
