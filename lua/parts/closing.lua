--- @include parts/book
--- @include parts/keys
--- @include parts/lots
--- @include parts/text
-- What a call has decided, written at once. `close` builds everything, `write` only sends it: between the two the
-- reply is made, and nothing is read any more once `write` has begun.
local closing = {}

local integer = text.integer

local function account_text(account)
  return '{"v":1,"version":' .. integer(account.version) .. ',"available":' .. integer(account.available) .. ',"held":'
    .. integer(account.held) .. ',"lots":' .. lots.text(account)
    .. (account.open_holds > 0 and text.member('open_holds', account.open_holds) or '')
    .. (account.lapses_at_ms > 0 and text.member('lapses_at_ms', account.lapses_at_ms) or '')
    .. (account.fence and text.member('fence', account.fence) or '') .. '}'
end

-- What is held, and of which lots; what came of the rest. Sums that are 0 are left out.
local function sums_text(reservation)
  local line = ',"reserved":' .. integer(reservation.reserved)
  if reservation.captured > 0 then line = line .. ',"captured":' .. integer(reservation.captured) end
  if reservation.charged > 0 then line = line .. ',"charged":' .. integer(reservation.charged) end
  if reservation.released > 0 then line = line .. ',"released":' .. integer(reservation.released) end
  if reservation.held == 0 then return line end
  local legs = {}
  for i, leg in ipairs(reservation.legs) do
    legs[i] = '["' .. leg[1] .. '",' .. integer(leg[2]) .. ',' .. integer(leg[3]) .. ']'
  end
  return line .. ',"held":' .. integer(reservation.held) .. ',"legs":[' .. table.concat(legs, ',') .. ']'
end

-- The members that not every reservation has.
local function optional_text(reservation)
  local line = text.references(reservation)
  if reservation.bound_sequence then line = line .. text.member('bound_sequence', reservation.bound_sequence) end
  if reservation.ended_sequence then
    line = line .. ',"ended_sequence":' .. integer(reservation.ended_sequence) .. ',"settled_at_ms":'
      .. integer(reservation.settled_at_ms)
  end
  if reservation.cancel_cause then
    line = line .. text.member('cancel_cause', reservation.cancel_cause)
      .. text.member('cancel_reason', reservation.cancel_reason)
  end
  if reservation.resource then line = line .. text.member('resource', reservation.resource) end
  if reservation.metadata and next(reservation.metadata) then
    line = line .. ',"metadata":' .. cjson.encode(reservation.metadata)
  end
  return line
end

local function reservation_text(reservation)
  return '{"v":1,"id":"' .. reservation.id .. '","account":"' .. reservation.account .. '","status":"'
    .. reservation.status .. '"' .. sums_text(reservation) .. ',"expires_at_ms":'
    .. integer(reservation.expires_at_ms) .. ',"created_at_ms":' .. integer(reservation.created_at_ms)
    .. ',"reserved_sequence":' .. integer(reservation.reserved_sequence) .. optional_text(reservation) .. '}'
end

local function record_text(record)
  local answer = record.s and ',"s":' .. integer(record.s)
    or ',"w":"' .. record.w .. '","d":' .. text.object(record.d)
  return '{"f":"' .. record.f .. '"' .. answer .. '}'
end

-- A list of arguments by shard, for one command each.
local function gather(lists, number, first, second)
  local list = lists[number]
  if not list then
    list = {}
    lists[number] = list
  end
  list[#list + 1] = first
  list[#list + 1] = second
end

local function close_accounts(plan)
  for key, account in pairs(book.accounts) do
    if account and account.changed then
      local lapses_at_ms = lots.next_lapse_ms(account)
      if lapses_at_ms > 0 and lapses_at_ms ~= account.lapses_at_ms then
        gather(plan.due, account.shard.number, integer(lapses_at_ms), 'account:' .. account.id)
      elseif lapses_at_ms ~= account.lapses_at_ms then
        gather(plan.not_due, account.shard.number, 'account:' .. account.id)
      end
      account.lapses_at_ms = lapses_at_ms
      account.stored = account_text(account)
      plan.texts[#plan.texts + 1] = key
      plan.texts[#plan.texts + 1] = account.stored
    end
  end
end

local function close_reservations(plan)
  for key, reservation in pairs(book.reservations) do
    if reservation and reservation.changed then
      local number, id = reservation.shard.number, reservation.id
      local member, open = 'reservation:' .. id .. ':' .. reservation.account, keys.holds(number, reservation.account)
      reservation.stored = reservation_text(reservation)
      if reservation.status == 'pending' then
        local deadline = integer(reservation.expires_at_ms)
        plan.texts[#plan.texts + 1] = key
        plan.texts[#plan.texts + 1] = reservation.stored
        if reservation.moved then
          gather(plan.due, number, deadline, member)
          plan.others[#plan.others + 1] = { 'ZADD', open, deadline, id }
        end
      else
        local forgotten_ms = integer(reservation.settled_at_ms + book.REMEMBER_MS)
        plan.others[#plan.others + 1] = { 'SET', key, reservation.stored, 'PXAT', forgotten_ms }
        if reservation.moved then
          gather(plan.not_due, number, member)
          plan.others[#plan.others + 1] = { 'ZREM', open, id }
        end
      end
    end
  end
end

local function close_index(plan)
  for key, record in pairs(book.records) do
    if record and record.changed then
      plan.others[#plan.others + 1] = { 'SET', key, record_text(record), 'PX', integer(book.REMEMBER_MS) }
    end
  end
  for key, task in pairs(book.tasks) do
    if task.keep_until_ms then
      plan.others[#plan.others + 1] = { 'SET', key, task.reservation, 'PXAT', integer(task.keep_until_ms) }
    end
  end
  for _, stray in ipairs(book.aside) do
    plan.others[#plan.others + 1] = { 'ZADD', keys.aside(stray.shard.number), stray.score, stray.member }
    gather(plan.not_due, stray.shard.number, stray.member)
  end
end

local function close_shards(plan, shards, nonce)
  for _, shard in ipairs(shards) do
    local meta = keys.meta(shard.number)
    if #shard.appended > 0 then
      plan.others[#plan.others + 1] = { 'HSET', meta, 'sequence', integer(shard.sequence), 'bytes',
        integer(shard.bytes), 'oldest_ms', integer(shard.oldest_ms), 'link', nonce, 'now_ms', integer(shard.now_ms) }
    else
      plan.others[#plan.others + 1] = { 'HSET', meta, 'now_ms', integer(shard.now_ms), 'fence', shard.fence or '' }
    end
  end
end

-- Everything that this call will write. Afterwards `stored` of accounts and reservations is what Redis will hold.
--   texts         key, text, key, text ... of what never expires
--   due, not_due  by shard: what joins the set and what leaves it
--   others        whole commands
function closing.close(shards, nonce)
  local plan = { texts = {}, due = {}, not_due = {}, others = {} }
  close_accounts(plan)
  close_reservations(plan)
  close_index(plan)
  close_shards(plan, shards, nonce)
  return plan
end

-- A command with any number of arguments, cut where Lua's stack would end.
local function send(command, key, arguments)
  for first = 1, #arguments, 500 do
    local last = math.min(first + 499, #arguments)
    if key then
      redis.call(command, key, unpack(arguments, first, last))
    else
      redis.call(command, unpack(arguments, first, last))
    end
  end
end

-- The only place that writes. The appends come first: they alone can fail on what Redis holds, and that was compared.
function closing.write(shards, plan)
  for _, shard in ipairs(shards) do
    local stream = keys.journal(shard.number)
    for _, entry in ipairs(shard.appended) do
      if entry.notes then
        redis.call('XADD', stream, entry.id, 'entry', entry.line, 'notes', entry.notes)
      else
        redis.call('XADD', stream, entry.id, 'entry', entry.line)
      end
    end
  end
  send('MSET', nil, plan.texts)
  for number, members in pairs(plan.not_due) do send('ZREM', keys.due(number), members) end
  for number, members in pairs(plan.due) do send('ZADD', keys.due(number), members) end
  for _, command in ipairs(plan.others) do redis.call(unpack(command)) end
end

return closing
