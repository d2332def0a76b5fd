--- @include parts/book
--- @include parts/credits
--- @include parts/keys
--- @include parts/text
--- @include parts/lots
-- The entries of this call, and those that the stream still has. `post` is the only place that moves an account.
local journal = {}

local NOBODY = {}
local digits, format = text.digits, string.format
local nonce

-- `nonce` is fresh for each send of a call: it links the call to the one before it.
function journal.open(call)
  nonce = call.nonce
end

-- What is the same for all entries of a shard in this call, as text.
local function at_of(shard)
  if not shard.at then
    shard.at = format(',"at_ms":%d,"incarnation":%d,"nonce":"%s"', shard.now_ms, shard.incarnation, nonce)
  end
  return shard.at
end

local function asked_text(asked)
  local line = text.by(asked.by)
  if asked.key then
    line = line .. ',"key":' .. text.quoted(asked.key) .. ',"fingerprint":"' .. asked.fingerprint .. '"'
  end
  if asked.notes_hash then line = line .. ',"notes":"' .. asked.notes_hash .. '"' end
  return line
end

-- One line of the journal: checks it, then moves the account. Returns the entry, which has a `sequence`, its `line` and
-- `notes` from now on.
--   entry  kind, account, amount, legs; `details`: the members that its kind adds, as text (app/ledger/entries.py);
--          `bucket` and `priority` where the entry sets the priority of a bucket
--   asked  the operation that caused it (key, fingerprint, by, notes), or nil when time did
function journal.post(entry, asked)
  local account = entry.account
  local shard = account.shard
  local by_available, by_held, legs = lots.checked(entry.legs)
  local available, held = account.available + by_available, account.held + by_held
  if held < 0 or (available < 0 and available < -account.settings.overdraft_limit) then error('a balance below its floor') end
  if available > credits.MAX - held then error('a balance above 2^53 - 1') end
  local sequence, version, appended = shard.sequence + 1, account.version + 1, shard.appended
  asked = asked or NOBODY

  local line = '{"v":1,"kind":"' .. entry.kind .. '","account":"' .. account.id
    .. format('","version":%d,"amount":%d,"available":%d,"held":%d,"legs":[', version, entry.amount, available, held)
    .. legs .. ']' .. (entry.details or '') .. asked_text(asked) .. at_of(shard)
    .. (appended[1] and '}' or ',"previous_nonce":"' .. shard.link .. '"}')
  entry.sequence, entry.line, entry.notes = sequence, line, asked.notes

  lots.settle(account, entry.legs, version, entry.bucket, entry.priority)
  account.version, account.available, account.held = version, available, held
  book.change(account)
  shard.sequence = sequence
  shard.bytes = shard.bytes + #line + (asked.notes and #asked.notes or 0)
  if shard.oldest_ms == 0 then shard.oldest_ms = shard.now_ms end
  appended[#appended + 1] = entry
  return entry
end

-- An entry of this shard by its sequence, as `post` returns it; its `line` is nil when it has left the stream.
function journal.entry(shard, sequence)
  local appended = shard.appended
  local first = appended[1]
  if first and sequence >= first.sequence then
    return appended[sequence - first.sequence + 1] or { sequence = sequence }
  end
  local posted, id = { sequence = sequence }, digits[sequence] .. '-0'
  local found = redis.call('XRANGE', keys.journal(shard.number), id, id)[1]
  local fields = found and found[2] or {}
  for i = 1, #fields, 2 do
    if fields[i] == 'entry' then posted.line = fields[i + 1] else posted.notes = fields[i + 1] end
  end
  return posted
end

return journal
