--[[
locate: which reservation does a provider's task belong to? Its shard is the task's.

FIELDS
  task      the provider's id of the work
  provider  whose name space `task` is

REPLIES
  located                reservation
  reservation_not_found
]]
return function(operation, shard)
  local reservation = book.task(shard.number, operation.provider, operation.task)
  if not reservation then return answer.refuse('reservation_not_found') end
  return answer.located(reservation)
end
