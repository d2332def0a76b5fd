--- @include parts/lots
-- Where credits come from and go to: the legs of an entry, { lot, change of available, change of held }. A lot has
-- one leg at most in an entry.
--
-- Nothing here changes an account: legs are checked and settled by `journal.post`.
local moves = {}

local BUCKET, EXPIRES, AVAILABLE = lots.BUCKET, lots.EXPIRES, lots.AVAILABLE
local LOT, BY_AVAILABLE, BY_HELD = 1, 2, 3

-- Legs that take `amount` of what is available, in spending order. The caller has seen that there is enough.
-- `hold`: it is set aside; otherwise it leaves, and what is still missing then becomes debt. `bucket`: from there only.
function moves.take(account, amount, hold, bucket)
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
    legs[#legs + 1] = { lots.debt(account), -missing, 0 }
  end
  return legs
end

-- Whatever comes in repays debt first. Of `legs` it takes what is owed, as a leg of the same entry.
function moves.repay(account, legs)
  if account.available >= 0 then return legs end
  local debt = lots.debt(account)
  local owed, kept = -debt[AVAILABLE], {}
  if owed == 0 then error('a balance below zero without a debt') end
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
function moves.joined(legs, more)
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
function moves.rollover(account, lot, most)
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
function moves.give_back(account, left, skip, amount, bucket)
  local legs, found = {}, {}
  for i = #left, 1, -1 do
    local name, expires_at_ms, part = left[i][1], left[i][2], left[i][3]
    local passed = math.min(skip, part)
    skip, part = skip - passed, math.min(part - passed, amount)
    if bucket or name == lots.OVERDRAFT then name, expires_at_ms = bucket or 'default', lots.NEVER end
    if part > 0 then
      local place = lots.place(name, expires_at_ms)
      found[place] = found[place] or lots.at(account, name, expires_at_ms)
      legs = moves.joined(legs, { { found[place], part, 0 } })
      amount = amount - part
    end
  end
  if amount ~= 0 then error('more is given back than has left') end
  return legs
end

-- How much of what legs bring goes into lots whose time has come.
function moves.lapsing(legs, now_ms)
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
function moves.capture(account, held, capture)
  local legs, rest = {}, {}
  for i = 1, #held do
    local part = held[i]
    local taken = math.min(part[3], capture)
    if taken > 0 then
      legs[#legs + 1] = { lots.find(account, part[1], part[2]) or error('a hold on a lot that is gone'), 0, -taken }
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
function moves.release(account, held, capture)
  local legs, whole = {}, {}
  for i = 1, #held do
    local part = held[i]
    local lot = lots.find(account, part[1], part[2]) or error('a hold on a lot that is gone')
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
function moves.lapse(account, now_ms)
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

-- What legs set aside, as a reservation keeps it: { bucket, expiry, credits } in the order of capture.
function moves.held(legs)
  local held = {}
  for i, leg in ipairs(legs) do held[i] = { leg[LOT][BUCKET], leg[LOT][EXPIRES], leg[BY_HELD] } end
  return held
end

return moves
