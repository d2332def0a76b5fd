--- @include parts/text
-- A lot is a bucket's credits of one expiry, a row of the account's `lots`, which stand in spending order:
-- lower priority number first, then soonest expiry (never last), then oldest.
--
-- Debt is a lot of the bucket `overdraft`, below zero, always the last row; while there is one, no other lot has
-- anything available, because whatever comes in repays it first.
--
-- Nothing here changes an account but `settle`, which `journal.post` calls with legs that have been checked.
-- A leg is { lot, change of available, change of held }; a lot has one leg at most in an entry.
local lots = { MAX = 64, PRIORITY = 100, NEVER = 0 }

local OVERDRAFT, LAST_PRIORITY = 'overdraft', 1000001

local BUCKET, PRIORITY, EXPIRES, AVAILABLE, HELD, SINCE = 1, 2, 3, 4, 5, 6
local LOT, BY_AVAILABLE, BY_HELD = 1, 2, 3
local digits = text.digits

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
local function place_of(bucket, expires_at_ms)
  return bucket .. ' ' .. digits[expires_at_ms]
end

local function find(account, bucket, expires_at_ms)
  local rows = account.lots
  for i = 1, #rows do
    local lot = rows[i]
    if lot[BUCKET] == bucket and lot[EXPIRES] == expires_at_ms then return lot end
  end
end

-- The priority of a bucket, or nil for one that the account does not have.
function lots.priority(account, bucket)
  for _, lot in ipairs(account.lots) do
    if lot[BUCKET] == bucket then return lot[PRIORITY] end
  end
end

-- The lot of a bucket and expiry; one that the account does not have yet joins it when a leg is settled on it.
-- Nobody gives to the overdraft: it is repaid.
function lots.at(account, bucket, expires_at_ms)
  if bucket == OVERDRAFT then error('a debt that is none') end
  return find(account, bucket, expires_at_ms)
    or { bucket, lots.priority(account, bucket) or lots.PRIORITY, expires_at_ms, 0, 0, 0 }
end

-- The lot of what is owed, or nil.
local function debt_of(account)
  local rows = account.lots
  local last = rows[#rows]
  return last and last[BUCKET] == OVERDRAFT and last or nil
end

-- What is available in a bucket.
function lots.available(account, bucket)
  local available = 0
  for _, lot in ipairs(account.lots) do
    if lot[BUCKET] == bucket then available = available + lot[AVAILABLE] end
  end
  return available
end

-- Legs that take `amount` of what is available, in spending order. The caller has seen that there is enough.
-- `hold`: it is set aside; otherwise it leaves, and what is still missing then becomes debt. `bucket`: from there only.
function lots.take(account, amount, hold, bucket)
  local legs, rows, missing = {}, account.lots, amount
  for i = 1, #rows do
    if missing == 0 then break end
    local lot = rows[i]
    local part = lot[AVAILABLE]
    if part > missing then part = missing end
    if part > 0 and (not bucket or lot[BUCKET] == bucket) then
      legs[#legs + 1] = { lot, -part, hold and part or 0 }
      missing = missing - part
    end
  end
  if missing ~= 0 then
    if hold or bucket or missing ~= amount - math.max(0, account.available) then
      error('an account holds less than it says')
    end
    legs[#legs + 1] = { debt_of(account) or { OVERDRAFT, LAST_PRIORITY, lots.NEVER, 0, 0, 0 }, -missing, 0 }
  end
  return legs
end

-- Whatever comes in repays debt first. Of `legs` it takes what is owed, as a leg of the same entry.
function lots.repay(account, legs)
  if account.available >= 0 then return legs end
  local debt = debt_of(account) or error('a balance below zero without a debt')
  local owed, kept = -debt[AVAILABLE], {}
  for i = 1, #legs do
    local leg = legs[i]
    local part = math.min(owed, math.max(0, leg[BY_AVAILABLE]))
    leg[BY_AVAILABLE] = leg[BY_AVAILABLE] - part
    owed = owed - part
    if leg[BY_AVAILABLE] ~= 0 or leg[BY_HELD] ~= 0 then kept[#kept + 1] = leg end
  end
  local repaid = -debt[AVAILABLE] - owed
  if repaid > 0 then kept[#kept + 1] = { debt, repaid, 0 } end
  return kept
end

-- Two lists of legs as one.
function lots.joined(legs, more)
  for _, leg in ipairs(more) do
    local same
    for _, other in ipairs(legs) do
      if other[LOT] == leg[LOT] then same = other end
    end
    if same then
      same[BY_AVAILABLE] = same[BY_AVAILABLE] + leg[BY_AVAILABLE]
      same[BY_HELD] = same[BY_HELD] + leg[BY_HELD]
    else
      legs[#legs + 1] = leg
    end
  end
  return legs
end

-- Legs that move up to `most` of what is available in a bucket's lots that expire before `lot` along to it, soonest
-- first; and how much that is.
function lots.rollover(account, lot, most)
  local legs, moved = {}, 0
  for _, old in ipairs(account.lots) do
    local part = math.min(old[AVAILABLE], most - moved)
    local is_earlier = old[EXPIRES] ~= lots.NEVER and (lot[EXPIRES] == lots.NEVER or old[EXPIRES] < lot[EXPIRES])
    if old[BUCKET] == lot[BUCKET] and is_earlier and part > 0 then
      legs[#legs + 1] = { old, -part, 0 }
      moved = moved + part
    end
  end
  return legs, moved
end

-- Legs that give back `amount` of what once left, a list of { bucket, expiry, credits }, in reverse; what was given
-- back before (`skip`) is passed over. `bucket`: all of it goes there. What was owed then may have been repaid since.
function lots.give_back(account, left, skip, amount, bucket)
  local legs, found = {}, {}
  for i = #left, 1, -1 do
    local name, expires_at_ms, part = left[i][1], left[i][2], left[i][3]
    local passed = math.min(skip, part)
    skip, part = skip - passed, math.min(part - passed, amount)
    if bucket or name == OVERDRAFT then name, expires_at_ms = bucket or 'default', lots.NEVER end
    if part > 0 then
      local place = place_of(name, expires_at_ms)
      found[place] = found[place] or lots.at(account, name, expires_at_ms)
      legs = lots.joined(legs, { { found[place], part, 0 } })
      amount = amount - part
    end
  end
  if amount ~= 0 then error('more is given back than has left') end
  return legs
end

-- How much of what legs bring goes into lots whose time has come.
function lots.lapsing(legs, now_ms)
  local amount = 0
  for _, leg in ipairs(legs) do
    local expires_at_ms = leg[LOT][EXPIRES]
    if leg[BY_AVAILABLE] > 0 and expires_at_ms ~= lots.NEVER and expires_at_ms <= now_ms then
      amount = amount + leg[BY_AVAILABLE]
    end
  end
  return amount
end

-- Legs that take `capture` credits of what is held and leave the rest held; and that rest.
function lots.capture(account, held, capture)
  local legs, rest = {}, {}
  for i = 1, #held do
    local part = held[i]
    local taken = math.min(part[3], capture)
    if taken > 0 then
      legs[#legs + 1] = { find(account, part[1], part[2]) or error('a hold on a lot that is gone'), 0, -taken }
      capture = capture - taken
    end
    if taken < part[3] then rest[#rest + 1] = { part[1], part[2], part[3] - taken } end
  end
  if capture ~= 0 then error('a reservation holds less than it says') end
  return legs, rest
end

-- Legs that end holds: `capture` credits are taken in the order in which they were held, the rest goes back in
-- reverse. `held` is a reservation's list of { bucket, expiry, credits }. A lot that is both taken from and given
-- back to has one leg.
function lots.release(account, held, capture)
  local legs, whole = {}, {}
  for i = 1, #held do
    local part = held[i]
    local lot = find(account, part[1], part[2]) or error('a hold on a lot that is gone')
    if capture > 0 then
      local taken = part[3]
      if taken > capture then taken = capture end
      capture = capture - taken
      legs[#legs + 1] = { lot, part[3] - taken, -part[3] }
    else
      whole[#whole + 1] = { lot, part[3], -part[3] }
    end
  end
  if capture ~= 0 then error('a reservation holds less than it says') end
  for i = #whole, 1, -1 do legs[#legs + 1] = whole[i] end
  return legs
end

-- Legs that take away what is available in lots whose time has come.
function lots.lapse(account, now_ms)
  local legs, amount, rows = {}, 0, account.lots
  for i = 1, #rows do
    local lot = rows[i]
    if lot[EXPIRES] ~= lots.NEVER and lot[EXPIRES] <= now_ms and lot[AVAILABLE] > 0 then
      legs[#legs + 1] = { lot, -lot[AVAILABLE], 0 }
      amount = amount + lot[AVAILABLE]
    end
  end
  return legs, amount
end

-- Whether there is room for all lots that have something after these legs, which may be those of several entries:
-- empty rows make room, and debt takes none.
function lots.fit(account, legs)
  if #account.lots + #legs <= lots.MAX then return true end
  local sums, used = {}, 0
  local function add(lot, credits)
    local place = place_of(lot[BUCKET], lot[EXPIRES])
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
      if not find(account, lot[BUCKET], lot[EXPIRES]) then table.insert(account.lots, lot) end
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
  local available, held, pieces = 0, 0, {}
  for i = 1, #legs do
    local leg = legs[i]
    local lot, by_available, by_held = leg[LOT], leg[BY_AVAILABLE], leg[BY_HELD]
    if lot[AVAILABLE] + by_available < 0 and lot[BUCKET] ~= OVERDRAFT then error('a lot below zero') end
    if lot[HELD] + by_held < 0 then error('a lot holding less than nothing') end
    available = available + by_available
    held = held + by_held
    pieces[i] = '["' .. lot[BUCKET] .. '",' .. digits[lot[EXPIRES]] .. ',' .. digits[by_available] .. ','
      .. digits[by_held] .. ']'
  end
  return available, held, #legs == 1 and pieces[1] or table.concat(pieces, ',')
end

-- The rows of an account, without the brackets around them.
function lots.text(account)
  local pieces, rows = {}, account.lots
  for i = 1, #rows do
    local lot = rows[i]
    pieces[i] = '["' .. lot[BUCKET] .. '",' .. digits[lot[PRIORITY]] .. ',' .. digits[lot[EXPIRES]] .. ','
      .. digits[lot[AVAILABLE]] .. ',' .. digits[lot[HELD]] .. ',' .. digits[lot[SINCE]] .. ']'
  end
  return #rows == 1 and pieces[1] or table.concat(pieces, ',')
end

-- What legs set aside, as a reservation keeps it: { bucket, expiry, credits } in the order of capture.
function lots.held(legs)
  local held = {}
  for i, leg in ipairs(legs) do held[i] = { leg[LOT][BUCKET], leg[LOT][EXPIRES], leg[BY_HELD] } end
  return held
end

return lots
