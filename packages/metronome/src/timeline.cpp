#include "timeline.h"

#include <algorithm>

namespace metronome {

void SliceBox::put(Slice slice) {
  const std::lock_guard lock(mutex_);
  slices_.push_back(std::move(slice));
}

std::vector<Slice> SliceBox::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(slices_, {});
}

void SecondRecorder::answered(Nanos at, Nanos latency, Nanos service_time) {
  Slot& second = slot(at);
  ++second.counts.completed;
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
    for (const auto& [index, count] : slice.latency) pending.latency.add(index, count);
    for (const auto& [index, count] : slice.service_time) pending.service_time.add(index, count);
  }
  const std::size_t known = rows_.size();
  while (!pending_.empty() && pending_.begin()->second.slices == threads_) {
    complete(pending_.begin()->second);
    pending_.erase(pending_.begin());
  }
  return {rows_.begin() + static_cast<std::ptrdiff_t>(known), rows_.end()};
}

void Timeline::finish() {
  for (auto& [second, pending] : pending_) complete(pending);
  pending_.clear();
}

void Timeline::complete(Pending& pending) {
  pending.row.latency_p50_us = pending.latency.percentile_us(50);
  pending.row.latency_p99_us = pending.latency.percentile_us(99);
  pending.row.service_time_p99_us = pending.service_time.percentile_us(99);
  rows_.push_back(pending.row);
}

}  // namespace metronome
