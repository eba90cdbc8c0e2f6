// The bytes of a request: everything but the body is built once.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "payload.h"
#include "url.h"

namespace metronome {

using Headers = std::vector<std::pair<std::string, std::string>>;

// One `Name: value`. `place` begins the InputError's text; the value never appears in it.
std::pair<std::string, std::string> parse_header(std::string_view line, const std::string& place);
// One header per line; blank lines and lines that begin with '#' are skipped.
Headers read_header_file(const std::string& path);
void check_method(std::string_view method);

class RequestWriter {
 public:
  RequestWriter(const Url& url, const std::string& method, const Headers& headers, const Payload& payload);

  // The request that carries body number `line` (of the payload; ignored when there is none). The bytes stay valid
  // until the next call with the same scratch.
  std::string_view write(std::size_t line, std::string& scratch) const;
  bool head() const { return head_; }

 private:
  const Payload& payload_;
  std::string prefix_;  // the whole request where there is no payload, else all up to "Content-Length: "
  bool head_;
};

}  // namespace metronome
