// epoll, with waits that end at an absolute time to within microseconds.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <span>

#include "clock.h"

namespace metronome {

class Poller {
 public:
  static constexpr std::uint64_t kWakeId = UINT64_MAX;  // what wake() reports

  // Throws RunError where the system has no descriptors left. `use_timerfd`: as if epoll_pwait2 were missing.
  explicit Poller(bool use_timerfd = false);
  ~Poller();
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  void add(int fd, std::uint64_t id, std::uint32_t events);
  void change(int fd, std::uint64_t id, std::uint32_t events);

  // Waits for events or the deadline, whichever is first. `precise`: something must be sent at the deadline, so wake
  // a little early by what this machine's timers are late by, and spin the rest.
  std::span<const epoll_event> wait(Nanos deadline, bool precise);

  void wake();  // from any thread: the current or next wait ends at once, with an event of kWakeId

 private:
  int sleep_until(Nanos deadline);
  int spin_until(Nanos deadline);
  bool can_spin(Nanos now);
  int poll_now();
  int without_timer(int n);
  void learn(Nanos oversleep);

  int epoll_fd_;
  int wake_fd_;
  int timer_fd_ = -1;  // only where epoll_pwait2 is missing (Linux before 5.11) or forbidden
  Nanos lead_ = 20 * kMicrosecond;
  Nanos since_ = 0;  // first precise wait
  Nanos spun_ = 0;   // time spent spinning since then
  std::array<epoll_event, 256> events_;
};

}  // namespace metronome
