--- @include parts/book
--- @include parts/text
-- What a decision comes to, and how the reply shows it. `app/ledger/replies.py` reads what is written here.
local answer = {}

local NOTHING = { sequence = 0 }
local integer = text.integer

-- Refused. The word is one of the operation's header; `facts` are numbers and short words.
function answer.refuse(word, facts)
  return { word = word, facts = facts or {} }
end

-- Applied now or replayed (`posted` is the entry), or read. `open`: with the account's open reservations.
function answer.ok(result)
  return { word = 'ok', posted = result.posted, account = result.account, reservation = result.reservation,
           open = result.open, replayed = result.replayed }
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
    places[i] = integer(place(reservations, book.reservation(account.shard, id)))
  end
  return '[' .. table.concat(places, ',') .. ']'
end

-- The reply of a call that ran. Accounts and reservations are shown as they are after it.
function answer.reply(now_ms, results)
  local accounts, reservations, pieces = {}, {}, {}
  for i, result in ipairs(results) do
    local replayed = result.replayed and 'true' or 'false'
    if result.word == 'ok' then
      local posted = result.posted or NOTHING
      pieces[i] = '["ok",' .. integer(posted.sequence) .. ',' .. (posted.line or 'null') .. ','
        .. integer(place(accounts, result.account)) .. ',' .. integer(place(reservations, result.reservation)) .. ','
        .. replayed .. ',' .. (result.replayed and posted.notes and cjson.encode(posted.notes) or 'null') .. ','
        .. (result.open and open_text(result.account, reservations) or 'null') .. ']'
    elseif result.word == 'located' then
      pieces[i] = string.format('["located","%s"]', result.reservation_id)
    else
      pieces[i] = string.format('["no","%s",%s,%s]', result.word, text.object(result.facts), replayed)
    end
  end
  return string.format('["ok",%d,"",[', now_ms) .. table.concat(pieces, ',') .. '],[' .. table.concat(accounts, ',')
    .. '],[' .. table.concat(reservations, ',') .. ']]'
end

-- The reply of a call that did not run.
function answer.unheard(status, now_ms, detail)
  return string.format('["%s",%d,%s,[],[],[]]', status, now_ms, text.quoted(detail or ''))
end

return answer
