--[[
close: let nobody into one shard any more, because it is going to be loaded. Calls name the number under which
they were admitted, and nobody is ever admitted under 0.

KEYS
  1  meta of the shard

ARGV
  1  ledger id
  2  server, as surveyed
  3  sequence, as surveyed: what is loaded follows it; '' when everything is loaded anew, whatever is there
  4  link, as surveyed
  5  the sequence up to which it will be loaded
  6  why, in words; '' leaves what the meta says
  7  loader: the number under which the shard was claimed to be loaded anew, '' otherwise

REPLIES
  closed   only `load` writes into the shard now. Loaded anew: its meta has no sequence until all is there
  moved    this is not what was surveyed, or somebody was given a later number
  beyond   an earlier load went further than this one would: what it wrote cannot be told from what was there
]]
--- @include parts/server
local meta = KEYS[1]
local ledger, surveyed, sequence, link, goal, why = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local loader = ARGV[7]

if server.id() ~= surveyed then return 'moved' end
local is_hash = redis.call('TYPE', meta).ok == 'hash'

if sequence == '' then
  local owner = is_hash and redis.call('HGET', meta, 'ledger')
  if owner and owner ~= ledger then return 'moved' end
  -- Who was stopped for hours must not close what others have loaded and opened since. What is far above is no number.
  for _, field in ipairs({ 'incarnation', 'loader' }) do
    local later = (is_hash and tonumber(redis.call('HGET', meta, field)) or 0) - tonumber(loader)
    if later > 0 and later < 1e9 then return 'moved' end
  end
  redis.call('UNLINK', meta)
  redis.call('HSET', meta, 'ledger', ledger, 'incarnation', '0', 'server', surveyed, 'fence', why, 'loader', loader)
  return 'closed'
end

if not is_hash then return 'moved' end
local found = redis.call('HMGET', meta, 'ledger', 'sequence', 'link', 'goal')
if found[1] ~= ledger or found[2] ~= sequence or found[3] ~= link then return 'moved' end
if (tonumber(found[4]) or 0) > tonumber(goal) then return 'beyond' end
redis.call('HSET', meta, 'incarnation', '0', 'server', surveyed, 'goal', goal)
redis.call('HDEL', meta, 'loader')
return 'closed'
