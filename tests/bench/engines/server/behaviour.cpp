#include "behaviour.h"

#include <charconv>
#include <functional>
#include <map>

namespace known {

namespace {

constexpr std::string_view kBody = "{\"ok\": true}\n";

std::string with_length(std::string_view start, std::string_view body) {
  return std::string(start) + "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + std::string(body);
}

std::string ok() { return with_length("HTTP/1.1 200 OK", kBody); }

constexpr std::string_view kChunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

using Maker = std::function<Reply()>;

const std::map<std::string_view, Maker>& fixed() {
  static const std::map<std::string_view, Maker> replies{
      // Answers in good order.
      {"/chunked", [] { return Reply{std::string(kChunked) + "5\r\nhello\r\n6;note=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n"}; }},
      {"/http10", [] { return Reply{with_length("HTTP/1.0 200 OK", kBody), Then::close}; }},
      {"/http10-keep", [] { return Reply{with_length("HTTP/1.0 200 OK\r\nConnection: keep-alive", kBody)}; }},
      {"/close", [] { return Reply{with_length("HTTP/1.1 200 OK\r\nConnection: close", kBody), Then::close}; }},
      {"/until-close", [] { return Reply{"HTTP/1.1 200 OK\r\n\r\nall of it", Then::close}; }},
      {"/continue", [] { return Reply{"HTTP/1.1 100 Continue\r\n\r\n" + ok()}; }},
      {"/early-hints", [] { return Reply{"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok()}; }},
      {"/redirect", [] { return Reply{with_length("HTTP/1.1 302 Found\r\nLocation: /elsewhere", "")}; }},
      {"/no-content", [] { return Reply{"HTTP/1.1 204 No Content\r\n\r\n"}; }},
      {"/not-modified", [] { return Reply{"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"}; }},
      {"/lower-case", [] { return Reply{"HTTP/1.1 200 \r\ncontent-length:2\r\nconnection:KEEP-ALIVE\r\n\r\nok"}; }},
      {"/drip", [] { return Reply{ok(), Then::drip}; }},
      {"/idle-close", [] { return Reply{ok(), Then::close_idle}; }},
      // Answers in bad order.
      {"/reset", [] { return Reply{"", Then::reset}; }},
      {"/drop", [] { return Reply{"", Then::close}; }},
      {"/hang", [] { return Reply{"", Then::hang}; }},
      {"/garbage", [] { return Reply{"\x7f\x01 this is not HTTP\r\n\r\n", Then::keep}; }},
      {"/half-header", [] { return Reply{"HTTP/1.1 200 OK\r\nContent-Le", Then::close}; }},
      {"/half-header-hang", [] { return Reply{"HTTP/1.1 200 OK\r\nContent-Le", Then::hang}; }},
      {"/half-body", [] { return Reply{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", Then::close}; }},
      {"/endless", [] { return Reply{"HTTP/1.1 200 OK\r\n\r\n", Then::repeat, 0, std::string(65536, 'x')}; }},
      {"/endless-chunked", [] { return Reply{std::string(kChunked), Then::repeat, 0, "400\r\n" + std::string(1024, 'x') + "\r\n"}; }},
      {"/endless-header", [] { return Reply{"HTTP/1.1 200 OK\r\n", Then::repeat, 0, "X-More: " + std::string(1000, 'x') + "\r\n"}; }},
      {"/bad-chunk", [] { return Reply{std::string(kChunked) + "zz\r\nhello\r\n"}; }},
      {"/bad-length", [] { return Reply{"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"}; }},
      {"/unasked", [] { return Reply{ok() + ok()}; }},
      {"/switch", [] { return Reply{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"}; }},
  };
  return replies;
}

// "/name/123" -> 123
bool numbered(std::string_view path, std::string_view name, long& number) {
  if (!path.starts_with(name)) return false;
  path.remove_prefix(name.size());
  return std::from_chars(path.data(), path.data() + path.size(), number).ptr == path.data() + path.size();
}

}  // namespace

Reply reply_to(std::string_view method, std::string_view path, long number, metronome::Nanos default_delay) {
  path = path.substr(0, path.find('?'));
  // A HEAD's answer announces a length and has no body (RFC 9110, 9.3.2).
  if (method == "HEAD") return {"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"};
  if (path == "/" || path == "/queue") return {ok(), Then::keep, default_delay};
  if (const auto found = fixed().find(path); found != fixed().end()) return found->second();
  long value = 0;
  if (numbered(path, "/delay/", value)) return {ok(), Then::keep, value * metronome::kMicrosecond};
  if (numbered(path, "/status/", value)) return {with_length("HTTP/1.1 " + std::to_string(value) + " Status", kBody)};
  if (numbered(path, "/large/", value))
    return {with_length("HTTP/1.1 200 OK", std::string(static_cast<std::size_t>(value), 'x'))};
  if (numbered(path, "/reset-every/", value)) return number % value == 0 ? Reply{"", Then::reset} : Reply{ok()};
  if (numbered(path, "/drop-every/", value)) return number % value == 0 ? Reply{"", Then::close} : Reply{ok()};
  return {with_length("HTTP/1.1 404 Not Found", "")};
}

}  // namespace known
