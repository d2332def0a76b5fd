--[[
apply: one call of many operations. Admit, let time pass, decide each operation, write once.

KEYS[1]    the lane of the calling process
KEYS[2..]  the meta of each shard concerned, in the order of the call's `shards`
ARGV[1]    the call: ledger, server, nonce, number, deadline_ms, shards (pairs of number and incarnation), backlog_max,
           backlog_bytes_max, atomic (the operations happen all or none), operations

Redis keeps what was written before an error. So decisions are made on tables, and everything is built before the
first write.
]]
--- @include parts/clock
--- @include parts/keys
--- @include parts/text
--- @include parts/admission
--- @include parts/credits
--- @include parts/lots
--- @include parts/moves
--- @include parts/reservations
--- @include parts/book
--- @include parts/journal
--- @include parts/closing
--- @include parts/funds
--- @include parts/claims
--- @include parts/answer
--- @include parts/memory
--- @include parts/time
--- @include operations/*

local BACKLOG_AGE_MAX_MS = 21600000
local LANE_MS = '600000'

local call = cjson.decode(ARGV[1])
local now_ms = clock.now_ms()
journal.open(call)

local shards, why_not, order = admission.admit(call)
if not shards then return answer.unheard('not_admitted', now_ms, why_not) end
if now_ms > call.deadline_ms then return answer.unheard('too_late', now_ms) end
local number = tonumber(redis.call('HGET', KEYS[1], 'number') or 0)
if number == call.number then return redis.call('HGET', KEYS[1], 'reply') end
if number > call.number then return answer.unheard('stale', now_ms) end

-- How far the journal is behind: nil, `spending` (no new work is taken on) or `everything`.
local function backlog(shard)
  local entries, bytes = shard.sequence - shard.journaled, shard.bytes - shard.journaled_bytes
  local age_ms = shard.oldest_ms > 0 and shard.now_ms - shard.oldest_ms or 0
  local fullness = math.max(entries / call.backlog_max, bytes / call.backlog_bytes_max, age_ms / BACKLOG_AGE_MAX_MS)
  if fullness >= 1.1 then return 'everything' end
  if fullness >= 1 then return 'spending' end
end

for _, shard in ipairs(order) do
  shard.now_ms = math.max(now_ms, shard.now_ms)
  shard.fence = shard.fence or admission.stream_fault(shard)
  shard.backlog = backlog(shard)
  if not shard.fence and shard.backlog ~= 'everything' then shard.more_due = time.pass(shard) end
end

local SPENDS = { grant = true, deduct = true, reserve = true }

local function decide(operation)
  local shard = shards[operation.shard]
  if shard.fence then return answer.refuse('ledger_fenced', { shard = shard.number, why = shard.fence }) end
  if shard.backlog == 'everything' then return answer.refuse('journal_backlogged', { shard = shard.number }) end
  if shard.more_due then return answer.refuse('later') end
  local remembered = operation.key and memory.recall(operation, shard)
  if remembered then return remembered end
  if operation.journaled and not memory.reaches(shard, operation.journaled) then
    return answer.refuse('journal_backlogged', { shard = shard.number, cause = 'key' })
  end
  if shard.backlog and SPENDS[operation.verb] then
    return answer.refuse('journal_backlogged', { shard = shard.number })
  end
  if operation.claimed_until_ms and shard.now_ms > operation.claimed_until_ms then
    return answer.refuse('ledger_unavailable', { why = 'the claim of its task is too old' })
  end
  local of_task = operation.task_shard and shards[operation.task_shard]
  if of_task and of_task.fence then
    return answer.refuse('ledger_fenced', { shard = of_task.number, why = of_task.fence })
  end
  local result = operations[operation.verb](operation, shard)
  if operation.key then memory.remember(operation, shard, result) end
  return result
end

-- Each on its own.
local function decide_each()
  local results, asked = {}, call.operations
  for i = 1, #asked do
    local operation = asked[i]
    local shard = shards[operation.shard]
    local sequence = shard and shard.sequence
    local decided, result = pcall(decide, operation)
    -- What has been posted cannot be taken back alone: then nothing of the call is written.
    if not decided and shard and shard.sequence ~= sequence then error(result, 0) end
    results[i] = decided and result or answer.refuse('internal_error', { why = tostring(result) })
  end
  return results
end

-- The same answer to all.
local function refuse_each(word)
  local results = {}
  for i in ipairs(call.operations) do results[i] = answer.refuse(word) end
  return results
end

-- Time must have passed in all shards before all or none is decided.
local function is_more_due()
  for _, shard in ipairs(order) do
    if shard.more_due then return true end
  end
end

-- All or none. When one is refused, nothing that was decided is written, but that this one was refused.
local function decide_together()
  local results, last = {}, nil
  for i, operation in ipairs(call.operations) do
    local decided, result = pcall(decide, operation)
    results[i] = decided and result or answer.refuse('internal_error', { why = tostring(result) })
    if results[i].word ~= 'ok' then
      last = i
      break
    end
  end
  if not last then return results end
  local refused, refusal = call.operations[last], results[last]
  book.drop()
  for _, shard in ipairs(order) do shard.appended = {} end
  results = refuse_each('batch_failed')
  results[last] = refusal
  if refused.key and not refusal.replayed then memory.remember(refused, shards[refused.shard], refusal) end
  return results
end

local results
if not call.atomic then
  results = decide_each()
elseif is_more_due() then
  results = refuse_each('later')
else
  results = decide_together()
end
local plan = closing.close(order, call.nonce)
local reply = answer.reply(now_ms, results)
plan.others[#plan.others + 1] = { 'HSET', KEYS[1], 'number', text.digits[call.number], 'reply', reply }
plan.others[#plan.others + 1] = { 'PEXPIRE', KEYS[1], LANE_MS }
closing.write(order, plan)
return reply
