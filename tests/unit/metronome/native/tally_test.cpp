#include "tally.h"

#include <doctest/doctest.h>

using namespace metronome;

TEST_SUITE("tally") {
  TEST_CASE("a send within 100 us of its due time is timely") {
    Punctuality kept;
    kept.note(1'000'000, 0, 1'000'000);
    kept.note(1'000'000, 0, 1'100'000);
    CHECK(kept.timely == 2);
    kept.note(1'000'000, 0, 1'100'001);
    CHECK(kept.timely == 2);
    CHECK(kept.late_generator == 1);
    CHECK(kept.max_delay == 100'001);
  }

  TEST_CASE("a late send is the server's doing when no connection was free, else the generator's") {
    Punctuality kept;
    kept.note(0, 2'000'000'000, 2'000'005'000);  // freed 2 s late, sent 5 µs later
    CHECK(kept.late_busy == 1);
    CHECK(kept.max_delay_busy == 2'000'000'000);
    CHECK(kept.max_delay_generator == 5'000);
    kept.note(0, 50'000, 400'000);  // freed in time, sent 350 µs later
    CHECK(kept.late_generator == 1);
    CHECK(kept.max_delay_generator == 350'000);
    CHECK(kept.max_delay == 2'000'005'000);
  }

  TEST_CASE("answers are counted by status, and only 2xx succeed") {
    Tally tally;
    for (const int status : {200, 204, 302, 404, 429, 429, 500}) tally.answered(status, kMillisecond, kMicrosecond);
    CHECK(tally.completed == 7);
    CHECK(tally.succeeded == 2);
    CHECK(tally.statuses[429] == 2);
    CHECK(tally.latency.count() == 7);
    CHECK(tally.service_time.max_us() == 1);
    CHECK(tally.latency_succeeded.count() == 2);
  }

  TEST_CASE("failures keep their reasons, bounded, and the earliest of all threads is the first") {
    Tally one;
    Tally other;
    one.failed({ErrorKind::read, "late", 2.0});
    other.failed({ErrorKind::connect, "early", 1.0});
    other.failed({ErrorKind::connect, "early", 1.5});
    for (int i = 0; i < 1000; ++i) other.failed({ErrorKind::protocol, std::to_string(i), 3.0});
    one.merge(other);
    REQUIRE(one.first_failure.has_value());
    CHECK(one.first_failure->reason == "early");
    CHECK(one.failures() == 1003);
    CHECK(one.reasons.at({ErrorKind::connect, "early"}) == 2);
    CHECK(one.reasons.size() < 40);
    CHECK(one.reasons.at({ErrorKind::protocol, "other"}) > 900);
  }

  TEST_CASE("merging adds everything up") {
    Tally one;
    Tally other;
    one.planned = other.planned = 5;
    one.punctuality.note(0, 0, 50);
    other.punctuality.note(0, 0, 500'000);
    other.reconnects = 3;
    one.merge(other);
    CHECK(one.planned == 10);
    CHECK(one.punctuality.timely == 1);
    CHECK(one.punctuality.late_generator == 1);
    CHECK(one.punctuality.max_delay == 500'000);
    CHECK(one.reconnects == 3);
  }
}
