#include "histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace metronome {

namespace bucket {

std::uint32_t index_of(std::int64_t value_us) {
  const auto value = static_cast<std::uint64_t>(std::clamp<std::int64_t>(value_us, 0, kMaxUs));
  const int bits = std::max(static_cast<int>(std::bit_width(value)), kSubBucketBits);
  const int shift = bits - kSubBucketBits;
  // value >> shift is below 2048, and at or above 1024 wherever shift > 0.
  return static_cast<std::uint32_t>((shift << (kSubBucketBits - 1)) + (value >> shift));
}

std::int64_t lowest(std::uint32_t index) {
  const std::uint32_t block = index >> (kSubBucketBits - 1);
  if (block < 2) return index;
  const std::uint32_t shift = block - 1;
  return static_cast<std::int64_t>(index - (shift << (kSubBucketBits - 1))) << shift;
}

std::int64_t highest(std::uint32_t index) { return lowest(index + 1) - 1; }

}  // namespace bucket

void Histogram::record(Nanos duration) {
  const Nanos ns = std::max<Nanos>(duration, 0);
  // Below a microsecond counts as one: 0 would read as "no time at all".
  add(bucket::index_of(std::max<Nanos>((ns + kMicrosecond / 2) / kMicrosecond, 1)), 1);
  min_ns_ = std::min(min_ns_, ns);
  max_ns_ = std::max(max_ns_, ns);
  const double us = static_cast<double>(ns) / 1e3;
  sum_us_ += us;
  sum_squares_ += us * us;
}

void Histogram::add(std::uint32_t index, std::uint64_t count) {
  counts_[index] += count;
  count_ += count;
  first_ = std::min(first_, index);
  last_ = std::max(last_, index);
}

void Histogram::merge(const Histogram& other) {
  for (const auto& [index, count] : other.used()) add(index, count);
  min_ns_ = std::min(min_ns_, other.min_ns_);
  max_ns_ = std::max(max_ns_, other.max_ns_);
  sum_us_ += other.sum_us_;
  sum_squares_ += other.sum_squares_;
}

void Histogram::clear() {
  if (count_ > 0) std::fill(counts_.begin() + first_, counts_.begin() + last_ + 1, 0);
  count_ = 0;
  first_ = bucket::kCount;
  last_ = 0;
  min_ns_ = INT64_MAX;
  max_ns_ = 0;
  sum_us_ = sum_squares_ = 0;
}

double Histogram::min_us() const { return count_ == 0 ? 0 : static_cast<double>(min_ns_) / 1e3; }
double Histogram::max_us() const { return static_cast<double>(max_ns_) / 1e3; }
double Histogram::mean_us() const { return count_ == 0 ? 0 : sum_us_ / static_cast<double>(count_); }

double Histogram::stdev_us() const {
  if (count_ == 0) return 0;
  const double mean = mean_us();
  return std::sqrt(std::max(0.0, sum_squares_ / static_cast<double>(count_) - mean * mean));
}

std::int64_t Histogram::percentile_us(double percentile) const {
  if (count_ == 0) return 0;
  // The small step back keeps binary rounding (0.999 * 1000 = 999.0000000000001) from asking for one value more.
  const double wanted = std::ceil(percentile / 100.0 * static_cast<double>(count_) - 1e-9);
  const auto rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(std::max(wanted, 1.0)), 1, count_);
  std::uint64_t seen = 0;
  for (std::uint32_t i = first_; i <= last_; ++i) {
    seen += counts_[i];
    if (seen >= rank) return bucket::highest(i);
  }
  return bucket::highest(last_);
}

std::vector<std::pair<std::uint32_t, std::uint64_t>> Histogram::used() const {
  std::vector<std::pair<std::uint32_t, std::uint64_t>> pairs;
  if (count_ == 0) return pairs;
  for (std::uint32_t i = first_; i <= last_; ++i) {
    if (counts_[i] > 0) pairs.emplace_back(i, counts_[i]);
  }
  return pairs;
}

}  // namespace metronome
