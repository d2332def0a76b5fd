--[[
trace: read an entry that the stream still has.

FIELDS
  sequence  its number in the shard

REPLIES
  ok                     entry
  transaction_not_found
]]
return function(operation, shard)
  local posted = journal.entry(shard, operation.sequence)
  if not posted.line then return answer.refuse('transaction_not_found') end
  return answer.ok(posted)
end
