--- @include parts/text
-- What a decision comes to, and how the reply shows it. `app/ledger/replies.py` reads what is written here.
local answer = {}

-- Refused. The word is one of the operation's header; `facts` are numbers and short words.
function answer.refuse(word, facts)
  return { word = word, facts = facts or {} }
end

-- Applied now (`line` is the entry's text), replayed or read.
function answer.ok(result)
  result.word = 'ok'
  return result
end

-- Which reservation it is; the reservation itself lives in another shard.
function answer.located(reservation_id)
  return { word = 'located', reservation_id = reservation_id }
end

-- One list of texts, each once; `index` counts from 0 as Python does.
local function collection()
  local texts, seen = {}, {}
  return texts, function(thing)
    if not thing then return -1 end
    if not seen[thing] then
      texts[#texts + 1] = thing.stored
      seen[thing] = #texts
    end
    return seen[thing] - 1
  end
end

-- The reply of a call that ran. Accounts and reservations are shown as they are after it.
function answer.reply(now_ms, results)
  local accounts, account_index = collection()
  local reservations, reservation_index = collection()
  local pieces = {}
  for i, result in ipairs(results) do
    local replayed = result.replayed and 'true' or 'false'
    if result.word == 'ok' then
      local open = 'null'
      if result.open then
        local indexes = {}
        for j, reservation in ipairs(result.open) do indexes[j] = text.integer(reservation_index(reservation)) end
        open = '[' .. table.concat(indexes, ',') .. ']'
      end
      pieces[i] = string.format('["ok",%d,%s,%d,%d,%s,%s,%s]', result.sequence or 0, result.line or 'null',
        account_index(result.account), reservation_index(result.reservation), replayed,
        result.notes and cjson.encode(result.notes) or 'null', open)
    elseif result.word == 'located' then
      pieces[i] = string.format('["located","%s"]', result.reservation_id)
    else
      pieces[i] = string.format('["no","%s",%s,%s]', result.word, text.object(result.facts), replayed)
    end
  end
  return string.format('["ok",%d,"",[%s],[%s],[%s]]', now_ms, table.concat(pieces, ','), table.concat(accounts, ','),
    table.concat(reservations, ','))
end

-- The reply of a call that did not run.
function answer.unheard(status, now_ms, detail)
  return string.format('["%s",%d,%s,[],[],[]]', status, now_ms, text.quoted(detail or ''))
end

return answer
