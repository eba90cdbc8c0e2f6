// When every request is due: ticks of one even clock, numbered from the start of the warm-up.
#pragma once

#include <cmath>
#include <cstdint>

#include "clock.h"

namespace metronome {

enum class Mode {
  connection,  // open loop; tick J belongs to connection J mod N, so every connection has its own even schedule
  clock,       // open loop; a tick goes to whichever client is idle
  none,        // closed loop: no ticks, every connection sends when its last answer is in
};

// All of a run's ticks. Tick warmup_ticks is due exactly when the counted window begins, so both the rate and the
// number of counted requests come out exact whatever the warm-up is.
class Schedule {
 public:
  Schedule() = default;
  Schedule(double rate_per_sec, double warmup_sec, double duration_sec)
      : interval_ns_(1e9 / rate_per_sec),
        warmup_ticks_(whole_up(rate_per_sec * warmup_sec)),
        total_ticks_(warmup_ticks_ + whole_up(rate_per_sec * duration_sec)) {}

  // Nanoseconds between the beginning of the counted window and this tick; negative in the warm-up. Computed from
  // the number, never by adding intervals, so nothing drifts.
  Nanos offset_ns(std::int64_t tick) const {
    return static_cast<Nanos>(std::llround(static_cast<double>(tick - warmup_ticks_) * interval_ns_));
  }
  bool counted(std::int64_t tick) const { return tick >= warmup_ticks_; }
  std::int64_t warmup_ticks() const { return warmup_ticks_; }
  std::int64_t total_ticks() const { return total_ticks_; }
  std::int64_t planned() const { return total_ticks_ - warmup_ticks_; }

 private:
  // Ticks in [0, x): 999.9999999 from binary rounding still means 1000.
  static std::int64_t whole_up(double x) { return static_cast<std::int64_t>(std::ceil(x - 1e-6)); }

  double interval_ns_ = 0;
  std::int64_t warmup_ticks_ = 0;
  std::int64_t total_ticks_ = 0;
};

// One thread's share of the ticks, in the order in which they are due. Thread t of T owns the connections
// t, t+T, t+2T, ...; with Mode::clock it owns the ticks t, t+T, t+2T, ...
class TickCursor {
 public:
  TickCursor(Mode mode, int thread, int threads, int connections);

  std::int64_t tick() const { return base_ + thread_ + static_cast<std::int64_t>(lane_) * threads_; }
  int lane() const { return lane_; }  // Mode::connection: which of the thread's own connections this tick is for
  void advance();

 private:
  std::int64_t base_ = 0;  // first tick of the current round
  std::int64_t round_;     // ticks of all threads in one round
  int lanes_;              // ticks of this thread in one round
  int lane_ = 0;
  int thread_;
  int threads_;
};

// How many of `connections` the thread owns.
constexpr int owned_connections(int thread, int threads, int connections) {
  return (connections - thread + threads - 1) / threads;
}

}  // namespace metronome
