#include "address.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "errors.h"

namespace metronome {

namespace {

std::vector<Address> resolve(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) throw RunError("cannot resolve host '" + host + "': " + ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> guard(found, ::freeaddrinfo);
  std::vector<Address> addresses;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    Address address;
    std::memcpy(&address.storage, at->ai_addr, at->ai_addrlen);
    address.length = at->ai_addrlen;
    std::array<char, NI_MAXHOST> text{};
    ::getnameinfo(at->ai_addr, at->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
    address.text = text.data();
    addresses.push_back(address);
  }
  return addresses;
}

bool accepts(const Address& address, Nanos limit) {
  const int fd = ::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  int error = ::connect(fd, address.get(), address.length) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd waiting{fd, POLLOUT, 0};
    socklen_t size = sizeof error;
    if (::poll(&waiting, 1, static_cast<int>(limit / kMillisecond)) == 1)
      ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  ::close(fd);
  return error == 0;
}

}  // namespace

Address choose_address(const std::string& host, std::uint16_t port, Nanos limit) {
  const auto addresses = resolve(host, port);
  // Nothing to choose from: spare the server a connection that carries no request.
  if (addresses.size() == 1) return addresses.front();
  const auto it =
      std::find_if(addresses.begin(), addresses.end(), [limit](const auto& address) { return accepts(address, limit); });
  return it != addresses.end() ? *it : addresses.front();
}

}  // namespace metronome
