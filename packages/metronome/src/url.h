// The target's URL, taken apart.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace metronome {

struct Url {
  bool tls = false;
  std::string host;  // without brackets
  std::uint16_t port = 80;
  std::string path;         // with the query, never empty
  std::string host_header;  // host[:port] as a Host field wants it
};

// Throws InputError: only http and https, no user name or password, no spaces or control characters.
Url parse_url(std::string_view text);

}  // namespace metronome
