// The result as JSON (schema: metronome_output), and the running commentary on stderr.
#pragma once

#include <string>

#include "options.h"
#include "run.h"
#include "timeline.h"

namespace metronome {

std::string report_json(const Options& options, const RunResult& result);

// Whether the JSON can be written there ("-": stdout), asked before the run rather than after it. Throws InputError.
void check_writable(const std::string& path);

// Writes it; a file gets its name only when it is whole. Throws RunError.
void write_report(const std::string& path, const std::string& text);

// One JSON line per finished second.
class Progress {
 public:
  void print(const Row& row);

 private:
  std::uint64_t completed_ = 0;
  std::uint64_t errors_ = 0;
  Statuses not_2xx_;
};

}  // namespace metronome
