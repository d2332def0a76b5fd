-- wrk's part: POSTs one prepared body after the other, and sums up as JSON.
-- In the environment: BENCH_TOKEN; BENCH_BODIES, a file of JSON bodies, one a line.
local requests, at = {}, 0

function init(_)
  local headers = { ['Authorization'] = 'Bearer ' .. os.getenv('BENCH_TOKEN'), ['Content-Type'] = 'application/json' }
  for body in io.lines(os.getenv('BENCH_BODIES')) do
    requests[#requests + 1] = wrk.format('POST', wrk.path, headers, body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, _)
  local errors = summary.errors
  print(string.format('BENCH {"requests":%d,"microseconds":%d,"refused":%d,"lost":%d,"p50":%d,"p99":%d}',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
