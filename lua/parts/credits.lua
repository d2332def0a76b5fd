-- Credits are whole numbers up to 2^53 - 1, where a Lua number is still exact. Bounds are compared by
-- subtraction, so that no sum ever leaves the range.
local credits = { MAX = 9007199254740991 }

-- What is asked for has been checked before it came here; a mistake there must not move credits.
function credits.assert_amount(amount, least)
  if type(amount) ~= 'number' or amount < least or amount > credits.MAX or amount % 1 ~= 0 then
    error('an amount that is not a whole number up to 2^53 - 1')
  end
end

return credits
