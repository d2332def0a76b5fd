--[[
forget: let go of the personal text of a reservation that has ended.

KEYS
  1  the reservation

ARGV
  1  its text, as it was read
  2  the same without what is personal

REPLIES
  forgotten  it is as it shall be, and goes when it was to go
  moved      it is not what was read any more; nothing was written
]]
local reservation = KEYS[1]
local before, after = ARGV[1], ARGV[2]

if redis.call('TYPE', reservation).ok ~= 'string' or redis.call('GET', reservation) ~= before then return 'moved' end
redis.call('SET', reservation, after, 'KEEPTTL')
return 'forgotten'
