// The result as JSON (schema: metronome_output), and the running commentary on stderr.
#pragma once

#include <string>

#include "options.h"
#include "run.h"
#include "timeline.h"

namespace metronome {

std::string report_json(const Options& options, const RunResult& result);

// Where the JSON will go, checked before the run rather than after it. The file gets its name only when it is whole.
class ReportFile {
 public:
  explicit ReportFile(std::string path);  // "-": stdout. Throws InputError where it cannot be written.
  ~ReportFile();
  ReportFile(const ReportFile&) = delete;
  ReportFile& operator=(const ReportFile&) = delete;

  void write(const std::string& text);  // throws RunError

 private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
};

// One JSON line per finished second.
class Progress {
 public:
  void print(const Row& row);

 private:
  std::uint64_t completed_ = 0;
  std::uint64_t errors_ = 0;
};

}  // namespace metronome
