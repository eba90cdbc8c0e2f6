#include "tally.h"

#include <algorithm>
#include <numeric>

namespace metronome {

namespace {

// Reasons are few; a server that makes up new ones must not fill the memory.
constexpr std::size_t kMostReasons = 32;

}  // namespace

Delay attribute(Nanos due, Nanos ready, Nanos sent, Nanos debt) {
  const Nanos step = sent - std::max(due, ready);
  Nanos own = sent - std::max(due, ready - debt);
  // The microseconds between an answer and the next send are no lateness; in a long backlog they would add up to it.
  if (step <= kTimelyLimit && debt > 0) own = std::max<Nanos>(own - step, 0);
  return {sent - due - own, own};
}

void Punctuality::note(const Delay& delay) {
  max_delay = std::max(max_delay, delay.busy + delay.own);
  max_delay_busy = std::max(max_delay_busy, delay.busy);
  max_delay_generator = std::max(max_delay_generator, delay.own);
  delay_generator.record(delay.own);
  if (delay.busy + delay.own <= kTimelyLimit) {
    ++timely;
  } else if (delay.busy <= kTimelyLimit) {
    ++late_generator;
  } else {
    ++late_busy;
  }
}

void Punctuality::merge(const Punctuality& other) {
  timely += other.timely;
  late_busy += other.late_busy;
  late_generator += other.late_generator;
  max_delay = std::max(max_delay, other.max_delay);
  max_delay_busy = std::max(max_delay_busy, other.max_delay_busy);
  max_delay_generator = std::max(max_delay_generator, other.max_delay_generator);
  delay_generator.merge(other.delay_generator);
}

void Tally::answered(int status, Nanos latency_ns, Nanos service_ns) {
  ++completed;
  ++statuses[static_cast<std::size_t>(std::clamp(status, 0, 999))];
  latency.record(latency_ns);
  service_time.record(service_ns);
  if (status / 100 != 2) return;
  ++succeeded;
  latency_succeeded.record(latency_ns);
}

void Tally::failed(const Failure& failure) {
  ++errors[static_cast<std::size_t>(failure.kind)];
  if (!first_failure) first_failure = failure;
  const std::pair key{failure.kind, failure.reason};
  const auto found = reasons.find(key);
  if (found != reasons.end()) {
    ++found->second;
  } else {
    ++reasons[reasons.size() < kMostReasons ? key : std::pair{failure.kind, std::string("other")}];
  }
}

std::uint64_t Tally::failures() const { return std::accumulate(errors.begin(), errors.end(), std::uint64_t{0}); }

void Tally::merge(const Tally& other) {
  planned += other.planned;
  sent += other.sent;
  completed += other.completed;
  succeeded += other.succeeded;
  for (std::size_t i = 0; i < errors.size(); ++i) errors[i] += other.errors[i];
  for (std::size_t i = 0; i < statuses.size(); ++i) statuses[i] += other.statuses[i];
  bytes_read += other.bytes_read;
  bytes_written += other.bytes_written;
  connects += other.connects;
  reconnects += other.reconnects;
  idle_closes += other.idle_closes;
  stale_retries += other.stale_retries;
  punctuality.merge(other.punctuality);
  latency.merge(other.latency);
  service_time.merge(other.service_time);
  latency_succeeded.merge(other.latency_succeeded);
  timed_out.merge(other.timed_out);
  for (const auto& [key, count] : other.reasons) reasons[key] += count;
  const bool earlier = other.first_failure && (!first_failure || other.first_failure->at_sec < first_failure->at_sec);
  if (earlier) first_failure = other.first_failure;
}

}  // namespace metronome
