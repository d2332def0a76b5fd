--- @include parts/keys
-- What a call has read, and what it has decided about it so far. Decisions are made on these tables; `parts/closing`
-- writes what they add up to. Every key that may be written is read here first, so that a wrong type shows before
-- anything has changed.
local book = { FORMAT = 1, REMEMBER_MS = 86400000, accounts = {}, reservations = {}, records = {}, tasks = {}, aside = {} }

local accounts, reservations, records, tasks, holds = book.accounts, book.reservations, book.records, book.tasks, {}

local function decoded(stored)
  local value = cjson.decode(stored)
  assert(value.v == book.FORMAT, 'written by another release')
  return value
end

-- Tables are made whole: one that grows member by member is copied by Lua each time it is full.
local function account_of(shard, id, stored, found)
  return { id = id, shard = shard, stored = stored, changed = false, place = false, version = found.version,
           available = found.available, held = found.held, lots = found.lots, open_holds = found.open_holds or 0,
           lapses_at_ms = found.lapses_at_ms or 0, fence = found.fence }
end

-- The account as this call has it so far, or nil.
function book.account(shard, id)
  local key = keys.account(shard.number, id)
  local account = accounts[key]
  if account == nil then
    local stored = redis.call('GET', key)
    account = stored and account_of(shard, id, stored, decoded(stored)) or false
    accounts[key] = account
  end
  return account or nil
end

-- An account that is not there yet; it is when something has been posted to it and it was kept.
function book.new_account(shard, id)
  return account_of(shard, id, nil, { version = 0, available = 0, held = 0, lots = {} })
end

function book.keep(account)
  accounts[keys.account(account.shard.number, account.id)] = account
end

-- An account that Redis and the journal may disagree about refuses, alone, until somebody has looked.
function book.fence(account, why)
  account.fence = why
  account.changed = true
end

-- A reservation as this call has it so far, or nil. Sums that are 0 are not in its text.
function book.reservation(shard, id)
  local key = keys.reservation(shard.number, id)
  local reservation = reservations[key]
  if reservation == nil then
    local stored = redis.call('GET', key)
    reservation = stored and decoded(stored) or false
    if reservation then
      reservation.shard, reservation.stored = shard, stored
      reservation.captured = reservation.captured or 0
      reservation.charged = reservation.charged or 0
      reservation.released = reservation.released or 0
      reservation.held = reservation.held or 0
    end
    reservations[key] = reservation
  end
  return reservation or nil
end

-- What this call changes of the open reservations of an account: id to deadline of one that it opened, to false of
-- one that it ended. Whoever is going to `hold` or `unhold` asks for them before it posts, so that it fails before
-- anything has moved or not at all.
function book.holds(account)
  local key = keys.holds(account.shard.number, account.id)
  local open = holds[key]
  if not open then
    redis.call('ZCARD', key)
    open = {}
    holds[key] = open
  end
  return open, key
end

-- `moved`: the reservation was opened or ended in this call, so that it joins or leaves `due` and `holds`.
function book.hold(reservation, account)
  reservations[keys.reservation(reservation.shard.number, reservation.id)] = reservation
  book.holds(account)[reservation.id] = reservation.expires_at_ms
  account.open_holds = account.open_holds + 1
  reservation.changed, reservation.moved = true, true
end

-- The end of a reservation; `sequence` is the entry that ended it.
function book.unhold(reservation, account, sequence)
  local open = book.holds(account)
  if open[reservation.id] then open[reservation.id] = nil else open[reservation.id] = false end
  account.open_holds = account.open_holds - 1
  reservation.ended_sequence = sequence
  reservation.settled_at_ms = account.shard.now_ms
  reservation.held = 0
  reservation.legs = nil
  reservation.changed, reservation.moved = true, true
end

-- The open reservations of an account as pairs of id and deadline, by deadline. `count`: at most about so many.
local function open_by_deadline(account, count)
  local open, key = book.holds(account)
  local found, ended = {}, 0
  for id, deadline in pairs(open) do
    if deadline then found[#found + 1] = { id, deadline } else ended = ended + 1 end
  end
  local last = count and ended + count - 1 or -1
  local stored = redis.call('ZRANGE', key, 0, last, 'WITHSCORES')
  for i = 1, #stored, 2 do
    if open[stored[i]] == nil then found[#found + 1] = { stored[i], tonumber(stored[i + 1]) } end
  end
  table.sort(found, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1]) end)
  return found
end

-- When the next open reservation of an account ends by itself, in milliseconds, or nil.
function book.next_release_ms(account)
  local next_one = open_by_deadline(account, 1)[1]
  return next_one and next_one[2]
end

-- The ids of all open reservations of an account, by deadline.
function book.open_reservations(account)
  local ids = {}
  for i, each in ipairs(open_by_deadline(account)) do ids[i] = each[1] end
  return ids
end

-- Which reservation a provider's task names, or nil.
function book.task(shard_number, provider, task)
  local key = keys.task(shard_number, provider, task)
  if tasks[key] == nil then tasks[key] = { reservation = redis.call('GET', key) or nil } end
  return tasks[key].reservation
end

-- The index outlives the reservation's last moment in Redis; from then on the journal is asked.
function book.bind(shard_number, provider, task, reservation)
  tasks[keys.task(shard_number, provider, task)] = {
    reservation = reservation.id,
    keep_until_ms = math.max(reservation.expires_at_ms, reservation.shard.now_ms) + book.REMEMBER_MS,
  }
end

-- What was answered to a key: { f = fingerprint, s = sequence } or { f, w = word, d = facts }, or nil.
function book.record(shard, kind, id, key)
  local name = keys.operation(shard.number, kind, id, key)
  if records[name] == nil then
    local stored = redis.call('GET', name)
    records[name] = stored and cjson.decode(stored) or false
  end
  return records[name] or nil
end

function book.remember(shard, kind, id, key, record)
  record.changed = true
  records[keys.operation(shard.number, kind, id, key)] = record
end

-- A member of `due` that names nothing, or what it names cannot happen.
function book.set_aside(shard, member, score)
  redis.call('ZCARD', keys.aside(shard.number))
  book.aside[#book.aside + 1] = { shard = shard, member = member, score = score }
end

return book
