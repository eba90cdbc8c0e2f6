// The two ways in which a run does not take place; main() turns each into its exit code.
#pragma once

#include <stdexcept>

namespace metronome {

// Bad flags or bad input: exit code 2. The text names the place and the remedy.
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Well-formed input, but the run cannot start: exit code 1.
struct RunError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace metronome
