-- Every name that Lastro gives to something in Redis: `app/ledger/keys.py` in Lua.
-- The braces are the cluster's hash tag: all keys of a shard live in one slot.
local keys = {}

local function in_shard(shard, name)
  return string.format('lastro:{%d}:%s', shard, name)
end

function keys.meta(shard) return in_shard(shard, 'meta') end
function keys.journal(shard) return in_shard(shard, 'journal') end
function keys.due(shard) return in_shard(shard, 'due') end
function keys.aside(shard) return in_shard(shard, 'aside') end
function keys.account(shard, id) return in_shard(shard, 'account:' .. id) end
function keys.reservation(shard, id) return in_shard(shard, 'reservation:' .. id) end
function keys.holds(shard, account) return in_shard(shard, 'holds:' .. account) end
function keys.task(shard, provider, task) return in_shard(shard, 'task:' .. (provider or '') .. ':' .. task) end

-- The length keeps an id and a key that contain colons from meeting another pair.
-- Account ids and reservation ids are ASCII: bytes are characters.
function keys.operation(shard, kind, id, key)
  return in_shard(shard, string.format('operation:%s:%d:%s:%s', kind, #id, id, key))
end

return keys
