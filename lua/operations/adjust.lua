--[[
adjust: an operator puts right what is wrong with a balance.

FIELDS
  account  whose
  amount   credits, -(2^53 - 1) .. 2^53 - 1, not 0
  bucket   only there; omitted: what comes in goes to `default`, what is taken is taken in spending order
  short    `take`: when there is not enough, what there is; omitted: that is refused

REPLIES
  ok                    entry, account
  account_unknown
  ledger_fenced         why
  account_closed
  limit_reached         what, limit
  balance_overflow      available, held
  credits_held          required, available, held, open_reservations, next_release_at_ms
  insufficient_credits  required, available, held
]]
local function add(account, amount, bucket)
  local legs = moves.repay(account, { { lots.at(account, bucket or 'default', lots.NEVER), amount, 0 } })
  if not lots.fit(account, legs) then
    return nil, answer.refuse('limit_reached', { what = 'lots', limit = lots.MAX })
  end
  if amount > credits.MAX - account.held - account.available then
    return nil, answer.refuse('balance_overflow', { available = account.available, held = account.held })
  end
  return legs
end

-- How much is missing of what is to be taken, and the refusal that this is where nothing may be missing.
local function missing(account, amount, bucket)
  if not bucket then
    local limit = account.settings.overdraft_limit
    local short = funds.shortage(account, amount, limit)
    return short and amount - limit - account.available or 0, short
  end
  local available = lots.available(account, bucket)
  if available >= amount then return 0 end
  local facts = { required = amount, available = available, held = account.held }
  return amount - available, answer.refuse('insufficient_credits', facts)
end

return function(operation, shard)
  local amount, bucket = operation.amount, operation.bucket
  credits.assert_amount(math.abs(amount), 1)
  local account, refusal = claims.account(operation, shard)
  if not account then return refusal end
  local no = claims.closed(account)
  if no then return no end

  local legs, shortfall = nil, 0
  if amount > 0 then
    legs, no = add(account, amount, bucket)
  else
    shortfall, no = missing(account, -amount, bucket)
    if operation.short == 'take' or not no then
      amount, no = amount + shortfall, nil
      legs = moves.take(account, -amount, nil, bucket)
    end
  end
  if no then return no end
  local posted = journal.post({ kind = 'adjusted', account = account, amount = amount, legs = legs,
    details = text.member('bucket', bucket) .. (shortfall > 0 and text.member('shortfall', shortfall) or '') }, operation)
  return answer.ok(posted, account)
end
