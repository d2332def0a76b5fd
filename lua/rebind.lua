--[[
rebind: bring back the binding of a task to a reservation, unless another one has it by now.

KEYS
  1  the task

ARGV
  1  the reservation
  2  when it is forgotten, in milliseconds; one that is there is not forgotten sooner than it was going to be

REPLIES
  bound    the reservation has it
  another  another one has; nothing was written
]]
local task = KEYS[1]
local reservation, forgotten_at_ms = ARGV[1], ARGV[2]

if redis.call('SET', task, reservation, 'NX', 'PXAT', forgotten_at_ms) then return 'bound' end
if redis.call('GET', task) ~= reservation then return 'another' end
redis.call('PEXPIREAT', task, forgotten_at_ms, 'GT')
return 'bound'
