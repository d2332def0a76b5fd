--[[
unbind: let go of a task, if it still belongs to a reservation, which is no more.

KEYS
  1  the task

ARGV
  1  the reservation

REPLIES
  unbound  it does not belong to it any more
  another  it did not; nothing was written
]]
local task = KEYS[1]
local reservation = ARGV[1]

if redis.call('GET', task) ~= reservation then return 'another' end
redis.call('UNLINK', task)
return 'unbound'
