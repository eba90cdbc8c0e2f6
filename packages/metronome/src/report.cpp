#include "report.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

#include "errors.h"

namespace metronome {

namespace {

using Json = nlohmann::ordered_json;

constexpr double kPercentiles[] = {50, 75, 90, 95, 99, 99.9, 99.99};

double rounded(double value, double unit) { return std::round(value / unit) * unit; }
double to_us(Nanos ns) { return static_cast<double>(ns) / 1e3; }
double per_sec(std::uint64_t count, double sec) { return sec > 0 ? static_cast<double>(count) / sec : 0; }
double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

std::string percentile_name(double percentile) {
  char text[16];
  std::snprintf(text, sizeof text, "%g", percentile);
  return text;
}

Json distribution(const Histogram& histogram) {
  Json percentiles = Json::object();
  // A bucket's highest value can lie above the highest value ever seen.
  const auto capped = [&](std::int64_t us) {
    return std::min(us, static_cast<std::int64_t>(std::ceil(histogram.max_us())));
  };
  for (const double p : kPercentiles) percentiles[percentile_name(p)] = capped(histogram.percentile_us(p));
  Json pairs = Json::array();
  for (const auto& [index, count] : histogram.used()) pairs.push_back({bucket::highest(index), count});
  return {{"count", histogram.count()},       {"min_us", histogram.min_us()},     {"mean_us", histogram.mean_us()},
          {"stdev_us", histogram.stdev_us()}, {"max_us", histogram.max_us()},     {"percentiles_us", percentiles},
          {"histogram", pairs}};
}

Json target(const Options& options, const RunResult& result) {
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return {{"url", options.shown_url()},
          {"host", options.url.host},
          {"port", options.url.port},
          {"address", result.address},
          {"tls", options.url.tls},
          {"tls_verified", options.url.tls && !options.insecure},
          {"tls_version", text_or_null(result.tls_version)},
          {"tls_cipher", text_or_null(result.tls_cipher)}};
}

Json load(const Options& options, const RunResult& result) {
  const bool closed = options.mode == Mode::none;
  Json payload;
  if (result.bodies > 0)
    payload = {{"path", options.payload_path}, {"bodies", result.bodies}, {"bytes_mean", result.body_bytes_mean}};
  return {{"model", closed ? "closed" : "open"},
          {"schedule", mode_name(options.mode)},
          {"rate", closed ? Json() : Json(options.rate)},
          {"connections", options.connections},
          {"threads", options.threads},
          {"duration_sec", options.duration_sec},
          {"warmup_sec", options.warmup_sec},
          {"timeout_sec", options.timeout_sec},
          {"method", options.method},
          {"payload", payload}};
}

Json errors(const Tally& total) {
  Json counts = Json::object();
  for (std::size_t i = 0; i < kErrorKinds; ++i) counts[kErrorKindNames[i]] = total.errors[i];
  return counts;
}

Json error_reasons(const Tally& total) {
  Json reasons = Json::array();
  for (const auto& [key, count] : total.reasons)
    reasons.push_back({{"kind", kErrorKindNames[static_cast<std::size_t>(key.first)]},
                       {"reason", key.second},
                       {"count", count}});
  return reasons;
}

Json first_error(const Tally& total) {
  if (!total.first_failure) return {};
  return {{"kind", kErrorKindNames[static_cast<std::size_t>(total.first_failure->kind)]},
          {"reason", total.first_failure->reason},
          {"at_sec", total.first_failure->at_sec}};
}

Json statuses(const Statuses& by_code) {
  Json counts = Json::object();
  for (const auto& [code, count] : by_code) counts[std::to_string(code)] = count;
  return counts;
}

Json statuses(const Tally& total) {
  Json counts = Json::object();
  for (std::size_t code = 0; code < total.statuses.size(); ++code) {
    if (total.statuses[code] > 0) counts[std::to_string(code)] = total.statuses[code];
  }
  return counts;
}

Json punctuality(const Tally& total) {
  const Punctuality& kept = total.punctuality;
  return {{"timely_limit_us", to_us(kTimelyLimit)},
          {"timely", kept.timely},
          {"timely_percent", percent(static_cast<double>(kept.timely), static_cast<double>(total.sent))},
          {"late", kept.late_busy + kept.late_generator},
          {"late_busy", kept.late_busy},
          {"late_generator", kept.late_generator},
          {"missed", total.planned - total.sent},
          {"max_delay_us", to_us(kept.max_delay)},
          {"max_delay_busy_us", to_us(kept.max_delay_busy)},
          {"max_delay_generator_us", to_us(kept.max_delay_generator)},
          {"delay_generator_us_p99", kept.delay_generator.percentile_us(99)}};
}

Json cpu_use(const CpuUse& use) {
  return {{"user_sec", rounded(use.user_sec, 1e-6)},
          {"system_sec", rounded(use.system_sec, 1e-6)},
          {"percent_of_core", rounded(percent(use.user_sec + use.system_sec, use.wall_sec), 1e-3)},
          {"run_queue_wait_sec", rounded(use.run_queue_wait_sec, 1e-6)}};
}

Json cpu(const RunResult& result) {
  Json threads = Json::array();
  Json total = {{"user_sec", 0.0}, {"system_sec", 0.0}, {"run_queue_wait_sec", 0.0}};
  for (const CpuUse& use : result.threads) {
    threads.push_back(cpu_use(use));
    for (auto& [name, sum] : total.items()) sum = sum.get<double>() + threads.back()[name].get<double>();
  }
  const double busy_us = (total["user_sec"].get<double>() + total["system_sec"].get<double>()) * 1e6;
  total["us_per_request"] = result.total.sent > 0 ? busy_us / static_cast<double>(result.total.sent) : 0;
  total["threads"] = threads;
  return total;
}

bool is_special(const std::string& path) {  // a pipe, /dev/null: written as it is
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return path.substr(0, std::max<std::size_t>(slash, 1));
}

[[noreturn]] void fail_to_write(const std::string& path) {
  throw RunError("--json: " + path + ": " + std::strerror(errno));
}

void write_all(int fd, const std::string& path, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_to_write(path);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

Json timeline(const RunResult& result) {
  Json rows = Json::array();
  for (const Row& row : result.timeline)
    rows.push_back({{"t_sec", row.second},
                    {"sent", row.sent},
                    {"completed", row.completed},
                    {"errors", row.errors},
                    {"not_2xx", statuses(row.not_2xx)},
                    {"latency_us_p50", row.latency_p50_us},
                    {"latency_us_p99", row.latency_p99_us},
                    {"service_time_us_p99", row.service_time_p99_us}});
  return rows;
}

}  // namespace

std::string report_json(const Options& options, const RunResult& result) {
  const Tally& total = result.total;
  Json document;
  document["version"] = "1.0";
  document["generator"] = {{"name", "metronome"}, {"version", METRONOME_VERSION}};
  document["started_at"] = result.started_at;
  document["interrupted"] = result.signal != 0;
  document["signal"] = result.signal != 0 ? Json(result.signal) : Json();
  document["window_sec"] = result.window_sec;
  document["drain_sec"] = result.drain_sec;
  document["target"] = target(options, result);
  document["load"] = load(options, result);
  document["requests"] = {{"planned", total.planned},
                          {"sent", total.sent},
                          {"completed", total.completed},
                          {"succeeded", total.succeeded}};
  document["sent_per_sec"] = per_sec(total.sent, result.window_sec);
  document["requests_per_sec"] = per_sec(total.completed, result.window_sec);
  document["succeeded_per_sec"] = per_sec(total.succeeded, result.window_sec);
  document["bytes_read"] = total.bytes_read;
  document["bytes_written"] = total.bytes_written;
  document["status"] = statuses(total);
  document["errors"] = errors(total);
  document["first_error"] = first_error(total);
  document["error_reasons"] = error_reasons(total);
  document["connections"] = {{"opened", total.connects},
                             {"reconnects", total.reconnects},
                             {"idle_closes", total.idle_closes},
                             {"stale_retries", total.stale_retries}};
  document["schedule"] = punctuality(total);
  document["latency"] = distribution(total.latency);
  document["service_time"] = distribution(total.service_time);
  document["latency_succeeded"] = distribution(total.latency_succeeded);
  document["timed_out"] = distribution(total.timed_out);
  document["timeline"] = timeline(result);
  document["cpu"] = cpu(result);
  // `replace`: an error text that a server made up need not be UTF-8.
  return document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void check_writable(const std::string& path) {
  if (path == "-") return;
  const std::string place = is_special(path) ? path : folder_of(path);
  struct stat info {};
  const bool is_folder = ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  if (is_folder) errno = EISDIR;
  if (is_folder || ::access(place.c_str(), W_OK) != 0)
    throw InputError("--json: " + path + ": " + std::strerror(errno));
}

void write_report(const std::string& path, const std::string& text) {
  if (path == "-") return write_all(STDOUT_FILENO, path, text);
  const bool special = is_special(path);
  const std::string name = special ? path : path + "." + std::to_string(::getpid()) + ".tmp";
  const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) fail_to_write(path);
  try {
    write_all(fd, path, text);
    if (::close(fd) != 0) fail_to_write(path);
    if (!special && ::rename(name.c_str(), path.c_str()) != 0) fail_to_write(path);
  } catch (const RunError&) {
    if (!special) ::unlink(name.c_str());
    throw;
  }
}

void Progress::print(const Row& row) {
  completed_ += row.completed;
  errors_ += row.errors;
  for (const auto& [status, count] : row.not_2xx) not_2xx_[status] += count;
  const Json line = {{"elapsed_sec", row.second + 1},
                     {"completed", completed_},
                     {"errors", errors_},
                     {"not_2xx", statuses(not_2xx_)},
                     {"requests_per_sec", row.completed},
                     {"latency_us_p50", row.latency_p50_us},
                     {"latency_us_p99", row.latency_p99_us},
                     {"latency_us", row.latency},
                     {"service_time_us", row.service_time}};
  std::fprintf(stderr, "%s\n", line.dump().c_str());
  std::fflush(stderr);
}

}  // namespace metronome
