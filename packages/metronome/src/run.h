// A whole run: prepares, starts the threads, watches signals and seconds, adds everything up.
#pragma once

#include <string>
#include <vector>

#include "options.h"
#include "tally.h"
#include "timeline.h"

namespace metronome {

struct RunResult {
  std::string started_at;  // UTC, ISO 8601: when the counted window began
  std::string address;
  std::string tls_version;  // empty: no TLS, or no handshake succeeded
  std::string tls_cipher;
  std::size_t bodies = 0;
  double body_bytes_mean = 0;
  double window_sec = 0;  // length of the counted window; shorter than asked for after a signal
  double drain_sec = 0;   // from its end until the last answer was in or given up
  int signal = 0;         // the one that ended the run early, or 0
  Tally total;
  std::vector<CpuUse> threads;
  std::vector<Row> timeline;
};

// Throws InputError (payload, CA file) and RunError (host name, system limits).
RunResult run(const Options& options);

}  // namespace metronome
