#include "tally.h"

#include <doctest/doctest.h>

using namespace metronome;

TEST_SUITE("tally") {
  TEST_CASE("a send within 100 us of its due time is timely") {
    Punctuality kept;
    kept.note(attribute(1'000'000, 0, 1'000'000, 0));
    kept.note(attribute(1'000'000, 0, 1'100'000, 0));
    CHECK(kept.timely == 2);
    kept.note(attribute(1'000'000, 0, 1'100'001, 0));
    CHECK(kept.timely == 2);
    CHECK(kept.late_generator == 1);
    CHECK(kept.max_delay == 100'001);
  }

  TEST_CASE("a late send is the server's doing when no connection was free, else the generator's") {
    Punctuality kept;
    kept.note(attribute(0, 2'000'000'000, 2'000'005'000, 0));  // freed 2 s late, sent 5 µs later
    CHECK(kept.late_busy == 1);
    CHECK(kept.max_delay_busy == 2'000'000'000);
    CHECK(kept.max_delay_generator == 5'000);
    kept.note(attribute(0, 50'000, 400'000, 0));  // freed in time, sent 350 µs later
    CHECK(kept.late_generator == 1);
    CHECK(kept.max_delay_generator == 350'000);
    CHECK(kept.max_delay == 2'000'005'000);
    kept.note({500'000'000, 3'000'000});  // late anyway
    CHECK(kept.late_busy == 2);
  }

  TEST_CASE("what the generator's own lateness holds up later is its doing too, until the backlog is gone") {
    // Due every 40 ms; the generator slept from 0 to 100 ms; every answer takes 1 ms, handling it 10 µs.
    Punctuality kept;
    Nanos ready = 0;
    Nanos debt = 0;
    for (int i = 0; i < 5; ++i) {
      const Nanos due = i * 40 * kMillisecond;
      const Nanos sent = std::max({due, 100 * kMillisecond, ready + 10 * kMicrosecond});
      const Delay delay = attribute(due, ready, sent, debt);
      CHECK(delay.busy + delay.own == sent - due);
      debt = delay.debt();
      ready = sent + kMillisecond;
      kept.note(delay);
    }
    CHECK(kept.late_generator == 3);  // due at 0, 40 and 80 ms
    CHECK(kept.late_busy == 0);
    CHECK(kept.timely == 2);
  }

  TEST_CASE("a backlog of the server's making stays the server's, however long it is") {
    Punctuality kept;
    Nanos ready = 0;
    Nanos debt = 0;
    for (int i = 0; i < 10'000; ++i) {  // due every 10 ms, answered after 20 ms, 10 µs of handling each
      const Nanos due = i * 10 * kMillisecond;
      const Nanos sent = std::max(due, ready + 10 * kMicrosecond);
      const Delay delay = attribute(due, ready, sent, debt);
      debt = delay.debt();
      ready = sent + 20 * kMillisecond;
      kept.note(delay);
    }
    CHECK(kept.late_generator == 0);
    CHECK(kept.late_busy == 9'999);
    CHECK(kept.max_delay_generator <= 10 * kMicrosecond);
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
    one.punctuality.note(attribute(0, 0, 50, 0));
    other.punctuality.note(attribute(0, 0, 500'000, 0));
    other.reconnects = 3;
    one.merge(other);
    CHECK(one.planned == 10);
    CHECK(one.punctuality.timely == 1);
    CHECK(one.punctuality.late_generator == 1);
    CHECK(one.punctuality.max_delay == 500'000);
    CHECK(one.reconnects == 3);
  }
}
