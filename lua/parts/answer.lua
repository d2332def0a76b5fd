--- @include parts/book
--- @include parts/text
-- What a decision comes to, and how the reply shows it. `app/ledger/replies.py` reads what is written here.
local answer = {}

local NOTHING = { sequence = 0 }
local digits, format = text.digits, string.format

-- Refused. The word is one of the operation's header; `facts` are numbers and short words.
function answer.refuse(word, facts)
  return { word = word, facts = facts or {} }
end

-- Applied now (`posted` is the entry) or read; with `account` and `reservation` as far as they are shown.
function answer.ok(posted, account, reservation)
  return { word = 'ok', posted = posted, account = account, reservation = reservation }
end

-- The same request again.
function answer.again(posted, account, reservation)
  local result = answer.ok(posted, account, reservation)
  result.replayed = true
  return result
end

-- Which reservation it is; the reservation itself lives in another shard.
function answer.located(reservation_id)
  return { word = 'located', reservation_id = reservation_id }
end

-- The place of a thing in a list of texts, each once, counted from 0 as Python does; -1 for nothing.
local function place(texts, thing)
  if not thing then return -1 end
  if not thing.place then
    texts[#texts + 1] = thing.stored
    thing.place = #texts - 1
  end
  return thing.place
end

-- The open reservations of an account, which were asked for with it: like it, as they are after the call.
local function open_text(account, reservations)
  local places = {}
  for i, id in ipairs(book.open_reservations(account)) do
    places[i] = digits[place(reservations, book.reservation(account.shard, id))]
  end
  return '[' .. table.concat(places, ',') .. ']'
end

-- What the reply says of an operation that was applied, replayed or read. A long text that is joined to another is
-- copied and hashed again by Lua, so that the lines go as they are into one list, which is joined once.
local function append_ok(pieces, result, accounts, reservations)
  local posted, n = result.posted or NOTHING, #pieces
  local rest = ',false,null,null],'
  if result.replayed then
    rest = ',true,' .. (posted.notes and cjson.encode(posted.notes) or 'null') .. ',null],'
  elseif result.open then
    rest = ',false,null,' .. open_text(result.account, reservations) .. '],'
  end
  pieces[n + 1] = format('["ok",%d,', posted.sequence)
  pieces[n + 2] = posted.line or 'null'
  pieces[n + 3] = ',' .. digits[place(accounts, result.account)] .. ',' .. digits[place(reservations, result.reservation)]
    .. rest
end

local function append_refusal(pieces, result)
  pieces[#pieces + 1] = '["no","' .. result.word .. '",' .. text.object(result.facts)
    .. (result.replayed and ',true],' or ',false],')
end

-- Closes a list whose elements each end with a comma.
local function close_list(pieces)
  local last = pieces[#pieces]
  if string.sub(last, -1) == ',' then pieces[#pieces] = string.sub(last, 1, -2) end
end

-- The reply of a call that ran. Accounts and reservations are shown as they are after it.
function answer.reply(now_ms, results)
  local accounts, reservations, pieces = {}, {}, { '["ok",' .. digits[now_ms] .. ',"",[' }
  for i = 1, #results do
    local result = results[i]
    if result.word == 'ok' then
      append_ok(pieces, result, accounts, reservations)
    elseif result.word == 'located' then
      pieces[#pieces + 1] = '["located","' .. result.reservation_id .. '"],'
    else
      append_refusal(pieces, result)
    end
  end
  close_list(pieces)
  for _, texts in ipairs({ accounts, reservations }) do
    pieces[#pieces + 1] = '],['
    for i = 1, #texts do
      if i > 1 then pieces[#pieces + 1] = ',' end
      pieces[#pieces + 1] = texts[i]
    end
  end
  pieces[#pieces + 1] = ']]'
  return table.concat(pieces)
end

-- The reply of a call that did not run.
function answer.unheard(status, now_ms, detail)
  return format('["%s",%d,%s,[],[],[]]', status, now_ms, text.quoted(detail or ''))
end

return answer
