-- What wrk sends, and its result as one line of JSON. Arguments: METHOD CONTENT_TYPE BODY_FILE ("-" for none).
function init(arguments)
  wrk.method = arguments[1]
  if arguments[2] ~= "-" then
    wrk.headers["Content-Type"] = arguments[2]
  end
  if arguments[3] ~= "-" then
    local file = assert(io.open(arguments[3], "rb"))
    wrk.body = file:read("*a")
    file:close()
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'WRK {"requests": %d, "seconds": %.6f, "bytes": %d, "p50_ms": %.4f, "p99_ms": %.4f, "max_ms": %.4f, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
