--[[
grant: add credits to a bucket of an account.

FIELDS
  account        who gets the credits
  amount         credits, 1 .. 2^53 - 1
  bucket         which pot
  priority       spending order of the bucket, lower first; omitted: as the bucket has it, new: 100
  expires_at_ms  when the lot lapses, milliseconds; omitted: never
  rollover       so many credits at most of the bucket's lots that lapse earlier move along to this one
  open           the account may be made; set by the ledger once the journal has said that it knows no such account

REPLIES
  ok                entry, account
  account_unknown
  ledger_fenced     why
  account_closed
  already_expired   expires_at_ms, now_ms
  limit_reached     what, limit
  balance_overflow  available, held
]]
return function(operation, shard)
  credits.assert_amount(operation.amount, 1)
  local account = book.account(shard, operation.account)
  if not account and not operation.open then return answer.refuse('account_unknown') end
  account = account or book.new_account(shard, operation.account)
  if account.fence then return answer.refuse('ledger_fenced', { why = account.fence }) end
  local refusal = claims.closed(account)
  if refusal then return refusal end

  local bucket, expires_at_ms = operation.bucket or 'default', operation.expires_at_ms or lots.NEVER
  if expires_at_ms ~= lots.NEVER and expires_at_ms <= shard.now_ms then
    return answer.refuse('already_expired', { expires_at_ms = expires_at_ms, now_ms = shard.now_ms })
  end
  local lot = lots.at(account, bucket, expires_at_ms)
  local legs, moved = moves.rollover(account, lot, operation.rollover or 0)
  legs[#legs + 1] = { lot, operation.amount + moved, 0 }
  legs = moves.repay(account, legs)
  if not lots.fit(account, legs) then
    return answer.refuse('limit_reached', { what = 'lots', limit = lots.MAX })
  end
  if operation.amount > credits.MAX - account.held - account.available then
    return answer.refuse('balance_overflow', { available = account.available, held = account.held })
  end

  local posted = journal.post({ kind = 'granted', account = account, amount = operation.amount,
    legs = legs, bucket = bucket, priority = operation.priority,
    details = text.member('bucket', bucket) .. text.member('priority', operation.priority)
      .. (moved > 0 and text.member('rollover', moved) or '') }, operation)
  book.keep(account)
  return answer.ok(posted, account)
end
