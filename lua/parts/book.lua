--- @include parts/credits
--- @include parts/keys
--- @include parts/text
--- @include parts/lots
-- What a call has read and what it will write. Decisions are made on these tables; `close` says what they add up
-- to, and nothing is read any more once `write` begins. Every key written has been read in this call, so that a wrong
-- type shows before anything has changed.
local book = { FORMAT = 1, REMEMBER_MS = 86400000 }

local call
local accounts, reservations, records, tasks, holds, asides = {}, {}, {}, {}, {}, {}

function book.open(new_call)
  call = new_call
end

local function decoded(stored)
  local value = cjson.decode(stored)
  assert(value.v == book.FORMAT, 'written by another release')
  return value
end

-- The account as this call has it so far, or nil.
function book.account(shard, id)
  local key = keys.account(shard.number, id)
  local account = accounts[key]
  if account == nil then
    local stored = redis.call('GET', key)
    account = stored and decoded(stored) or false
    if account then
      account.id, account.shard, account.stored = id, shard, stored
      account.open_holds = account.open_holds or 0
      account.lapses_at_ms = account.lapses_at_ms or 0
    end
    accounts[key] = account
  end
  return account or nil
end

-- An account that is not there yet; it is as soon as something has been posted to it and `keep` was called.
function book.new_account(shard, id)
  return { id = id, shard = shard, version = 0, available = 0, held = 0, lots = {}, open_holds = 0, lapses_at_ms = 0 }
end

function book.keep(account)
  accounts[keys.account(account.shard.number, account.id)] = account
end

-- An account that Redis and the journal may disagree about refuses, alone, until somebody has looked.
function book.fence(account, why)
  account.fence = why
  account.changed = true
end

function book.reservation(shard, id)
  local key = keys.reservation(shard.number, id)
  local reservation = reservations[key]
  if reservation == nil then
    local stored = redis.call('GET', key)
    reservation = stored and decoded(stored) or false
    if reservation then reservation.shard, reservation.stored = shard, stored end
    reservations[key] = reservation
  end
  return reservation or nil
end

-- The open reservations of an account by deadline, as Redis has them before this call.
local function holds_of(account)
  local key = keys.holds(account.shard.number, account.id)
  if not holds[key] then
    holds[key] = { size = redis.call('ZCARD', key), added = {}, ended = {}, endings = 0 }
  end
  return holds[key], key
end

function book.hold(reservation, account)
  reservations[keys.reservation(reservation.shard.number, reservation.id)] = reservation
  holds_of(account).added[reservation.id] = reservation.expires_at_ms
  account.open_holds = account.open_holds + 1
  reservation.changed = true
end

-- The end of a reservation; `sequence` is the entry that ended it.
function book.unhold(reservation, account, sequence)
  local open = holds_of(account)
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
  reservation.changed = true
end

-- When the next open reservation of an account ends by itself, in milliseconds, or nil.
function book.next_release_ms(account)
  local open, key = holds_of(account)
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
  local open, key = holds_of(account)
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

-- A member of `due` that names nothing.
function book.set_aside(shard, member, score)
  local key = keys.aside(shard.number)
  redis.call('ZCARD', key)
  asides[#asides + 1] = { shard = shard, member = member, score = score }
end

-- What the journal says of whoever asked: every part that is there.
local function asked_text(asked)
  local line = ''
  if asked.by then line = ',"by":' .. text.quoted(asked.by) end
  if asked.key then
    line = line .. ',"key":' .. text.quoted(asked.key) .. ',"fingerprint":"' .. asked.fingerprint .. '"'
  end
  if asked.notes_hash then line = line .. ',"notes":"' .. asked.notes_hash .. '"' end
  return line
end

local NOBODY = {}

-- One line of the journal: checks it, then moves the account. Returns its sequence and its text.
--   entry  kind, account, amount, legs; `details`: the members that its kind adds, as text (app/ledger/entries.py);
--          `bucket` and `priority` where the entry sets the priority of a bucket
--   asked  the operation that caused it (key, fingerprint, by, notes), or nil when time did
function book.post(entry, asked)
  local account = entry.account
  local shard = account.shard
  local by_available, by_held = lots.sum(entry.legs)
  local available, held = account.available + by_available, account.held + by_held
  assert(available >= 0 and held >= 0, 'a balance below zero')
  assert(available <= credits.MAX - held, 'a balance above 2^53 - 1')
  local sequence, version, appended = shard.sequence + 1, account.version + 1, shard.appended
  asked = asked or NOBODY

  local line = string.format(
    '{"v":%d,"kind":"%s","at_ms":%d,"account":"%s","version":%d,"amount":%d,"available":%d,"held":%d,"legs":%s%s%s%s,'
      .. '"incarnation":%d,"nonce":"%s"}',
    book.FORMAT, entry.kind, shard.now_ms, account.id, version, entry.amount, available, held,
    lots.legs_text(entry.legs), entry.details or '', asked_text(asked),
    appended[1] and '' or text.member('previous_nonce', shard.link), shard.incarnation, call.nonce)

  lots.settle(account, entry.legs, version, entry.bucket, entry.priority)
  account.version, account.available, account.held = version, available, held
  account.changed = true
  shard.sequence = sequence
  shard.bytes = shard.bytes + #line + #(asked.notes or '')
  if shard.oldest_ms == 0 then shard.oldest_ms = shard.now_ms end
  appended[#appended + 1] = { sequence = sequence, id = string.format('%d-0', sequence), line = line,
                              notes = asked.notes }
  return sequence, line
end

-- An entry of this shard by its sequence: its text and notes, or nil when it has left the stream.
function book.entry(shard, sequence)
  for _, entry in ipairs(shard.appended) do
    if entry.sequence == sequence then return entry.line, entry.notes end
  end
  local id = string.format('%d-0', sequence)
  local found = redis.call('XRANGE', keys.journal(shard.number), id, id)[1]
  if not found then return nil end
  local fields = {}
  for i = 1, #found[2], 2 do fields[found[2][i]] = found[2][i + 1] end
  return fields.entry, fields.notes
end

local function account_text(account)
  return string.format('{"v":%d,"version":%d,"available":%d,"held":%d,"lots":%s%s%s%s}', book.FORMAT, account.version,
    account.available, account.held, lots.text(account),
    account.open_holds > 0 and text.member('open_holds', account.open_holds) or '',
    account.lapses_at_ms > 0 and text.member('lapses_at_ms', account.lapses_at_ms) or '',
    text.member('fence', account.fence))
end

local function reservation_text(reservation)
  local legs = {}
  for i, leg in ipairs(reservation.legs) do legs[i] = string.format('["%s",%d,%d]', leg[1], leg[2], leg[3]) end
  return string.format(
    '{"v":%d,"id":"%s","account":"%s","status":"%s","reserved":%d,"captured":%d,"charged":%d,"released":%d,"held":%d,'
      .. '"legs":[%s],"expires_at_ms":%d,"created_at_ms":%d,"reserved_sequence":%d%s%s%s%s%s%s%s%s%s%s}',
    book.FORMAT, reservation.id, reservation.account, reservation.status, reservation.reserved, reservation.captured,
    reservation.charged, reservation.released, reservation.held, table.concat(legs, ','), reservation.expires_at_ms,
    reservation.created_at_ms, reservation.reserved_sequence,
    text.member('bound_sequence', reservation.bound_sequence),
    text.member('ended_sequence', reservation.ended_sequence),
    text.member('settled_at_ms', reservation.settled_at_ms),
    text.member('cancel_cause', reservation.cancel_cause),
    text.member('cancel_reason', reservation.cancel_reason),
    text.member('task', reservation.task),
    text.member('provider', reservation.provider),
    text.member('resource', reservation.resource),
    text.member('model', reservation.model),
    reservation.metadata and ',"metadata":' .. cjson.encode(reservation.metadata) or '')
end

local function record_text(record)
  local answer = record.s and ',"s":' .. text.integer(record.s)
    or ',"w":"' .. record.w .. '","d":' .. text.object(record.d)
  return '{"f":"' .. record.f .. '"' .. answer .. '}'
end

-- Everything that this call will write, built before the first of it is written: `texts` is key, text, key, text ...
-- of what has no expiry, `others` are whole commands. Afterwards `stored` of accounts and reservations is what Redis
-- will hold.
function book.close(shards)
  local texts, others = {}, {}
  local integer = text.integer

  for key, account in pairs(accounts) do
    if account and account.changed then
      local lapses_at_ms = lots.next_lapse_ms(account)
      if lapses_at_ms ~= account.lapses_at_ms then
        local due, member = keys.due(account.shard.number), 'account:' .. account.id
        others[#others + 1] = lapses_at_ms > 0 and { 'ZADD', due, integer(lapses_at_ms), member } or { 'ZREM', due, member }
        account.lapses_at_ms = lapses_at_ms
      end
      account.stored = account_text(account)
      texts[#texts + 1] = key
      texts[#texts + 1] = account.stored
    end
  end

  for key, reservation in pairs(reservations) do
    if reservation and reservation.changed then
      local number, id = reservation.shard.number, reservation.id
      local due, member = keys.due(number), 'reservation:' .. id .. ':' .. reservation.account
      local open, deadline = keys.holds(number, reservation.account), integer(reservation.expires_at_ms)
      reservation.stored = reservation_text(reservation)
      if reservation.status == 'pending' then
        texts[#texts + 1] = key
        texts[#texts + 1] = reservation.stored
        others[#others + 1] = { 'ZADD', due, deadline, member }
        others[#others + 1] = { 'ZADD', open, deadline, id }
      else
        local forgotten_ms = integer(reservation.settled_at_ms + book.REMEMBER_MS)
        others[#others + 1] = { 'SET', key, reservation.stored, 'PXAT', forgotten_ms }
        others[#others + 1] = { 'ZREM', due, member }
        others[#others + 1] = { 'ZREM', open, id }
      end
    end
  end

  for key, record in pairs(records) do
    if record and record.changed then
      others[#others + 1] = { 'SET', key, record_text(record), 'PX', integer(book.REMEMBER_MS) }
    end
  end

  for key, task in pairs(tasks) do
    if task.keep_until_ms then
      others[#others + 1] = { 'SET', key, task.reservation, 'PXAT', integer(task.keep_until_ms) }
    end
  end

  for _, stray in ipairs(asides) do
    others[#others + 1] = { 'ZADD', keys.aside(stray.shard.number), stray.score, stray.member }
    others[#others + 1] = { 'ZREM', keys.due(stray.shard.number), stray.member }
  end

  for _, shard in ipairs(shards) do
    local meta = keys.meta(shard.number)
    if #shard.appended > 0 then
      others[#others + 1] = { 'HSET', meta, 'sequence', integer(shard.sequence), 'bytes', integer(shard.bytes),
        'oldest_ms', integer(shard.oldest_ms), 'link', call.nonce, 'now_ms', integer(shard.now_ms) }
    else
      others[#others + 1] = { 'HSET', meta, 'now_ms', integer(shard.now_ms), 'fence', shard.fence or '' }
    end
  end
  return texts, others
end

-- The only place that writes. The appends come first: they alone can fail on what Redis holds, and that was compared.
function book.write(shards, texts, others)
  for _, shard in ipairs(shards) do
    local journal = keys.journal(shard.number)
    for _, entry in ipairs(shard.appended) do
      if entry.notes then
        redis.call('XADD', journal, entry.id, 'entry', entry.line, 'notes', entry.notes)
      else
        redis.call('XADD', journal, entry.id, 'entry', entry.line)
      end
    end
  end
  for first = 1, #texts, 500 do
    redis.call('MSET', unpack(texts, first, math.min(first + 499, #texts)))
  end
  for _, command in ipairs(others) do redis.call(unpack(command)) end
end

return book
