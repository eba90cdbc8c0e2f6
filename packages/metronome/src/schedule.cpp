#include "schedule.h"

namespace metronome {

TickCursor::TickCursor(Mode mode, int thread, int threads, int connections)
    : round_(mode == Mode::connection ? connections : threads),
      lanes_(mode == Mode::connection ? owned_connections(thread, threads, connections) : 1),
      thread_(thread),
      threads_(threads) {}

void TickCursor::advance() {
  if (++lane_ < lanes_) return;
  lane_ = 0;
  base_ += round_;
}

}  // namespace metronome
