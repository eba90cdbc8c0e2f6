-- Drives wrk (and wrk2, whose API is the same): sends prepared requests in rotation and writes what wrk counted as JSON.
-- Arguments: the file of prepared requests, its size, the file to write, the number of threads.
-- The requests come from a file because they hold headers, and so keys, which no command line may show. It is mapped into
-- memory: wrk starts each thread as soon as it is set up, so a thread that took long to read its requests would let the
-- others run ahead of the clock.
local ffi = require "ffi"
ffi.cdef [[
  typedef struct { long sec; long nsec; } aml_timespec;
  int clock_gettime(int clock, aml_timespec *time);
  int open(const char *path, int flags, ...);
  int close(int file);
  void *mmap(void *address, size_t length, int protection, int flags, int file, long offset);
  typedef struct { uint64_t count, limit, min, max, data[]; } aml_stats;  // wrk 4's stats.h
]]
local CLOCK_MONOTONIC, O_RDONLY, PROT_READ, MAP_PRIVATE, MAP_POPULATE = 1, 0, 1, 2, 0x8000  -- Linux

-- The main state: it knows the threads, and sees their globals once they have ended.
local threads = {}

function setup(thread)
  thread:set("thread_index", #threads)
  threads[#threads + 1] = thread
end

-- A thread's state. What done() reads must be global, and a plain number: wrk2 garbles tables that it hands over. So there
-- is one global per status code and per second, named by these.
local function names_of(prefix)
  return setmetatable({}, { __index = function(names, number)
    names[number] = prefix .. number
    return names[number]
  end })
end
local STATUS, ANSWERS, FAILURES = names_of("status_"), names_of("answers_"), names_of("failures_")
sent, bytes_written, last_second = 0, 0, -1
local bytes, offsets, count_of_requests  -- request i (from 0) is bytes[offsets[i]] up to bytes[offsets[i + 1]]
local position, checked, started = 0, false, nil
local time = ffi.new("aml_timespec")

local function count(name)
  _G[name] = (_G[name] or 0) + 1
end

local function now_sec()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, time)
  return tonumber(time.sec) + tonumber(time.nsec) * 1e-9
end

-- The file: the number of requests, their offsets in it and that of the end (64-bit numbers), then the requests.
local function map_requests(path, size)
  local file = ffi.C.open(path, O_RDONLY)
  assert(file >= 0, "cannot open the prepared requests")
  local flags = MAP_PRIVATE + MAP_POPULATE
  local address = ffi.C.mmap(nil, size, PROT_READ, flags, file, 0)
  ffi.C.close(file)
  assert(ffi.cast("intptr_t", address) ~= -1, "cannot map the prepared requests")
  bytes = ffi.cast("const char *", address)
  local numbers = ffi.cast("const int64_t *", address)
  count_of_requests, offsets = tonumber(numbers[0]), numbers + 1
end

function init(args)
  output_path = args[3]
  map_requests(args[1], tonumber(args[2]))
  -- Each thread rotates through all requests, from a start of its own, so that all are sent equally often.
  position = math.floor(thread_index * count_of_requests / tonumber(args[4]))
  -- wrk asks the first thread for a request that it parses but never sends.
  checked = thread_index > 0
end

function request()
  local first = offsets[position]
  local size = tonumber(offsets[position + 1] - first)
  if checked then
    started = started or now_sec()
    position = (position + 1) % count_of_requests
    sent = sent + 1
    bytes_written = bytes_written + size
  end
  checked = true
  return ffi.string(bytes + first, size)
end

function response(code)
  count(STATUS[code])
  last_second = math.floor(now_sec() - started)
  count(ANSWERS[last_second])
  if code < 200 or code > 299 then
    count(FAILURES[last_second])
  end
end

local function total(name)
  local sum = 0
  for _, thread in ipairs(threads) do
    sum = sum + (thread:get(name) or 0)
  end
  return sum
end

local function object(names, first, last)
  local fields = {}
  for number = first, last do
    local sum = total(names[number])
    if sum > 0 then
      fields[#fields + 1] = string.format('"%d": %d', number, sum)
    end
  end
  return "{" .. table.concat(fields, ", ") .. "}"
end

-- wrk finds latency(i) by counting up from the smallest value: all of them, spread over seconds, would take minutes. So
-- its table is read itself, at once, where what wrk says of it shows that it is where we think it is.
local function table_of(latency)
  local stats = ffi.cast("aml_stats **", latency)[0]
  local known = tonumber(stats.min) == latency.min and tonumber(stats.max) == latency.max
  return known and stats.max <= stats.limit and stats or nil
end

local function histogram(latency)
  local pairs_ = {}
  if not getmetatable(latency).__call then  -- wrk2's cannot be asked; it prints its histograms instead
    return "[]"
  end
  local distinct, stats = #latency, table_of(latency)
  if stats and distinct > 0 then
    for value = tonumber(stats.min), tonumber(stats.max) do
      local count = tonumber(stats.data[value])
      if count > 0 then
        pairs_[#pairs_ + 1] = string.format("[%d, %d]", value, count)
      end
    end
  end
  if #pairs_ ~= distinct then  -- another wrk's table
    pairs_ = {}
    for i = 1, distinct do
      local value, count = latency(i)
      pairs_[i] = string.format("[%d, %d]", value, count)
    end
  end
  return "[" .. table.concat(pairs_, ", ") .. "]"
end

function done(summary, latency)
  local last = -1
  for _, thread in ipairs(threads) do
    last = math.max(last, thread:get("last_second"))
  end
  local errors = summary.errors
  local file = assert(io.open(threads[1]:get("output_path"), "w"))
  file:write(string.format(
    '{"duration_us": %d, "requests": %d, "bytes": %d, "sent": %d, "bytes_written": %d, '
      .. '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}, '
      .. '"status": %s, "answers": %s, "failures": %s, "latency_us": %s}\n',
    summary.duration, summary.requests, summary.bytes, total("sent"), total("bytes_written"),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    object(STATUS, 100, 999), object(ANSWERS, 0, last), object(FAILURES, 0, last), histogram(latency)))
  file:close()
end
