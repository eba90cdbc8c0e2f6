// How the server answers: the request's path says which behaviour is wanted.
#pragma once

#include <string>
#include <string_view>

#include "clock.h"

namespace known {

enum class Then {
  keep,        // wait for the next request
  close,       // close in order
  reset,       // drop the connection with a TCP reset
  hang,        // never do anything again
  repeat,      // send `filler` for ever
  drip,        // send `bytes` a few at a time, 1 ms apart, then keep
  close_idle,  // keep, but close after 20 ms without a request
};

struct Reply {
  std::string bytes = {};
  Then then = Then::keep;
  metronome::Nanos delay = 0;
  std::string filler = {};
};

// `number` counts the requests of one connection from 1. An unknown path answers 404. The paths, by example:
//   /  /queue (waits for its turn, see queue.h)  /delay/5000 (microseconds)  /status/429  /large/100000 (bytes)
//   /chunked  /http10  /http10-keep  /close  /until-close  /continue  /early-hints  /redirect  /no-content
//   /not-modified  /lower-case  /drip
//   /reset  /drop  /hang  /garbage  /half-header  /half-header-hang  /half-body  /endless  /endless-chunked
//   /endless-header  /bad-chunk  /bad-length  /unasked  /switch  /idle-close  /reset-every/10  /drop-every/10
Reply reply_to(std::string_view method, std::string_view path, long number, metronome::Nanos default_delay);

}  // namespace known
