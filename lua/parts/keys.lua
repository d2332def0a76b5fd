--- @include parts/known
-- Every name that Lastro gives to something in Redis: `app/ledger/keys.py` in Lua.
-- The braces are the cluster's hash tag: all keys of a shard live in one slot.
local keys = {}

local format = string.format
local prefix = known(function(shard) return format('lastro:{%d}:', shard) end)

function keys.meta(shard) return prefix[shard] .. 'meta' end
function keys.journal(shard) return prefix[shard] .. 'journal' end
function keys.due(shard) return prefix[shard] .. 'due' end
function keys.aside(shard) return prefix[shard] .. 'aside' end
function keys.account(shard, id) return prefix[shard] .. 'account:' .. id end
function keys.reservation(shard, id) return prefix[shard] .. 'reservation:' .. id end
function keys.holds(shard, account_id) return prefix[shard] .. 'holds:' .. account_id end
function keys.refunded(shard, transaction) return prefix[shard] .. 'refunded:' .. transaction end
function keys.task(shard, provider, task) return prefix[shard] .. 'task:' .. (provider or '') .. ':' .. task end
function keys.claim(shard, provider, task) return prefix[shard] .. 'claim:' .. (provider or '') .. ':' .. task end

-- The length keeps an id and a key that contain colons from meeting another pair.
-- Account ids and reservation ids are ASCII: bytes are characters.
function keys.operation(shard, kind, id, key)
  return prefix[shard] .. format('operation:%s:%d:', kind, #id) .. id .. ':' .. key
end

return keys
