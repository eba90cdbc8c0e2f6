#include "timeline.h"

#include <doctest/doctest.h>

#include <thread>

using namespace metronome;

TEST_SUITE("timeline") {
  TEST_CASE("events land in their second, also while the last one is not sealed yet") {
    SliceBox box;
    SecondRecorder recorder(box);
    recorder.sent(0);
    recorder.answered(kSecond - 1, 200, 5 * kMillisecond, 3 * kMillisecond);
    recorder.sent(kSecond);  // the first second is still open
    recorder.failed(kSecond + 1);
    CHECK(box.take().empty());
    recorder.seal_before(kSecond + 1);
    const auto slices = box.take();
    REQUIRE(slices.size() == 1);
    CHECK(slices[0].second == 0);
    CHECK(slices[0].sent == 1);
    CHECK(slices[0].completed == 1);
    CHECK(slices[0].errors == 0);
    recorder.seal_all();
    const auto rest = box.take();
    REQUIRE(rest.size() == 1);
    CHECK(rest[0].sent == 1);
    CHECK(rest[0].errors == 1);
  }

  TEST_CASE("silent seconds are there too, in order") {
    SliceBox box;
    SecondRecorder recorder(box);
    recorder.sent(10);
    recorder.sent(5 * kSecond + 10);
    recorder.seal_all();
    const auto slices = box.take();
    REQUIRE(slices.size() == 6);
    for (std::int64_t i = 0; i < 6; ++i) CHECK(slices[static_cast<std::size_t>(i)].second == i);
    CHECK(slices[0].sent == 1);
    CHECK(slices[3].sent == 0);
    CHECK(slices[5].sent == 1);
  }

  TEST_CASE("a row is complete when every thread has handed over its second, and holds the percentiles of all") {
    SliceBox box;
    SecondRecorder fast(box);
    SecondRecorder slow(box);
    for (int i = 0; i < 99; ++i) fast.answered(i, 200, kMillisecond, kMillisecond / 2);
    slow.answered(7, 503, kSecond, kSecond);
    slow.answered(8, 503, kSecond, kSecond);
    Timeline timeline(2);
    fast.seal_before(kSecond);
    CHECK(timeline.add(box.take()).empty());
    slow.seal_before(kSecond);
    const auto rows = timeline.add(box.take());
    REQUIRE(rows.size() == 1);
    CHECK(rows[0].completed == 101);
    CHECK(rows[0].latency_p50_us == 1000);
    CHECK(rows[0].latency_p99_us == doctest::Approx(1e6).epsilon(0.001));
    CHECK(rows[0].service_time_p99_us == doctest::Approx(1e6).epsilon(0.001));
    CHECK(rows[0].not_2xx == Statuses{{503, 2}});
    REQUIRE(rows[0].latency.size() == 2);
    CHECK(rows[0].latency[0] == std::pair<std::int64_t, std::uint64_t>(1000, 99));
    CHECK(rows[0].service_time[0] == std::pair<std::int64_t, std::uint64_t>(500, 99));
    CHECK(timeline.rows()[0].not_2xx == Statuses{{503, 2}});
    CHECK(timeline.rows()[0].latency.empty());  // kept for the whole run, so without them
  }

  TEST_CASE("what a thread did not hand over does not keep the rest back at the end") {
    SliceBox box;
    SecondRecorder only(box);
    only.sent(0);
    only.seal_all();
    Timeline timeline(2);
    CHECK(timeline.add(box.take()).empty());
    timeline.finish();
    REQUIRE(timeline.rows().size() == 1);
    CHECK(timeline.rows()[0].sent == 1);
  }

  TEST_CASE("nothing is lost between threads") {
    SliceBox box;
    Timeline timeline(3);
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&box] {
          SecondRecorder recorder(box);
          for (Nanos at = 0; at < 50 * kSecond; at += 10 * kMillisecond) {
            recorder.sent(at);
            recorder.seal_before(at);
          }
          recorder.seal_all();
        });
      }
      for (int i = 0; i < 100; ++i) timeline.add(box.take());
    }
    timeline.add(box.take());
    REQUIRE(timeline.rows().size() == 50);
    for (const auto& row : timeline.rows()) CHECK(row.sent == 300);
  }
}
