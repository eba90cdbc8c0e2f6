#include "summary.h"

#include <cstdarg>
#include <cstdio>

namespace metronome {

namespace {

[[gnu::format(printf, 2, 3)]] void line(std::string& out, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  out.append(text).append("\n");
}

void distribution(std::string& out, const char* name, const Histogram& histogram) {
  const auto ms = [&](double p) { return static_cast<double>(histogram.percentile_us(p)) / 1e3; };
  line(out, "%-14s %10.3f %10.3f %10.3f %10.3f %10.3f %10.3f", name, histogram.mean_us() / 1e3, ms(50), ms(90), ms(95),
       ms(99), histogram.max_us() / 1e3);
}

using Count = unsigned long long;

void failures(std::string& out, const Tally& total) {
  for (std::size_t code = 0; code < total.statuses.size(); ++code) {
    if (total.statuses[code] > 0 && code / 100 != 2) line(out, "status %zu: %llu", code, Count{total.statuses[code]});
  }
  for (const auto& [key, count] : total.reasons)
    line(out, "%s error: %llu x %s", kErrorKindNames[static_cast<std::size_t>(key.first)], Count{count},
         key.second.c_str());
}

}  // namespace

std::string summary(const Options& options, const RunResult& result) {
  const Tally& total = result.total;
  const bool closed = options.mode == Mode::none;
  std::string out;
  line(out, "%s (%s), %d connections, %d threads, %s loop, schedule %s%s", options.shown_url().c_str(),
       result.address.c_str(), options.connections, options.threads, closed ? "closed" : "open",
       mode_name(options.mode), result.signal != 0 ? " - INTERRUPTED" : "");
  line(out, "requests: %llu planned, %llu sent, %llu completed, %llu succeeded in %.3f s", Count{total.planned},
       Count{total.sent}, Count{total.completed}, Count{total.succeeded}, result.window_sec);
  if (result.window_sec > 0)
    line(out, "rate: %.3f requests/s%s", static_cast<double>(total.completed) / result.window_sec,
         closed ? "" : (" of " + std::to_string(options.rate) + " asked for").c_str());
  line(out, "%-14s %10s %10s %10s %10s %10s %10s", "milliseconds", "mean", "p50", "p90", "p95", "p99", "max");
  distribution(out, "latency", total.latency);
  distribution(out, "service time", total.service_time);
  const Punctuality& kept = total.punctuality;
  if (!closed)
    line(out, "sends: %llu timely, %llu late for want of a free connection, %llu late by metronome itself, %llu missed",
         Count{kept.timely}, Count{kept.late_busy}, Count{kept.late_generator}, Count{total.planned - total.sent});
  failures(out, total);
  return out;
}

}  // namespace metronome
