--[[
sweep: let time pass in a shard. Answered when all that is due has happened.

FIELDS
  (none)

REPLIES
  ok
]]
return function()
  return answer.ok()
end
