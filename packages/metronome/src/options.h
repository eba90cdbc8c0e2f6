// What a run is asked to do, and the command line that says so.
#pragma once

#include <string>
#include <vector>

#include "request.h"
#include "schedule.h"
#include "url.h"

namespace metronome {

struct Options {
  std::string url_text;
  // What may be shown of it: a query can hold a key.
  std::string shown_url() const { return url_text.substr(0, url_text.find_first_of("?#")); }
  Url url;
  Headers headers;
  std::string method;
  std::string payload_path;
  double rate = 0;
  int connections = 1;
  int threads = 1;
  double duration_sec = 10;
  double warmup_sec = 0;
  double timeout_sec = 10;
  Nanos start_at = 0;  // on CLOCK_MONOTONIC; 0: as soon as the connections are open
  Mode mode = Mode::connection;
  bool insecure = false;
  std::string ca_file;
  std::string json_path;  // empty: a summary on stdout instead
  bool progress = false;
};

const char* mode_name(Mode mode);

// Reads the command line. Answers nothing when it only asked for --help or --version, which are then printed.
// Throws InputError.
class CommandLine {
 public:
  static bool read(int argc, char** argv, Options& options);
};

}  // namespace metronome
