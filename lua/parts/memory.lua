--- @include parts/book
--- @include parts/journal
--- @include parts/answer
-- The same request, the same answer. A key belongs to what the request names: an account (`a`) or a
-- reservation (`r`).
local memory = {}

-- Nothing is known for good when these are said: the next attempt may fare otherwise.
local FORGOTTEN = { account_unknown = true, reservation_not_found = true, task_elsewhere = true, ledger_fenced = true,
                    journal_backlogged = true, internal_error = true, idempotency_mismatch = true, later = true,
                    ledger_unavailable = true }

-- The answer that an entry was, with everything as it is now. When the entry has left the stream its text is
-- missing: the journal has it under this sequence.
function memory.replay(shard, sequence, account, reservation)
  return answer.again(journal.entry(shard, sequence), account, reservation)
end

local function subject(operation)
  if operation.reservation and operation.verb ~= 'reserve' then return 'r', operation.reservation end
  return 'a', operation.account
end

-- What a reservation itself knows of a key: the part that was captured under it, however long ago.
local function part_of(shard, reservation_id, key)
  local reservation = book.reservation(shard, reservation_id)
  for _, part in ipairs(reservation and reservation.parts or {}) do
    if part[2] == key then return { s = part[1], f = part[3] } end
  end
end

-- The first answer to this key, or nil when it is new.
function memory.recall(operation, shard)
  local kind, id = subject(operation)
  local record = book.record(shard, kind, id, operation.key)
    or (operation.verb == 'confirm' and part_of(shard, id, operation.key))
  if not record then return nil end
  if record.f ~= operation.fingerprint then return answer.refuse('idempotency_mismatch') end
  if record.w then
    local refusal = answer.refuse(record.w, record.d)
    refusal.replayed = true
    return refusal
  end
  local posted = journal.entry(shard, record.s)
  local reservation_id = kind == 'r' and id
    or (operation.verb == 'reserve' and posted.line and cjson.decode(posted.line).reservation)
  local reservation = reservation_id and book.reservation(shard, reservation_id)
  local account = book.account(shard, kind == 'a' and id or (reservation and reservation.account) or '')
  return answer.again(posted, account, reservation)
end

-- Whether nothing lies between what the journal had when it was asked and what is remembered here. `journaled`: its
-- last entry then (-1: nothing is known of it), and when that was made. What it lacked begins with the next one, and
-- the rest is younger. Half of what is remembered leaves room for clocks that were set, and is far more than the
-- backlog may be old, so that only who stood still for long is refused. An entry that has left the stream may have
-- been as old as that.
function memory.reaches(shard, journaled)
  local sequence, oldest_ms = journaled[1], shard.now_ms - book.REMEMBER_MS / 2
  if sequence >= shard.sequence or journaled[2] >= oldest_ms then return true end
  local following = journal.entry(shard, sequence + 1).line
  return following ~= nil and cjson.decode(following).at_ms >= oldest_ms
end

function memory.remember(operation, shard, result)
  if FORGOTTEN[result.word] or (result.word == 'ok' and not result.posted) then return end
  local kind, id = subject(operation)
  local record = { f = operation.fingerprint }
  if result.word == 'ok' then record.s = result.posted.sequence else record.w, record.d = result.word, result.facts end
  book.remember(shard, kind, id, operation.key, record)
end

return memory
