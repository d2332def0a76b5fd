--[[
find: read a reservation.

FIELDS
  reservation  UUIDv7

REPLIES
  ok                     reservation
  reservation_not_found
]]
return function(operation, shard)
  local reservation = book.reservation(shard, operation.reservation)
  if not reservation then return answer.refuse('reservation_not_found') end
  return answer.ok(nil, nil, reservation)
end
