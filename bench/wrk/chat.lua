-- Sends chat completions and writes one line of JSON with the figures at the end.
-- Arguments after "--": key, model, kind (json | stream), body (unique | same), salt.
-- A unique body carries a number that no other request of the run has: never a cache hit.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  local key, model, kind, body, salt = args[1], args[2], args[3], args[4], args[5]
  local stream = kind == "stream" and '"stream":true,' or ""
  local user = model == "bench-sticky" and '"user":"juror-8",' or ""
  before = '{"model":"' .. model .. '",' .. stream .. user .. '"temperature":0.7,"max_tokens":256,"messages":['
    .. '{"role":"system","content":"You are a helpful assistant that answers briefly and to the point."},'
    .. '{"role":"user","content":"In one sentence, how does a jury reach a verdict? ('
  after = ')"}]}'
  unique = body == "unique"
  name = salt .. "-" .. number .. "-"
  local example = before .. name .. string.format("%012d", 0) .. after
  head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " .. key
    .. "\r\nContent-Type: application/json\r\nAccept: application/json\r\nUser-Agent: wrk"
    .. "\r\nContent-Length: " .. #example .. "\r\n\r\n"
  fixed = head .. example
  opening = head .. before .. name
  count = 0
end

function request()
  if not unique then
    return fixed
  end
  count = count + 1
  return opening .. string.format("%012d", count) .. after
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nFIGURES {"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,'
      .. '"timeout":%d,"p50_us":%.1f,"p90_us":%.1f,"p99_us":%.1f,"max_us":%.1f,"mean_us":%.1f}\n',
    summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write, errors.status,
    errors.timeout, latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    latency.mean))
end
