#include "timeline.h"

#include <algorithm>

namespace metronome {

namespace {

Values values_of(const Histogram& histogram) {
  Values values;
  for (const auto& [index, count] : histogram.used()) values.emplace_back(bucket::highest(index), count);
  return values;
}

}  // namespace

void SliceBox::put(Slice slice) {
  const std::lock_guard lock(mutex_);
  slices_.push_back(std::move(slice));
}

std::vector<Slice> SliceBox::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(slices_, {});
}

void SecondRecorder::answered(Nanos at, int status, Nanos latency, Nanos service_time) {
  Slot& second = slot(at);
  ++second.counts.completed;
  if (status / 100 != 2) ++second.counts.not_2xx[status];
  second.latency.record(latency);
  second.service_time.record(service_time);
}

void SecondRecorder::seal_before(Nanos at) {
  while (at >= next_seal()) seal_one();
}

void SecondRecorder::seal_all() {
  while (unsealed_ <= last_used_) seal_one();
}

SecondRecorder::Slot& SecondRecorder::slot(Nanos at) {
  const std::int64_t second = at / kSecond;
  while (second >= unsealed_ + 2) seal_one();
  last_used_ = std::max(last_used_, second);
  return slots_[static_cast<std::size_t>(second) & 1];
}

void SecondRecorder::seal_one() {
  Slot& slot = slots_[static_cast<std::size_t>(unsealed_) & 1];
  slot.counts.second = unsealed_++;
  slot.counts.latency = slot.latency.used();
  slot.counts.service_time = slot.service_time.used();
  box_.put(std::exchange(slot.counts, {}));
  slot.latency.clear();
  slot.service_time.clear();
}

std::vector<Row> Timeline::add(const std::vector<Slice>& slices) {
  for (const auto& slice : slices) {
    Pending& pending = pending_[slice.second];
    ++pending.slices;
    pending.row.second = slice.second;
    pending.row.sent += slice.sent;
    pending.row.completed += slice.completed;
    pending.row.errors += slice.errors;
    for (const auto& [status, count] : slice.not_2xx) pending.row.not_2xx[status] += count;
    for (const auto& [index, count] : slice.latency) pending.latency.add(index, count);
    for (const auto& [index, count] : slice.service_time) pending.service_time.add(index, count);
  }
  std::vector<Row> fresh;
  while (!pending_.empty() && pending_.begin()->second.slices == threads_) {
    Pending& pending = pending_.begin()->second;
    rows_.push_back(complete(pending));
    fresh.push_back(rows_.back());
    fresh.back().latency = values_of(pending.latency);
    fresh.back().service_time = values_of(pending.service_time);
    pending_.erase(pending_.begin());
  }
  return fresh;
}

void Timeline::finish() {
  for (auto& [second, pending] : pending_) rows_.push_back(complete(pending));
  pending_.clear();
}

Row Timeline::complete(Pending& pending) const {
  pending.row.latency_p50_us = pending.latency.percentile_us(50);
  pending.row.latency_p99_us = pending.latency.percentile_us(99);
  pending.row.service_time_p99_us = pending.service_time.percentile_us(99);
  return pending.row;
}

}  // namespace metronome
