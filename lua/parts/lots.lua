--- @include parts/text
-- A lot is a bucket's credits of one expiry, a row of the account's `lots`, which stand in spending order:
-- lower priority number first, then soonest expiry (never last), then oldest.
--
-- Debt is a lot of the bucket `overdraft`, below zero, always the last row; while there is one, no other lot has
-- anything available, because whatever comes in repays it first.
--
-- Nothing here changes an account but `settle`, which `journal.post` calls with legs (`parts/moves`) that have been
-- checked.
local lots = { MAX = 64, PRIORITY = 100, NEVER = 0, OVERDRAFT = 'overdraft', BUCKET = 1, EXPIRES = 3, AVAILABLE = 4 }

local OVERDRAFT, LAST_PRIORITY = lots.OVERDRAFT, 1000001

local BUCKET, PRIORITY, EXPIRES, AVAILABLE, HELD, SINCE = 1, 2, 3, 4, 5, 6
local LOT, BY_AVAILABLE, BY_HELD = 1, 2, 3
local digits, format = text.digits, string.format

local function is_empty(lot)
  return lot[AVAILABLE] == 0 and lot[HELD] == 0
end

local function before(a, b)
  if a[PRIORITY] ~= b[PRIORITY] then return a[PRIORITY] < b[PRIORITY] end
  if a[EXPIRES] ~= b[EXPIRES] then
    if a[EXPIRES] == lots.NEVER then return false end
    return b[EXPIRES] == lots.NEVER or a[EXPIRES] < b[EXPIRES]
  end
  if a[SINCE] ~= b[SINCE] then return a[SINCE] < b[SINCE] end
  return text.before(a[BUCKET], b[BUCKET])
end

-- A lot's name in a table.
function lots.place(bucket, expires_at_ms)
  return bucket .. ' ' .. digits[expires_at_ms]
end

-- The priority of a bucket, or nil for one that the account does not have.
function lots.priority(account, bucket)
  for _, lot in ipairs(account.lots) do
    if lot[BUCKET] == bucket then return lot[PRIORITY] end
  end
end

-- The lot of a bucket and expiry, or nil.
function lots.find(account, bucket, expires_at_ms)
  local rows = account.lots
  for i = 1, #rows do
    local lot = rows[i]
    if lot[BUCKET] == bucket and lot[EXPIRES] == expires_at_ms then return lot end
  end
end

-- The same; one that the account does not have yet joins it when a leg is settled on it.
-- Nobody gives to the overdraft: it is repaid.
function lots.at(account, bucket, expires_at_ms)
  if bucket == OVERDRAFT then error('a debt that is none') end
  return lots.find(account, bucket, expires_at_ms)
    or { bucket, lots.priority(account, bucket) or lots.PRIORITY, expires_at_ms, 0, 0, 0 }
end

-- The lot of what is owed; one that the account does not have yet joins it as any other does.
function lots.debt(account)
  local rows = account.lots
  local last = rows[#rows]
  return last and last[BUCKET] == OVERDRAFT and last or { OVERDRAFT, LAST_PRIORITY, lots.NEVER, 0, 0, 0 }
end

-- What is available in a bucket.
function lots.available(account, bucket)
  local available = 0
  for _, lot in ipairs(account.lots) do
    if lot[BUCKET] == bucket then available = available + lot[AVAILABLE] end
  end
  return available
end

-- Whether there is room for all lots that have something after these legs, which may be those of several entries:
-- empty rows make room, and debt takes none.
function lots.fit(account, legs)
  if #account.lots + #legs <= lots.MAX then return true end
  local sums, used = {}, 0
  local function add(lot, credits)
    local place = lots.place(lot[BUCKET], lot[EXPIRES])
    if lot[BUCKET] ~= OVERDRAFT then sums[place] = (sums[place] or 0) + credits end
  end
  for _, lot in ipairs(account.lots) do add(lot, lot[AVAILABLE] + lot[HELD]) end
  for _, leg in ipairs(legs) do add(leg[LOT], leg[BY_AVAILABLE] + leg[BY_HELD]) end
  for _, sum in pairs(sums) do
    if sum ~= 0 then used = used + 1 end
  end
  return used <= lots.MAX
end

-- The soonest expiry of a lot that has something available, 0 when there is none.
function lots.next_lapse_ms(account)
  local soonest, rows = 0, account.lots
  for i = 1, #rows do
    local lot = rows[i]
    if lot[EXPIRES] ~= lots.NEVER and lot[AVAILABLE] > 0 and (soonest == 0 or lot[EXPIRES] < soonest) then
      soonest = lot[EXPIRES]
    end
  end
  return soonest
end

-- A lot that is empty goes, unless it is the last row of its bucket: that stays, without an expiry, so that the
-- bucket keeps its priority. Beyond the limit even those go, oldest first. Debt that is repaid leaves nothing.
local function tidy(account)
  local rows, kept = {}, {}
  for _, lot in ipairs(account.lots) do rows[lot[BUCKET]] = (rows[lot[BUCKET]] or 0) + 1 end
  local excess = #account.lots - (rows[OVERDRAFT] or 0) - lots.MAX
  local empty = {}
  for _, lot in ipairs(account.lots) do
    if is_empty(lot) and lot[BUCKET] == OVERDRAFT then
      rows[OVERDRAFT] = nil
    elseif is_empty(lot) and rows[lot[BUCKET]] > 1 then
      rows[lot[BUCKET]] = rows[lot[BUCKET]] - 1
      excess = excess - 1
    else
      if is_empty(lot) then
        lot[EXPIRES] = lots.NEVER
        empty[#empty + 1] = lot
      end
      kept[#kept + 1] = lot
    end
  end
  if excess > 0 then
    table.sort(empty, function(a, b)
      if a[SINCE] ~= b[SINCE] then return a[SINCE] < b[SINCE] end
      return text.before(a[BUCKET], b[BUCKET])
    end)
    local gone = {}
    for i = 1, excess do gone[empty[i]] = true end
    local rest = {}
    for _, lot in ipairs(kept) do
      if not gone[lot] then rest[#rest + 1] = lot end
    end
    kept = rest
  end
  account.lots = kept
end

-- Moves the lots. `priority`, when given, is set for all lots of `bucket`.
function lots.settle(account, legs, version, bucket, priority)
  local changed = false
  for i = 1, #legs do
    local leg = legs[i]
    local lot = leg[LOT]
    if lot[AVAILABLE] == 0 and lot[HELD] == 0 then
      lot[SINCE] = version
      if not lots.find(account, lot[BUCKET], lot[EXPIRES]) then table.insert(account.lots, lot) end
      changed = true
    end
    lot[AVAILABLE] = lot[AVAILABLE] + leg[BY_AVAILABLE]
    lot[HELD] = lot[HELD] + leg[BY_HELD]
    changed = changed or (lot[AVAILABLE] == 0 and lot[HELD] == 0)
  end
  if priority then
    for _, lot in ipairs(account.lots) do
      if lot[BUCKET] == bucket and lot[PRIORITY] ~= priority then
        lot[PRIORITY] = priority
        changed = true
      end
    end
  end
  if changed then
    tidy(account)
    table.sort(account.lots, before)
  end
end

-- Asserts that legs are possible; returns what they add to available and held, and their text.
function lots.checked(legs)
  local available, held, line = 0, 0, ''
  for i = 1, #legs do
    local leg = legs[i]
    local lot, by_available, by_held = leg[LOT], leg[BY_AVAILABLE], leg[BY_HELD]
    if lot[AVAILABLE] + by_available < 0 and lot[BUCKET] ~= OVERDRAFT then error('a lot below zero') end
    if lot[HELD] + by_held < 0 then error('a lot holding less than nothing') end
    available = available + by_available
    held = held + by_held
    line = line .. (i > 1 and ',["' or '["') .. lot[BUCKET] .. '",' .. digits[lot[EXPIRES]] .. ',' .. digits[by_available]
      .. ',' .. digits[by_held] .. ']'
  end
  return available, held, line
end

-- The rows of an account, without the brackets around them.
function lots.text(account)
  local line, rows = '', account.lots
  for i = 1, #rows do
    local lot = rows[i]
    line = line .. (i > 1 and ',["' or '["') .. lot[BUCKET] .. '",' .. digits[lot[PRIORITY]] .. ',' .. digits[lot[EXPIRES]]
      .. format(',%d,%d,%d]', lot[AVAILABLE], lot[HELD], lot[SINCE])
  end
  return line
end

return lots
