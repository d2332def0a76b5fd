--[[
limit: may these requests go on? GCRA: of each name it is kept until when all that it was let do is paid for, where one
request is paid for by every interval.

KEYS
  the names that are counted on, each once

ARGV
  of each request, in order, three words
  1  which of KEYS it is counted on
  2  interval in microseconds
  3  how many microseconds may be owed at most

REPLIES
  of each request two numbers: how many microseconds it has to wait (0: it goes on), and how many are owed then
]]
local replies, paid_at, changed = {}, {}, {}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

for i = 1, #ARGV, 3 do
  local name, interval, owed_max = KEYS[tonumber(ARGV[i])], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local paid = paid_at[name] or math.max(now, tonumber(redis.call('GET', name) or 0))
  paid = math.min(paid, now + owed_max) -- a clock that was set back makes nobody wait for it
  local wait = math.max(0, paid + interval - now - owed_max)
  if wait == 0 then
    paid = paid + interval
    changed[name] = true
  end
  paid_at[name] = paid
  replies[#replies + 1] = wait
  replies[#replies + 1] = paid - now
end

for name in pairs(changed) do
  local left_ms = math.ceil((paid_at[name] - now) / 1000)
  redis.call('SET', name, string.format('%d', paid_at[name]), 'PX', string.format('%d', left_ms))
end
return replies
