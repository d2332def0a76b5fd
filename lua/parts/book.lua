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

-- A reservation of these members; `stored` is its text in Redis, nil for one that is being made. `moved`: it was made
-- or it ended in this call, so that it joins or leaves `due` and `holds`.
function book.reservation_of(shard, stored, found)
  return { id = found.id, shard = shard, stored = stored, changed = false, moved = false, place = false,
           account = found.account, status = found.status, reserved = found.reserved, captured = found.captured, charged = found.charged,
           released = found.released, held = found.held, legs = found.legs, expires_at_ms = found.expires_at_ms,
           created_at_ms = found.created_at_ms, reserved_sequence = found.reserved_sequence,
           bound_sequence = found.bound_sequence, ended_sequence = found.ended_sequence,
           settled_at_ms = found.settled_at_ms, cancel_cause = found.cancel_cause,
           cancel_reason = found.cancel_reason, task = found.task, provider = found.provider,
           resource = found.resource, model = found.model, metadata = found.metadata }
end

function book.reservation(shard, id)
  local key = keys.reservation(shard.number, id)
  local reservation = reservations[key]
  if reservation == nil then
    local stored = redis.call('GET', key)
    reservation = stored and book.reservation_of(shard, stored, decoded(stored)) or false
    reservations[key] = reservation
  end
  return reservation or nil
end

-- The open reservations of an account: what this call adds to and ends of those in Redis. Whoever is going to `hold`
-- or `unhold` asks for them before it posts, so that it fails before anything has moved or not at all.
function book.holds(account)
  local key = keys.holds(account.shard.number, account.id)
  if not holds[key] then
    redis.call('ZCARD', key)
    holds[key] = { added = {}, ended = {}, endings = 0 }
  end
  return holds[key], key
end

function book.hold(reservation, account)
  reservations[keys.reservation(reservation.shard.number, reservation.id)] = reservation
  book.holds(account).added[reservation.id] = reservation.expires_at_ms
  account.open_holds = account.open_holds + 1
  reservation.changed, reservation.moved = true, true
end

-- The end of a reservation; `sequence` is the entry that ended it.
function book.unhold(reservation, account, sequence)
  local open = book.holds(account)
  if open.added[reservation.id] then
    open.added[reservation.id] = nil
  else
    open.ended[reservation.id] = true
    open.endings = open.endings + 1
  end
  account.open_holds = account.open_holds - 1
  reservation.ended_sequence = sequence
  reservation.settled_at_ms = account.shard.now_ms
  reservation.held = 0
  reservation.legs = {}
  reservation.changed, reservation.moved = true, true
end

-- When the next open reservation of an account ends by itself, in milliseconds, or nil.
function book.next_release_ms(account)
  local open, key = book.holds(account)
  local soonest
  local stored = redis.call('ZRANGE', key, 0, open.endings, 'WITHSCORES')
  for i = 1, #stored, 2 do
    if not open.ended[stored[i]] then
      soonest = tonumber(stored[i + 1])
      break
    end
  end
  for _, deadline in pairs(open.added) do
    if not soonest or deadline < soonest then soonest = deadline end
  end
  return soonest
end

-- The ids of all open reservations of an account, by deadline.
function book.open_reservations(account)
  local open, key = book.holds(account)
  local found = {}
  local stored = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #stored, 2 do
    if not open.ended[stored[i]] then found[#found + 1] = { stored[i], tonumber(stored[i + 1]) } end
  end
  for id, deadline in pairs(open.added) do found[#found + 1] = { id, deadline } end
  table.sort(found, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1]) end)
  local ids = {}
  for i, each in ipairs(found) do ids[i] = each[1] end
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
