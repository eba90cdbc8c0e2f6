// Latency histogram with HdrHistogram's bucket layout: three significant digits from 1 µs to a little over an hour.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "clock.h"

namespace metronome {

// Bucket layout of HdrHistogram (lowest discernible value 1, three significant digits): up to 2047 every value has
// a bucket of its own; above that every power of two is cut into 1024 equal parts, so that no bucket is wider than
// 0.1 % of its values.
namespace bucket {
inline constexpr int kSubBucketBits = 11;  // 2^11 = 2048 >= 2 * 10^3
inline constexpr std::int64_t kMaxUs = 4'294'967'295;  // 71.6 minutes
std::uint32_t index_of(std::int64_t value_us);
std::int64_t lowest(std::uint32_t index);
std::int64_t highest(std::uint32_t index);
inline constexpr std::uint32_t kCount = (32 - kSubBucketBits + 2) * 1024;
}  // namespace bucket

class Histogram {
 public:
  Histogram() : counts_(bucket::kCount) {}

  void record(Nanos duration);
  void add(std::uint32_t index, std::uint64_t count);  // a bucket only: min, max and moments stay as they are
  void merge(const Histogram& other);
  void clear();

  std::uint64_t count() const { return count_; }
  double min_us() const;
  double max_us() const;
  double mean_us() const;
  double stdev_us() const;  // of the population

  // Value at a percentile in (0, 100]: the smallest bucket at or below which that share of the values lies. Like
  // HdrHistogram it answers the highest value that the bucket stands for. 0 when empty.
  std::int64_t percentile_us(double percentile) const;

  // (bucket index, count) of every bucket in use, ascending.
  std::vector<std::pair<std::uint32_t, std::uint64_t>> used() const;

 private:
  std::vector<std::uint64_t> counts_;
  std::uint64_t count_ = 0;
  std::uint32_t first_ = bucket::kCount;  // range in use, so that clear() and percentile_us() stay cheap
  std::uint32_t last_ = 0;
  Nanos min_ns_ = INT64_MAX;
  Nanos max_ns_ = 0;
  double sum_us_ = 0;
  double sum_squares_ = 0;
};

}  // namespace metronome
