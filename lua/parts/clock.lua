-- The server's clock. Nobody else's is ever asked.
local clock = {}

function clock.now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

return clock
