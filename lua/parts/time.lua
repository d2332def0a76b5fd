--- @include parts/book
--- @include parts/journal
--- @include parts/moves
--- @include parts/keys
--- @include parts/text
-- What time does by itself: holds run out, lots lapse. It has always happened before anything else is decided.
local time = { EVENTS_MAX = 100 }

-- Whatever is available in lots whose time has come is gone, as an entry of its own.
function time.lapse(account)
  local legs, amount = moves.lapse(account, account.shard.now_ms)
  if amount > 0 then journal.post({ kind = 'lapsed', account = account, amount = amount, legs = legs }) end
end

-- What ends a reservation: what it holds goes back, and at once lapses where the lot has lapsed meanwhile.
-- Returns the posted entry.
function time.cancel(reservation, account, cause, entry, asked)
  book.holds(account)
  entry.account, entry.amount = account, reservation.held
  entry.details = ',"reservation":"' .. reservation.id .. '","released":' .. text.digits[reservation.held] .. entry.details
  entry.legs = moves.repay(account, moves.release(account, reservation.legs, 0))
  local posted = journal.post(entry, asked)
  reservation.status, reservation.cancel_cause = 'cancelled', cause
  reservation.released = reservation.released + reservation.held
  book.unhold(reservation, account, posted.sequence)
  time.lapse(account)
  return posted
end

local function expire(reservation, account, deadline_ms)
  assert(reservation.status == 'pending', 'a hold that has ended is due')
  assert(reservation.expires_at_ms == deadline_ms, 'a hold is due at another time than it says')
  time.cancel(reservation, account, 'expired', { kind = 'expired',
    details = text.member('deadline_ms', reservation.expires_at_ms)
      .. text.references(reservation.task, reservation.provider, reservation.model) })
end

-- An account that Redis and the journal may disagree about stands still: what is due of it waits for its repair.
local function demand_open(account)
  assert(not account.fence, 'the account is fenced')
  return account
end

-- A member of `due` is `account:<id>` or `reservation:<id, 36 characters>:<account>`.
local function happen(shard, member, at_ms)
  if string.sub(member, 1, 8) == 'account:' then
    local account = demand_open(book.account(shard, string.sub(member, 9)))
    assert(account.lapses_at_ms == at_ms, 'a lapse is due at another time than the account says')
    time.lapse(account)
  else
    local account = demand_open(book.account(shard, string.sub(member, 50)))
    expire(book.reservation(shard, string.sub(member, 13, 48)), account, at_ms)
  end
end

-- What is due and cannot happen is kept for the operator, and whoever it concerns is refused until it is looked at.
local function set_aside(shard, member, score)
  book.set_aside(shard, member, score)
  local id = string.sub(member, 1, 8) == 'account:' and string.sub(member, 9) or string.sub(member, 50)
  local loaded, account = pcall(book.account, shard, id)
  if loaded and account and not account.fence then book.fence(account, 'something due is missing or wrong: ' .. member) end
end

-- Lets happen what is due, oldest first, at most EVENTS_MAX. Returns whether more is due.
function time.pass(shard)
  local due = redis.call('ZRANGEBYSCORE', keys.due(shard.number), '-inf', string.format('%d', shard.now_ms),
    'WITHSCORES', 'LIMIT', 0, time.EVENTS_MAX + 1)
  for i = 1, math.min(#due, 2 * time.EVENTS_MAX), 2 do
    local sequence = shard.sequence
    local happened, why = pcall(happen, shard, due[i], tonumber(due[i + 1]))
    if not happened then
      if shard.sequence ~= sequence then error(why, 0) end
      set_aside(shard, due[i], due[i + 1])
    end
  end
  return #due > 2 * time.EVENTS_MAX
end

return time
