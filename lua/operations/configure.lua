--[[
configure: change settings of an account. What is omitted stays as it is.

FIELDS
  account          whose
  overdraft_limit  credits that may be owed, 0 .. 2^53 - 1
  status           `active`, `frozen` (is not charged) or `closed` (takes nothing)
  low_balance      credits below which whoever watches is told; 0: never
  open             the account may be made; set by the ledger once the journal has said that it knows no such account

REPLIES
  ok                 entry (none where nothing changes), account
  account_unknown
  ledger_fenced      why
  account_closed
  account_not_empty  available, held
  overdraft_in_use   debt
]]
-- What changes, as a table and as text; and all settings as they will be.
local function changes_of(operation, account)
  local present, changes, details = account.settings, {}, ''
  local settings = book.settings(operation.overdraft_limit or present.overdraft_limit,
    operation.status or present.status, operation.low_balance or present.low_balance)
  for _, name in ipairs({ 'overdraft_limit', 'status', 'low_balance' }) do
    if settings[name] ~= present[name] then
      changes[name] = settings[name]
      details = details .. text.member(name, settings[name])
    end
  end
  return changes, details, settings
end

local function refused(account, changes)
  if account.settings.status == 'closed' and not changes.status then return answer.refuse('account_closed') end
  if changes.status == 'closed' and (account.available ~= 0 or account.held ~= 0) then
    return answer.refuse('account_not_empty', { available = account.available, held = account.held })
  end
  if changes.overdraft_limit and account.available < -changes.overdraft_limit then
    return answer.refuse('overdraft_in_use', { debt = -account.available })
  end
end

return function(operation, shard)
  for _, amount in ipairs({ operation.overdraft_limit or 0, operation.low_balance or 0 }) do
    credits.assert_amount(amount, 0)
  end
  local account = book.account(shard, operation.account)
  if not account and not operation.open then return answer.refuse('account_unknown') end
  account = account or book.new_account(shard, operation.account)
  if account.fence then return answer.refuse('ledger_fenced', { why = account.fence }) end
  local changes, details, settings = changes_of(operation, account)
  if account.version > 0 and not next(changes) then return answer.ok(nil, account) end
  local no = refused(account, changes)
  if no then return no end

  local posted = journal.post({ kind = 'configured', account = account, amount = 0, legs = {}, details = details },
    operation)
  account.settings = settings
  book.keep(account)
  return answer.ok(posted, account)
end
