#include "poller.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "errors.h"

namespace metronome {

namespace {

constexpr std::uint64_t kTimerId = UINT64_MAX - 1;
constexpr Nanos kMostLead = 100 * kMicrosecond;
constexpr Nanos kSpinShare = 50;  // spin one fiftieth of the time at most

timespec to_timespec(Nanos ns) { return {static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)}; }

// The system call itself: glibc has a wrapper only from 2.35 on.
int pwait2(int fd, epoll_event* events, int most, Nanos timeout) {
  const timespec limit = to_timespec(timeout);
  return static_cast<int>(::syscall(SYS_epoll_pwait2, fd, events, most, &limit, nullptr, 0));
}

}  // namespace

Poller::Poller(bool use_timerfd)
    : epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)), wake_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (epoll_fd_ < 0 || wake_fd_ < 0) throw RunError(std::string("epoll: ") + std::strerror(errno));
  add(wake_fd_, kWakeId, EPOLLIN | EPOLLET);  // once per wake(), nobody has to read it empty
  // ENOSYS on an old kernel; EPERM under an old container runtime's seccomp profile.
  if (!use_timerfd && pwait2(epoll_fd_, events_.data(), 1, 0) >= 0) return;
  timer_fd_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (timer_fd_ < 0) throw RunError(std::string("timerfd: ") + std::strerror(errno));
  add(timer_fd_, kTimerId, EPOLLIN | EPOLLET);
}

Poller::~Poller() {
  for (const int fd : {timer_fd_, wake_fd_, epoll_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

void Poller::add(int fd, std::uint64_t id, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0)
    throw RunError(std::string("epoll_ctl: ") + std::strerror(errno));
}

void Poller::change(int fd, std::uint64_t id, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) != 0)
    throw RunError(std::string("epoll_ctl: ") + std::strerror(errno));
}

std::span<const epoll_event> Poller::wait(Nanos deadline, bool precise) {
  int n = 0;
  if (!precise) {
    n = sleep_until(deadline);
  } else {
    const Nanos begun = now_ns();
    const Nanos early = deadline - (can_spin(begun) ? lead_ : 0);
    if (begun < early) {
      n = sleep_until(early);
      if (n == 0) learn(now_ns() - early);
    }
    if (n == 0) n = spin_until(deadline);
  }
  return {events_.data(), static_cast<std::size_t>(std::max(n, 0))};
}

// Looks for answers all the while.
int Poller::spin_until(Nanos deadline) {
  const Nanos begun = now_ns();
  int n = poll_now();
  Nanos now = now_ns();
  while (n == 0 && now < deadline) {
    n = poll_now();
    now = now_ns();
  }
  spun_ += now - begun;
  return n;
}

// At high rates a little spinning before every send would add up to most of a core, for a gain that the timely limit
// does not ask for.
bool Poller::can_spin(Nanos now) {
  if (since_ == 0) since_ = now;
  return spun_ * kSpinShare <= now - since_;
}

int Poller::poll_now() {
  const int n = ::epoll_wait(epoll_fd_, events_.data(), static_cast<int>(events_.size()), 0);
  return without_timer(n);
}

int Poller::sleep_until(Nanos deadline) {
  const Nanos left = std::max<Nanos>(deadline - now_ns(), 0);
  int n = 0;
  if (timer_fd_ < 0) {
    n = pwait2(epoll_fd_, events_.data(), static_cast<int>(events_.size()), left);
  } else if (left == 0) {
    return poll_now();
  } else {
    const itimerspec at{{0, 0}, to_timespec(std::max<Nanos>(deadline, 1))};
    ::timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &at, nullptr);
    n = ::epoll_wait(epoll_fd_, events_.data(), static_cast<int>(events_.size()), -1);
  }
  return without_timer(n);
}

// What a wait found, less our own timer; nothing after EINTR, the caller's loop comes round again.
int Poller::without_timer(int n) {
  const auto end = std::remove_if(events_.begin(), events_.begin() + std::max(n, 0),
                                  [](const epoll_event& event) { return event.data.u64 == kTimerId; });
  return static_cast<int>(end - events_.begin());
}

// lead_ follows about the 80th percentile of what the timers are late by: a wait mostly ends just before its
// deadline, and little is spent on spinning. Constant steps, so that one long pause changes nothing.
void Poller::learn(Nanos oversleep) {
  constexpr Nanos kStep = kMicrosecond;
  lead_ = std::clamp(oversleep > lead_ ? lead_ + kStep : lead_ - kStep / 4, kMicrosecond, kMostLead);
}

void Poller::wake() {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wake_fd_, &one, sizeof one));
}

}  // namespace metronome
