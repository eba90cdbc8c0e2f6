#include <csignal>
#include <cstdio>
#include <exception>

#include "errors.h"
#include "options.h"
#include "report.h"
#include "run.h"
#include "summary.h"

namespace {

int measure(const metronome::Options& options) {
  if (!options.json_path.empty()) metronome::check_writable(options.json_path);
  const auto result = metronome::run(options);
  if (options.json_path.empty()) {
    std::fputs(metronome::summary(options, result).c_str(), stdout);
  } else {
    metronome::write_report(options.json_path, metronome::report_json(options, result));
  }
  return result.signal != 0 ? 128 + result.signal : 0;
}

int fail(const std::exception& error, int code) {
  std::fprintf(stderr, "metronome: error: %s\n", error.what());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a server that hangs up is a count, not the end
  try {
    metronome::Options options;
    return metronome::CommandLine::read(argc, argv, options) ? measure(options) : 0;
  } catch (const metronome::InputError& error) {
    return fail(error, 2);
  } catch (const metronome::RunError& error) {
    return fail(error, 1);
  } catch (const std::exception& error) {
    return fail(error, 70);
  }
}
