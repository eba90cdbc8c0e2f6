// What one thread counted; the threads' tallies are added up once, after the run.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "connection.h"
#include "histogram.h"

namespace metronome {

// A send counts as timely when it happens within this of its due time.
inline constexpr Nanos kTimelyLimit = 100 * kMicrosecond;

struct Failure {
  ErrorKind kind;
  std::string reason;
  double at_sec;  // since the beginning of the counted window
};

// What a send's delay is made of.
struct Delay {
  Nanos busy;  // no connection was free
  Nanos own;   // a connection was free, or would have been, had this program come in time
  // What this send passes on to the next one on its connection, which it keeps busy so much longer than it should have.
  Nanos debt() const { return own > kTimelyLimit ? own : 0; }
};

// `ready`: when the connection became free. `debt`: of the request that it carried before.
Delay attribute(Nanos due, Nanos ready, Nanos sent, Nanos debt);

// How the sends kept to the schedule.
struct Punctuality {
  std::uint64_t timely = 0;
  std::uint64_t late_busy = 0;       // late whatever this program did: no connection was free
  std::uint64_t late_generator = 0;  // would have been timely but for this program
  Nanos max_delay = 0;               // of any send
  Nanos max_delay_busy = 0;          // the part that was spent waiting for a free connection
  Nanos max_delay_generator = 0;     // the part that this program lost
  Histogram delay_generator;         // that part of every send

  void note(const Delay& delay);
  void merge(const Punctuality& other);
};

struct CpuUse {
  double user_sec = 0;
  double system_sec = 0;
  double wall_sec = 0;
  double run_queue_wait_sec = 0;  // runnable, but the CPU was given to somebody else
};

struct Tally {
  std::uint64_t planned = 0;
  std::uint64_t sent = 0;
  std::uint64_t completed = 0;
  std::uint64_t succeeded = 0;
  std::array<std::uint64_t, kErrorKinds> errors{};
  std::array<std::uint64_t, 1000> statuses{};
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t connects = 0;       // connections established, warm-up included
  std::uint64_t reconnects = 0;     // of these, after the first of each client
  std::uint64_t idle_closes = 0;    // closed by the server between requests
  std::uint64_t stale_retries = 0;  // requests sent again because of that
  Punctuality punctuality;
  CpuUse cpu;
  Histogram latency;            // every completed response, from the moment it was due
  Histogram service_time;       // every completed response, from the moment it was sent
  Histogram latency_succeeded;  // 2xx responses alone
  Histogram timed_out;          // requests given up, from the moment they were due
  std::optional<Failure> first_failure;
  std::map<std::pair<ErrorKind, std::string>, std::uint64_t> reasons;

  void answered(int status, Nanos latency_ns, Nanos service_ns);
  void failed(const Failure& failure);
  void merge(const Tally& other);
  std::uint64_t failures() const;
};

}  // namespace metronome
