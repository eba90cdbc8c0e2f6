#include "histogram.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

using namespace metronome;

TEST_SUITE("histogram") {
  TEST_CASE("every value lies in its own bucket, and no bucket is wider than 0.1 % of its values") {
    for (std::int64_t us = 0; us <= bucket::kMaxUs; us = us < 5000 ? us + 1 : us + us / 777) {
      const auto index = bucket::index_of(us);
      REQUIRE(index < bucket::kCount);
      REQUIRE(bucket::lowest(index) <= us);
      REQUIRE(bucket::highest(index) >= us);
      REQUIRE((bucket::highest(index) - bucket::lowest(index)) * 1000 <= std::max<std::int64_t>(us, 1));
    }
  }

  TEST_CASE("buckets follow one another without a gap") {
    for (std::uint32_t i = 0; i + 1 < bucket::kCount; ++i) REQUIRE(bucket::highest(i) + 1 == bucket::lowest(i + 1));
    CHECK(bucket::highest(bucket::kCount - 1) == bucket::kMaxUs);
  }

  // Values from HdrHistogram's own layout (lowest value 1, three significant digits).
  TEST_CASE("the layout is HdrHistogram's") {
    CHECK(bucket::highest(bucket::index_of(2047)) == 2047);
    CHECK(bucket::highest(bucket::index_of(2048)) == 2049);
    CHECK(bucket::highest(bucket::index_of(10'000)) == 10'007);
    CHECK(bucket::highest(bucket::index_of(1'700'000)) == 1'700'863);
    CHECK(bucket::highest(bucket::index_of(3'600'000'000)) == 3'600'809'983);
  }

  TEST_CASE("percentiles agree with sorted values to within a bucket") {
    std::mt19937_64 random(7);
    std::lognormal_distribution<double> draw(8, 1.5);
    Histogram histogram;
    std::vector<std::int64_t> values;
    for (int i = 0; i < 100'000; ++i) {
      const auto us = std::max<std::int64_t>(1, std::llround(draw(random)));
      values.push_back(us);
      histogram.record(us * kMicrosecond);
    }
    std::sort(values.begin(), values.end());
    for (const double p : {50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0}) {
      const auto rank = static_cast<std::size_t>(std::ceil(p / 100 * static_cast<double>(values.size()) - 1e-9));
      const auto truth = values[rank - 1];
      CAPTURE(p);
      CHECK(histogram.percentile_us(p) == bucket::highest(bucket::index_of(truth)));
    }
  }

  TEST_CASE("min, max, mean and deviation are exact") {
    Histogram histogram;
    for (const Nanos ns : {1'500, 2'500, 3'500, 5'000'500}) histogram.record(ns);
    CHECK(histogram.min_us() == 1.5);
    CHECK(histogram.max_us() == 5000.5);
    CHECK(histogram.mean_us() == doctest::Approx(1252.0));
    CHECK(histogram.stdev_us() == doctest::Approx(2164.197).epsilon(1e-5));
    CHECK(histogram.count() == 4);
  }

  TEST_CASE("a microsecond is the least, and what is beyond the range keeps its exact maximum") {
    Histogram histogram;
    histogram.record(0);
    histogram.record(2 * 3600 * kSecond);
    CHECK(histogram.used().front().first == 1);
    CHECK(histogram.percentile_us(100) == bucket::kMaxUs);
    CHECK(histogram.max_us() == 7.2e9);
  }

  TEST_CASE("merging is the same as recording into one") {
    Histogram one;
    Histogram other;
    Histogram both;
    for (int i = 1; i < 2000; ++i) {
      (i % 3 == 0 ? one : other).record(i * 7'777);
      both.record(i * 7'777);
    }
    one.merge(other);
    CHECK(one.used() == both.used());
    CHECK(one.mean_us() == doctest::Approx(both.mean_us()));
    CHECK(one.stdev_us() == doctest::Approx(both.stdev_us()));
    CHECK(one.min_us() == both.min_us());
    CHECK(one.max_us() == both.max_us());
    one.merge(Histogram());
    CHECK(one.min_us() == both.min_us());
  }

  TEST_CASE("clear leaves nothing behind") {
    Histogram histogram;
    for (int i = 0; i < 100; ++i) histogram.record(i * kMillisecond);
    histogram.clear();
    CHECK(histogram.count() == 0);
    CHECK(histogram.used().empty());
    CHECK(histogram.percentile_us(99) == 0);
    CHECK(histogram.min_us() == 0);
    histogram.record(5 * kMicrosecond);
    CHECK(histogram.percentile_us(50) == 5);
    CHECK(histogram.used().size() == 1);
  }
}
