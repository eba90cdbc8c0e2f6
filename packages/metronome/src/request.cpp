#include "request.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "errors.h"

namespace metronome {

namespace {

// RFC 9110, 5.6.2: the characters of a token, which field names and methods are.
bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](unsigned char c) {
    return (c < 128 && std::isalnum(c)) || kMarks.find(static_cast<char>(c)) != std::string_view::npos;
  });
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

bool has(const Headers& headers, std::string_view name) {
  return std::any_of(headers.begin(), headers.end(), [&](const auto& field) { return same_name(field.first, name); });
}

}  // namespace

std::pair<std::string, std::string> parse_header(std::string_view line, const std::string& place) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) throw InputError(place + ": no ':' in it; a header is 'Name: value'");
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = trim(line.substr(colon + 1));
  if (!is_token(name)) throw InputError(place + ": what stands before ':' is not a header name");
  if (std::any_of(value.begin(), value.end(), [](unsigned char c) { return (c < ' ' && c != '\t') || c == 127; }))
    throw InputError(place + ": control character in the value of " + std::string(name));
  for (const auto reserved : {"Content-Length", "Transfer-Encoding"}) {
    if (same_name(name, reserved)) throw InputError(place + ": " + reserved + " follows from the payload; leave it out");
  }
  return {std::string(name), std::string(value)};
}

Headers read_header_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw InputError("--header-file: " + path + ": " + std::strerror(errno));
  Headers headers;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (trim(line).empty() || line[0] == '#') continue;
    headers.push_back(parse_header(line, "--header-file: " + path + ":" + std::to_string(number)));
  }
  if (in.bad()) throw InputError("--header-file: " + path + ": cannot be read");
  return headers;
}

void check_method(std::string_view method) {
  if (!is_token(method)) throw InputError("--method: not an HTTP method");
  if (method == "CONNECT") throw InputError("--method: CONNECT opens a tunnel, which is not a request to measure");
}

RequestWriter::RequestWriter(const Url& url, const std::string& method, const Headers& headers, const Payload& payload)
    : payload_(payload), head_(method == "HEAD") {
  prefix_ = method + " " + url.path + " HTTP/1.1\r\n";
  const auto line = [this](std::string_view name, std::string_view value) {
    prefix_.append(name).append(": ").append(value).append("\r\n");
  };
  if (!has(headers, "Host")) line("Host", url.host_header);
  if (!has(headers, "User-Agent")) line("User-Agent", "metronome/" METRONOME_VERSION);
  if (!has(headers, "Accept")) line("Accept", "*/*");
  for (const auto& [name, value] : headers) line(name, value);
  if (!payload.empty()) {
    if (!has(headers, "Content-Type")) line("Content-Type", "application/json");
    prefix_ += "Content-Length: ";
  } else {
    // RFC 9110, 8.6: methods that expect content say that there is none.
    if (method == "POST" || method == "PUT" || method == "PATCH") line("Content-Length", "0");
    prefix_ += "\r\n";
  }
}

std::string_view RequestWriter::write(std::size_t line, std::string& scratch) const {
  if (payload_.empty()) return prefix_;
  const std::string_view body = payload_.body(line % payload_.size());
  std::array<char, 20> digits;
  const auto [end, error] = std::to_chars(digits.begin(), digits.end(), body.size());
  static_cast<void>(error);  // twenty digits hold every 64-bit number
  scratch.assign(prefix_).append(digits.data(), end).append("\r\n\r\n").append(body);
  return scratch;
}

}  // namespace metronome
