// The result for a person at a terminal.
#pragma once

#include <string>

#include "options.h"
#include "run.h"

namespace metronome {

std::string summary(const Options& options, const RunResult& result);

}  // namespace metronome
