--[[
repair: put back what the journal says of an account, and of those of its reservations that are wrong. No credits
move, but it is an entry, so that it is seen that somebody has done it; it lifts the account's fence, unless it is only
a part of what has to be put back.

FIELDS
  account       whose
  found         the version that Redis was seen to have; -1: nothing, or nothing that can be read
  version       the version that the journal has
  available     credits
  held          credits
  open_holds    how many reservations are open
  lots          as an account keeps them
  overdraft_limit  credits that may be owed; omitted: 0
  status        omitted: active
  low_balance   credits; omitted: 0
  reservations  those that are put back, as they should be
  strays        ids of reservations that the journal has never heard of: they go
  refunded      pairs of a transaction and how much of it was given back
  fence         why the account goes on to refuse, or nothing

REPLIES
  ok     entry, account
  moved  version
]]
local function version_of(shard, id)
  local readable, account = pcall(book.account, shard, id)
  return readable and account and account.version or -1
end

-- Joins what is due and the account's holds, or leaves them, whatever was there before.
local function put_back(reservation, account)
  local ended, settled_at_ms = reservation.ended_sequence, reservation.settled_at_ms
  reservation.shard = account.shard
  reservation.key = keys.reservation(account.shard.number, reservation.id)
  book.hold(reservation, account)
  if reservation.status == 'pending' then return end
  book.unhold(reservation, account, ended)
  reservation.settled_at_ms = settled_at_ms
end

return function(operation, shard)
  local version = version_of(shard, operation.account)
  if version ~= operation.found then return answer.refuse('moved', { version = version }) end
  local account = book.new_account(shard, operation.account)
  account.version, account.available, account.held = operation.version, operation.available, operation.held
  account.lots, account.fence = operation.lots, operation.fence
  account.settings = book.settings(operation.overdraft_limit, operation.status, operation.low_balance)
  account.lapses_at_ms = -1 -- as no account has it: so its place in what is due is written anew
  book.holds(account)
  local posted = journal.post({ kind = 'repaired', account = account, amount = 0, legs = {} }, operation)
  for _, reservation in ipairs(operation.reservations or {}) do
    for _, sum in ipairs({ 'captured', 'charged', 'released', 'held' }) do reservation[sum] = reservation[sum] or 0 end
    put_back(reservation, account)
  end
  for _, id in ipairs(operation.strays or {}) do
    -- It ended so long ago that it is forgotten at once.
    put_back({ id = id, account = account.id, status = 'cancelled', reserved = 0, captured = 0, charged = 0,
               released = 0, held = 0, expires_at_ms = 0, created_at_ms = 0, reserved_sequence = 0, ended_sequence = 0,
               settled_at_ms = 0 }, account)
  end
  for _, refund in ipairs(operation.refunded or {}) do book.give_back(shard, refund[1], refund[2]) end
  account.open_holds = operation.open_holds or 0
  book.keep(account)
  return answer.ok(posted, account)
end
