// A queue of known capacity: c servers, one line in order of arrival, exponential service times (M/M/c, or D/M/c where
// the arrivals are even). It is reckoned, not run: a request's departure follows from the arrivals before it alone, so a
// late wake-up of the program delays that one answer and takes nothing of the capacity.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <vector>

#include "clock.h"

namespace known {

class Queue {
 public:
  Queue(int servers, double mean_service_us, std::uint64_t seed) : mean_ns_(1e3 * mean_service_us), random_(seed) {
    for (int i = 0; i < servers; ++i) free_at_.push(0);
  }

  // When a request that arrives now, after all earlier ones, has been served.
  metronome::Nanos departure(metronome::Nanos now) {
    const metronome::Nanos begins = std::max(now, free_at_.top());
    const metronome::Nanos ends = begins + service();
    free_at_.pop();
    free_at_.push(ends);
    return ends;
  }

 private:
  // Not std::exponential_distribution, whose numbers differ from one standard library to the next.
  metronome::Nanos service() {
    const double uniform = static_cast<double>(random_() >> 11) * 0x1p-53;
    return static_cast<metronome::Nanos>(-std::log1p(-uniform) * mean_ns_);
  }

  double mean_ns_;
  std::mt19937_64 random_;
  std::priority_queue<metronome::Nanos, std::vector<metronome::Nanos>, std::greater<>> free_at_;
};

}  // namespace known
