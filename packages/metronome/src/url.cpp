#include "url.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "errors.h"

namespace metronome {

namespace {

[[noreturn]] void fail(const std::string& why) { throw InputError("--url: " + why); }

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return std::tolower(c); });
  return out;
}

std::uint16_t parse_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0 || port > 65535)
    fail("port '" + std::string(text) + "' is not a number from 1 to 65535");
  return static_cast<std::uint16_t>(port);
}

void split_host_port(std::string_view authority, Url& url) {
  std::string_view rest;
  if (authority.starts_with('[')) {
    const auto close = authority.find(']');
    if (close == std::string_view::npos) fail("'[' without ']' in the host");
    url.host = authority.substr(1, close - 1);
    rest = authority.substr(close + 1);
    if (!rest.empty() && rest[0] != ':') fail("only ':PORT' may follow ']'");
  } else {
    const auto colon = authority.find(':');
    url.host = authority.substr(0, colon);
    if (colon != std::string_view::npos) rest = authority.substr(colon);
    if (rest.find(':', 1) != std::string_view::npos) fail("an IPv6 address needs brackets, as in http://[::1]:8080/");
  }
  if (url.host.empty()) fail("no host in it");
  url.port = rest.size() > 1 ? parse_port(rest.substr(1)) : url.tls ? 443 : 80;
}

}  // namespace

Url parse_url(std::string_view text) {
  if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c <= ' ' || c >= 127; }))
    fail("spaces, control characters and non-ASCII letters must be percent-encoded");
  const auto scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) fail("must begin with http:// or https://");
  const std::string scheme = lower(text.substr(0, scheme_end));
  if (scheme != "http" && scheme != "https") fail("scheme '" + scheme + "' is not http or https");

  Url url;
  url.tls = scheme == "https";
  std::string_view rest = text.substr(scheme_end + 3);
  rest = rest.substr(0, rest.find('#'));
  const auto path_begin = rest.find_first_of("/?");
  const std::string_view authority = rest.substr(0, path_begin);
  // The text is not repeated: what stands before the '@' is a secret.
  if (authority.find('@') != std::string_view::npos)
    fail("a user name or password does not belong in a URL; use --header-file with an Authorization line");
  split_host_port(authority, url);
  if (path_begin == std::string_view::npos || rest[path_begin] == '?') url.path.push_back('/');
  if (path_begin != std::string_view::npos) url.path += rest.substr(path_begin);


  const bool default_port = url.port == (url.tls ? 443 : 80);
  url.host_header = authority.substr(0, authority.starts_with('[') ? authority.find(']') + 1 : authority.find(':'));
  if (!default_port) url.host_header.append(":").append(std::to_string(url.port));
  return url;
}

}  // namespace metronome
