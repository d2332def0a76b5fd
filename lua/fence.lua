--[[
fence: make one shard refuse.

KEYS
  1  meta of the shard

ARGV
  1  ledger id
  2  why, in words

REPLIES
  fenced    the shard refuses; the first reason stays
  stranger  there is no meta of this ledger to write into; nothing can be served from it either
]]
local meta = KEYS[1]
local ledger, why = ARGV[1], ARGV[2]

if redis.call('TYPE', meta).ok ~= 'hash' or redis.call('HGET', meta, 'ledger') ~= ledger then return 'stranger' end
local fence = redis.call('HGET', meta, 'fence')
if not fence or fence == '' then redis.call('HSET', meta, 'fence', why) end
return 'fenced'
