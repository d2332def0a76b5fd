--- @include parts/book
--- @include parts/keys
--- @include parts/lots
--- @include parts/text
--- @include parts/reservations
-- What a call has decided, written at once. `close` builds everything, `write` only sends it: between the two the
-- reply is made, and nothing is read any more once `write` has begun.
local closing = {}

local digits, format = text.digits, string.format

local function account_text(account)
  return format('{"v":1,"version":%d,"available":%d,"held":%d,"lots":[', account.version, account.available, account.held)
    .. lots.text(account) .. ']'
    .. (account.open_holds > 0 and text.member('open_holds', account.open_holds) or '')
    .. (account.lapses_at_ms > 0 and text.member('lapses_at_ms', account.lapses_at_ms) or '')
    .. account.settings.text .. (account.fence and text.member('fence', account.fence) or '') .. '}'
end

local function record_text(record)
  local answer = record.s and ',"s":' .. digits[record.s]
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
  local texts = plan.texts
  for i = 1, #book.accounts do
    local account = book.accounts[i]
    local lapses_at_ms = lots.next_lapse_ms(account)
    if lapses_at_ms ~= account.lapses_at_ms then
      if lapses_at_ms > 0 then
        gather(plan.due, account.shard.number, digits[lapses_at_ms], 'account:' .. account.id)
      else
        gather(plan.not_due, account.shard.number, 'account:' .. account.id)
      end
      account.lapses_at_ms = lapses_at_ms
    end
    account.stored = account_text(account)
    texts[#texts + 1] = account.key
    texts[#texts + 1] = account.stored
  end
end

local function close_reservations(plan)
  local texts, others = plan.texts, plan.others
  for i = 1, #book.reservations do
    local reservation = book.reservations[i]
    local number, id, status = reservation.shard.number, reservation.id, reservation.status
    local member = 'reservation:' .. id .. ':' .. reservation.account
    if status then reservation.stored = reservations.text(reservation) end
    if status == nil or status == 'pending' then
      texts[#texts + 1] = reservation.key
      texts[#texts + 1] = reservation.stored
      if reservation.holds_key then
        local deadline = digits[reservation.expires_at_ms]
        gather(plan.due, number, deadline, member)
        others[#others + 1] = { 'ZADD', reservation.holds_key, deadline, id }
      end
    else
      local forgotten_ms = digits[reservation.settled_at_ms + book.REMEMBER_MS]
      others[#others + 1] = { 'SET', reservation.key, reservation.stored, 'PXAT', forgotten_ms }
      if reservation.holds_key then
        gather(plan.not_due, number, member)
        others[#others + 1] = { 'ZREM', reservation.holds_key, id }
      end
    end
  end
end

local function close_index(plan)
  for key, record in pairs(book.records) do
    if record and record.changed then
      plan.others[#plan.others + 1] = { 'SET', key, record_text(record), 'PX', digits[book.REMEMBER_MS] }
    end
  end
  for key, task in pairs(book.tasks) do
    if task.keep_until_ms then
      plan.others[#plan.others + 1] = { 'SET', key, task.reservation, 'PXAT', digits[task.keep_until_ms] }
    elseif task.gone then
      plan.others[#plan.others + 1] = { 'DEL', key }
    end
  end
  for key, refund in pairs(book.refunds) do
    if refund and refund.changed then
      plan.others[#plan.others + 1] = { 'SET', key, digits[refund.total], 'PX', digits[book.REMEMBER_MS] }
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
      plan.others[#plan.others + 1] = { 'HSET', meta, 'sequence', format('%d', shard.sequence), 'bytes',
        format('%d', shard.bytes), 'oldest_ms', digits[shard.oldest_ms], 'link', nonce, 'now_ms', digits[shard.now_ms] }
    else
      plan.others[#plan.others + 1] = { 'HSET', meta, 'now_ms', digits[shard.now_ms], 'fence', shard.fence or '' }
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
    local stream, appended = keys.journal(shard.number), shard.appended
    for i = 1, #appended do
      local entry = appended[i]
      local id = format('%d-0', entry.sequence)
      if entry.notes then
        redis.call('XADD', stream, id, 'entry', entry.line, 'notes', entry.notes)
      else
        redis.call('XADD', stream, id, 'entry', entry.line)
      end
    end
  end
  send('MSET', nil, plan.texts)
  for number, members in pairs(plan.not_due) do send('ZREM', keys.due(number), members) end
  for number, members in pairs(plan.due) do send('ZADD', keys.due(number), members) end
  local others = plan.others
  for i = 1, #others do redis.call(unpack(others[i])) end
end

return closing
