// What happened in each second. Threads hand over a finished second as a small list; nothing of it is kept but a row.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "histogram.h"

namespace metronome {

using Statuses = std::map<int, std::uint64_t>;  // status code, count
using Values = std::vector<std::pair<std::int64_t, std::uint64_t>>;  // value in microseconds, count

// One thread's part of one second.
struct Slice {
  std::int64_t second = 0;
  std::uint64_t sent = 0;
  std::uint64_t completed = 0;
  std::uint64_t errors = 0;
  Statuses not_2xx;
  std::vector<std::pair<std::uint32_t, std::uint64_t>> latency;
  std::vector<std::pair<std::uint32_t, std::uint64_t>> service_time;
};

struct Row {
  std::int64_t second = 0;
  std::uint64_t sent = 0;
  std::uint64_t completed = 0;
  std::uint64_t errors = 0;
  Statuses not_2xx;
  std::int64_t latency_p50_us = 0;
  std::int64_t latency_p99_us = 0;
  std::int64_t service_time_p99_us = 0;
  Values latency;  // this and the next of rows that just became complete alone: an hour of them would fill the memory
  Values service_time;
};

// Where the threads leave their slices; locked once per thread and second.
class SliceBox {
 public:
  void put(Slice slice);
  std::vector<Slice> take();

 private:
  std::mutex mutex_;
  std::vector<Slice> slices_;
};

// A thread's running second and the one before it: sealing a second can wait until nothing is due.
class SecondRecorder {
 public:
  explicit SecondRecorder(SliceBox& box) : box_(box) {}

  // `at` is nanoseconds since the beginning of the counted window, never decreasing.
  void sent(Nanos at) { ++slot(at).counts.sent; }
  void failed(Nanos at) { ++slot(at).counts.errors; }
  void answered(Nanos at, int status, Nanos latency, Nanos service_time);
  Nanos next_seal() const { return (unsealed_ + 1) * kSecond; }  // from when seal_before() has something to do
  void seal_before(Nanos at);
  void seal_all();

 private:
  struct Slot {
    Slice counts;
    Histogram latency;
    Histogram service_time;
  };
  Slot& slot(Nanos at);
  void seal_one();

  SliceBox& box_;
  std::array<Slot, 2> slots_;
  std::int64_t unsealed_ = 0;  // the first second that is not sealed
  std::int64_t last_used_ = -1;
};

// Puts the threads' slices together.
class Timeline {
 public:
  explicit Timeline(int threads) : threads_(threads) {}

  // Rows that became complete by these slices, in order, with their latencies.
  std::vector<Row> add(const std::vector<Slice>& slices);
  void finish();  // completes what is left, when no more slices can come
  const std::vector<Row>& rows() const { return rows_; }

 private:
  struct Pending {
    int slices = 0;
    Row row;
    Histogram latency;
    Histogram service_time;
  };
  Row complete(Pending& pending) const;

  int threads_;
  std::map<std::int64_t, Pending> pending_;
  std::vector<Row> rows_;
};

}  // namespace metronome
