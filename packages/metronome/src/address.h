// Where the target is: one resolved address, the same for the whole run.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "clock.h"

namespace metronome {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  std::string text;  // numeric, as in 127.0.0.1 or ::1

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// Resolves, then answers the first address that accepts a connection within `limit`, so that a name with an IPv6 and
// an IPv4 address works whichever the server listens on. If none does, the first: the run then counts the failures.
// Throws RunError when the name has no address.
Address choose_address(const std::string& host, std::uint16_t port, Nanos limit);

}  // namespace metronome
