#include "schedule.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

using namespace metronome;

namespace {

std::vector<std::int64_t> ticks_of(Mode mode, int thread, int threads, int connections, std::int64_t below) {
  std::vector<std::int64_t> ticks;
  for (TickCursor cursor(mode, thread, threads, connections); cursor.tick() < below; cursor.advance())
    ticks.push_back(cursor.tick());
  return ticks;
}

}  // namespace

TEST_SUITE("schedule") {
  TEST_CASE("the counted window begins on a tick and holds rate times duration of them") {
    for (const double rate : {0.5, 3.0, 50.0, 333.3, 1000.0, 9999.0, 10000.0}) {
      for (const double warmup : {0.0, 0.25, 1.0, 7.1}) {
        for (const double duration : {1.0, 0.3, 30.0, 3600.0}) {
          const Schedule schedule(rate, warmup, duration);
          CAPTURE(rate);
          CAPTURE(warmup);
          CAPTURE(duration);
          CHECK(schedule.offset_ns(schedule.warmup_ticks()) == 0);
          CHECK(static_cast<double>(schedule.planned()) > rate * duration - 1e-6);
          CHECK(static_cast<double>(schedule.planned()) < rate * duration + 1);
          CHECK(to_sec(schedule.offset_ns(schedule.total_ticks() - 1)) < duration);
          CHECK(to_sec(schedule.offset_ns(schedule.total_ticks())) >= duration - 1e-6);
          CHECK(to_sec(-schedule.offset_ns(0)) >= warmup - 1e-6);
          CHECK(to_sec(-schedule.offset_ns(0)) < warmup + 1 / rate);
          CHECK_FALSE(schedule.counted(schedule.warmup_ticks() - 1));
          CHECK(schedule.counted(schedule.warmup_ticks()));
        }
      }
    }
  }

  TEST_CASE("ticks are even and do not drift") {
    const Schedule schedule(3, 0, 36'000);
    CHECK(schedule.planned() == 108'000);
    for (const std::int64_t hour : {1, 5, 9}) CHECK(schedule.offset_ns(hour * 10'800) == hour * 3600 * kSecond);
    for (std::int64_t tick = 0; tick < 1000; ++tick) {
      const Nanos gap = schedule.offset_ns(tick + 1) - schedule.offset_ns(tick);
      REQUIRE(gap >= 333'333'333);
      REQUIRE(gap <= 333'333'334);
    }
  }

  TEST_CASE("the threads' shares make up every tick once, each in order") {
    for (const Mode mode : {Mode::connection, Mode::clock}) {
      for (const auto& [threads, connections] : {std::pair{1, 1}, {1, 7}, {2, 4}, {2, 5}, {3, 16}, {4, 4}}) {
        std::multiset<std::int64_t> all;
        for (int thread = 0; thread < threads; ++thread) {
          const auto own = ticks_of(mode, thread, threads, connections, 1000);
          CHECK(std::is_sorted(own.begin(), own.end()));
          all.insert(own.begin(), own.end());
        }
        CAPTURE(threads);
        CAPTURE(connections);
        REQUIRE(all.size() == 1000);
        std::int64_t expected = 0;
        for (const auto tick : all) REQUIRE(tick == expected++);
      }
    }
  }

  TEST_CASE("with a schedule per connection, each connection's own ticks are evenly spaced") {
    constexpr int kThreads = 3;
    constexpr int kConnections = 8;
    for (int thread = 0; thread < kThreads; ++thread) {
      std::map<int, std::vector<std::int64_t>> by_lane;
      for (TickCursor cursor(Mode::connection, thread, kThreads, kConnections); cursor.tick() < 800; cursor.advance())
        by_lane[cursor.lane()].push_back(cursor.tick());
      CHECK(by_lane.size() == static_cast<std::size_t>(owned_connections(thread, kThreads, kConnections)));
      for (const auto& [lane, ticks] : by_lane) {
        CHECK(ticks.front() == thread + lane * kThreads);
        for (std::size_t i = 1; i < ticks.size(); ++i) REQUIRE(ticks[i] - ticks[i - 1] == kConnections);
      }
    }
  }

  TEST_CASE("one clock is dealt out to the threads in turn") {
    CHECK(ticks_of(Mode::clock, 1, 3, 9, 12) == std::vector<std::int64_t>{1, 4, 7, 10});
  }

  TEST_CASE("connections are shared out to the last one") {
    for (int threads = 1; threads <= 7; ++threads) {
      for (int connections = threads; connections < 30; ++connections) {
        int sum = 0;
        for (int thread = 0; thread < threads; ++thread) sum += owned_connections(thread, threads, connections);
        REQUIRE(sum == connections);
      }
    }
  }
}
