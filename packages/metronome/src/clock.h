// Time as 64-bit nanoseconds of CLOCK_MONOTONIC: one number to compare, add and store.
#pragma once

#include <cstdint>
#include <ctime>

namespace metronome {

using Nanos = std::int64_t;

inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

inline Nanos now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<Nanos>(t.tv_sec) * kSecond + t.tv_nsec;
}

inline Nanos from_sec(double sec) { return static_cast<Nanos>(sec * 1e9); }
inline double to_sec(Nanos ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace metronome
