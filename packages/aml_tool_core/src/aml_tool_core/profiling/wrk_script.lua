-- Drives wrk (and wrk2, whose API is the same): sends prepared requests in rotation and writes what wrk counted as JSON.
-- Arguments: the file of prepared requests, the file to write, the number of threads.
-- The requests come from a file because they hold headers, and so keys, which no command line may show.
local ffi = require "ffi"
ffi.cdef [[
  typedef struct { long sec; long nsec; } aml_timespec;
  int clock_gettime(int clock, aml_timespec *time);
]]
local CLOCK_MONOTONIC = 1

-- The main state: it knows the threads, and sees their globals once they have ended.
local threads = {}

function setup(thread)
  thread:set("thread_index", #threads)
  threads[#threads + 1] = thread
end

-- A thread's state. What done() reads must be global.
status, answers, failures = {}, {}, {}
sent, bytes_written = 0, 0
local requests, position, checked, started = {}, 1, false, nil
local time = ffi.new("aml_timespec")

local function now_sec()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, time)
  return tonumber(time.sec) + tonumber(time.nsec) * 1e-9
end

local function read_requests(path)
  local file = assert(io.open(path, "rb"))
  for length in function() return file:read("*l") end do
    requests[#requests + 1] = assert(file:read(tonumber(length)))
  end
  file:close()
end

function init(args)
  output_path = args[2]
  read_requests(args[1])
  -- Each thread rotates through all requests, from a start of its own, so that all are sent equally often.
  position = math.floor(thread_index * #requests / tonumber(args[3])) + 1
  -- wrk asks the first thread for a request that it parses but never sends.
  checked = thread_index > 0
end

function request()
  local current = requests[position]
  if not checked then
    checked = true
    return current
  end
  started = started or now_sec()
  position = position % #requests + 1
  sent = sent + 1
  bytes_written = bytes_written + #current
  return current
end

function response(code)
  status[code] = (status[code] or 0) + 1
  local second = math.floor(now_sec() - started)
  answers[second] = (answers[second] or 0) + 1
  if code < 200 or code > 299 then
    failures[second] = (failures[second] or 0) + 1
  end
end

local function add(into, counts)
  for key, count in pairs(counts) do
    into[key] = (into[key] or 0) + count
  end
end

local function object(counts)
  local fields = {}
  for key, count in pairs(counts) do
    fields[#fields + 1] = string.format('"%d": %d', key, count)
  end
  return "{" .. table.concat(fields, ", ") .. "}"
end

local function histogram(latency)
  local pairs_ = {}
  for i = 1, #latency do
    local value, count = latency(i)
    pairs_[i] = string.format("[%d, %d]", value, count)
  end
  return "[" .. table.concat(pairs_, ", ") .. "]"
end

function done(summary, latency)
  local all = { status = {}, answers = {}, failures = {}, sent = 0, bytes_written = 0 }
  for _, thread in ipairs(threads) do
    add(all.status, thread:get("status"))
    add(all.answers, thread:get("answers"))
    add(all.failures, thread:get("failures"))
    all.sent = all.sent + thread:get("sent")
    all.bytes_written = all.bytes_written + thread:get("bytes_written")
  end
  local errors = summary.errors
  local file = assert(io.open(threads[1]:get("output_path"), "w"))
  file:write(string.format(
    '{"duration_us": %d, "requests": %d, "bytes": %d, "sent": %d, "bytes_written": %d, '
      .. '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}, '
      .. '"status": %s, "answers": %s, "failures": %s, "latency_us": %s}\n',
    summary.duration, summary.requests, summary.bytes, all.sent, all.bytes_written,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    object(all.status), object(all.answers), object(all.failures), histogram(latency)))
  file:close()
end
