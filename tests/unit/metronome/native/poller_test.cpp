#include "poller.h"

#include <doctest/doctest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <thread>

using namespace metronome;

TEST_SUITE("poller") {
  TEST_CASE("a wait never ends before its deadline without an event") {
    ::prctl(PR_SET_TIMERSLACK, 1);
    for (const auto& [timerfd, precise] : {std::pair{false, true}, {false, false}, {true, true}, {true, false}}) {
      Poller poller(timerfd);
      for (int i = 0; i < 50; ++i) {
        const Nanos deadline = now_ns() + (i % 5) * 137 * kMicrosecond;
        CHECK(poller.wait(deadline, precise).empty());
        CHECK(now_ns() >= deadline);
      }
    }
  }

  TEST_CASE("an event ends it at once") {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    REQUIRE(::write(ends[1], "x", 1) == 1);
    for (const auto& [timerfd, precise] : {std::pair{false, true}, {false, false}, {true, true}, {true, false}}) {
      Poller poller(timerfd);
      poller.add(ends[0], 42, EPOLLIN);
      const Nanos begun = now_ns();
      const auto events = poller.wait(begun + 60 * kSecond, precise);
      REQUIRE(events.size() == 1);
      CHECK(events[0].data.u64 == 42);
      CHECK(now_ns() - begun < 30 * kSecond);
    }
    ::close(ends[0]);
    ::close(ends[1]);
  }

  TEST_CASE("wake() reaches a waiting thread, once") {
    Poller poller;
    std::jthread other([&poller] { poller.wake(); });
    const auto events = poller.wait(now_ns() + 60 * kSecond, false);
    REQUIRE(events.size() == 1);
    CHECK(events[0].data.u64 == Poller::kWakeId);
    CHECK(poller.wait(now_ns() + kMillisecond, false).empty());
  }
}
