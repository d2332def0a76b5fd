--- @include parts/keys
--- @include parts/reservations
--- @include parts/text
-- What a call has read, and what it has decided about it so far. Decisions are made on these tables; `parts/closing`
-- writes what they add up to. Every key that may be written is read here first, so that a wrong type shows before
-- anything has changed.
--
-- `accounts` and `reservations` are those that have changed, in the order in which they did; each shard has all that
-- were loaded, by id (false: there is none).
local book = { FORMAT = 1, REMEMBER_MS = 86400000,
               accounts = {}, reservations = {}, records = {}, tasks = {}, refunds = {}, aside = {} }

local accounts, changed_reservations, records, tasks = book.accounts, book.reservations, book.records, book.tasks

-- The settings of most accounts. A table of settings is never changed: other settings are another table. `text`: those
-- that are not so, as an account's members.
local PLAIN = { overdraft_limit = 0, status = 'active', low_balance = 0, text = '' }

-- Settings, of which those that are nil are plain.
function book.settings(overdraft_limit, status, low_balance)
  local settings = { overdraft_limit = overdraft_limit or 0, status = status or 'active', low_balance = low_balance or 0 }
  local line = ''
  for _, name in ipairs({ 'overdraft_limit', 'status', 'low_balance' }) do
    if settings[name] ~= PLAIN[name] then line = line .. text.member(name, settings[name]) end
  end
  settings.text = line
  return settings
end

-- Tables are made whole: one that grows member by member is copied by Lua each time it is full.
local function account_of(shard, id, key, stored, found)
  local limit, status, low_balance = found.overdraft_limit, found.status, found.low_balance
  return { id = id, shard = shard, key = key, stored = stored, changed = false, place = false, version = found.version,
           available = found.available, held = found.held, lots = found.lots, open_holds = found.open_holds or 0,
           lapses_at_ms = found.lapses_at_ms or 0, fence = found.fence,
           settings = (limit or status or low_balance) and book.settings(limit, status, low_balance) or PLAIN }
end

-- The account as this call has it so far, or nil.
function book.account(shard, id)
  local account = shard.accounts[id]
  if account == nil then
    local key = keys.account(shard.number, id)
    local stored = redis.call('GET', key)
    account = false
    if stored then
      local found = cjson.decode(stored)
      if found.v ~= book.FORMAT then error('written by another release') end
      account = account_of(shard, id, key, stored, found)
    end
    shard.accounts[id] = account
  end
  return account or nil
end

-- An account that is not there yet; it is when something has been posted to it and it was kept.
function book.new_account(shard, id)
  return account_of(shard, id, keys.account(shard.number, id), nil, { version = 0, available = 0, held = 0, lots = {} })
end

function book.keep(account)
  account.shard.accounts[account.id] = account
end

-- The account will be written.
function book.change(account)
  if account.changed then return end
  account.changed = true
  accounts[#accounts + 1] = account
end

-- An account that Redis and the journal may disagree about refuses, alone, until somebody has looked.
function book.fence(account, why)
  account.fence = why
  book.change(account)
end

-- A reservation as this call has it so far, or nil.
function book.reservation(shard, id)
  local reservation = shard.reservations[id]
  if reservation == nil then
    local key = keys.reservation(shard.number, id)
    local stored = redis.call('GET', key)
    reservation = stored and reservations.read(shard, key, stored, book.FORMAT) or false
    shard.reservations[id] = reservation
  elseif reservation and not reservation.status then
    reservations.complete(reservation, book.FORMAT)
  end
  return reservation or nil
end

-- A reservation's id is new, or the caller is wrong.
function book.demand_free(shard, id)
  if shard.reservations[id] or redis.call('EXISTS', keys.reservation(shard.number, id)) == 1 then
    error('a reservation id that is taken')
  end
end

-- The reservation will be written. `holds_key`: of the account's holds, which it joins, leaves or stands in elsewhere,
-- as it does in `due`.
function book.change_reservation(reservation, holds_key)
  if holds_key then reservation.holds_key = holds_key end
  if reservation.changed then return end
  reservation.changed = true
  changed_reservations[#changed_reservations + 1] = reservation
end

-- What this call changes of the open reservations of an account: id to deadline of one that it opened or moved, to
-- false of one that it ended. Whoever is going to change them asks for them before it posts, so that it fails before
-- anything has moved or not at all.
function book.holds(account)
  local open = account.holds
  if not open then
    account.holds_key = keys.holds(account.shard.number, account.id)
    redis.call('ZCARD', account.holds_key)
    open = {}
    account.holds = open
  end
  return open
end

-- A reservation that was just made (`reservations.made`).
function book.hold(reservation, account)
  reservation.shard.reservations[reservation.id] = reservation
  book.holds(account)[reservation.id] = reservation.expires_at_ms
  account.open_holds = account.open_holds + 1
  book.change_reservation(reservation, account.holds_key)
end

-- A pending reservation is due later than it was.
function book.move_deadline(reservation, account, deadline_ms)
  book.holds(account)[reservation.id] = deadline_ms
  reservation.expires_at_ms = deadline_ms
  book.change_reservation(reservation, account.holds_key)
end

-- The end of a reservation; `sequence` is the entry that ended it.
function book.unhold(reservation, account, sequence)
  local open = book.holds(account)
  open[reservation.id] = false
  account.open_holds = account.open_holds - 1
  reservation.ended_sequence = sequence
  reservation.settled_at_ms = account.shard.now_ms
  reservation.held = 0
  reservation.legs = nil
  book.change_reservation(reservation, account.holds_key)
end

-- One that the deadline had ended has a second ending, which is its last.
function book.confirm_late(reservation, shard, sequence)
  reservation.late, reservation.cancel_cause, reservation.cancel_reason = true, nil, nil
  reservation.ended_sequence = sequence
  reservation.settled_at_ms = shard.now_ms
  book.change_reservation(reservation)
end

-- The open reservations of an account as pairs of id and deadline, by deadline. `count`: at most about so many.
local function open_by_deadline(account, count)
  local open = book.holds(account)
  local found, changed = {}, 0
  for id, deadline in pairs(open) do
    changed = changed + 1
    if deadline then found[#found + 1] = { id, deadline } end
  end
  local last = count and changed + count - 1 or -1
  local stored = redis.call('ZRANGE', account.holds_key, 0, last, 'WITHSCORES')
  for i = 1, #stored, 2 do
    if open[stored[i]] == nil then found[#found + 1] = { stored[i], tonumber(stored[i + 1]) } end
  end
  table.sort(found, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return text.before(a[1], b[1])
  end)
  return found
end

-- When the next open reservation of an account ends by itself, in milliseconds, or nil. `but`: not that one.
function book.next_release_ms(account, but)
  for _, each in ipairs(open_by_deadline(account, 2)) do
    if each[1] ~= but then return each[2] end
  end
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

-- The same for a reservation of another shard, which may not have been made yet. It is never kept for less long than it
-- was going to be. `young_ms`: for so long from now nobody can tell whether it will be; false: somebody could before.
-- `request`: who may go on with it meanwhile.
function book.claim(shard, provider, task, reservation_id, keep_ms, young_ms, request)
  local key, now_ms = keys.task(shard.number, provider, task), shard.now_ms
  tasks[key] = { reservation = reservation_id,
                 keep_until_ms = now_ms + math.max(keep_ms, redis.call('PTTL', key)) }
  if young_ms then
    tasks[keys.claim(shard.number, provider, task)] = { reservation = request or '', keep_until_ms = now_ms + young_ms }
  end
end

-- The request by which a task was claimed so lately that its reservation may be on its way ('': none that can be
-- repeated); nil when that is longer ago.
function book.young(shard_number, provider, task)
  local key = keys.claim(shard_number, provider, task)
  local claimed = tasks[key]
  if claimed then return not claimed.gone and claimed.reservation or nil end
  return redis.call('GET', key) or nil
end

-- Nobody has the task.
function book.unbind(shard_number, provider, task)
  tasks[keys.task(shard_number, provider, task)] = { gone = true }
  tasks[keys.claim(shard_number, provider, task)] = { gone = true }
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

-- How much of a transaction was given back so far, or nil when only the journal can know.
function book.refunded(shard, transaction)
  local key = keys.refunded(shard.number, transaction)
  local known = book.refunds[key]
  if known == nil then
    local stored = redis.call('GET', key)
    known = stored and { total = assert(tonumber(stored), 'a sum of refunds that is none') } or false
    book.refunds[key] = known
  end
  return known and known.total or nil
end

function book.give_back(shard, transaction, total)
  book.refunds[keys.refunded(shard.number, transaction)] = { total = total, changed = true }
end

-- A member of `due` that names nothing, or what it names cannot happen.
function book.set_aside(shard, member, score)
  redis.call('ZCARD', keys.aside(shard.number))
  book.aside[#book.aside + 1] = { shard = shard, member = member, score = score }
end

-- Nothing of what was decided is to be written.
function book.drop()
  for _, changes in ipairs({ accounts, changed_reservations, records, tasks, book.refunds, book.aside }) do
    for key in pairs(changes) do changes[key] = nil end
  end
end

return book
