#include "response.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <limits>

namespace metronome {

namespace http = boost::beast::http;

void ResponseReader::begin(bool head_request) {
  head_request_ = head_request;
  restart();
}

void ResponseReader::restart() {
  parser_.emplace();
  parser_->eager(true);
  // The request's timeout bounds an endless body. (Boost 1.74 takes boost::none, "no limit", for a limit of nothing.)
  parser_->body_limit(std::numeric_limits<std::uint64_t>::max());
  parser_->header_limit(kHeaderLimit);
  if (head_request_) parser_->skip(true);
}

ResponseReader::Fed ResponseReader::feed(const char* data, std::size_t size) {
  std::size_t used = 0;
  while (used < size) {
    boost::beast::error_code error;
    const std::size_t step = parser_->put(boost::asio::buffer(data + used, size - used), error);
    used += step;
    if (error && error != http::error::need_more) {
      error_ = "not a valid HTTP response: " + error.message();
      return {Result::error, used};
    }
    if (parser_->is_done()) {
      // RFC 9110, 15.2: any number of interim responses may come before the final one. 101 would end HTTP, and
      // nobody asked for that.
      if (parser_->status() / 100 != 1) return {Result::complete, used};
      if (parser_->status() == 101) {
        error_ = "not a valid HTTP response: 101 without a request to switch protocols";
        return {Result::error, used};
      }
      restart();
    } else if (error == http::error::need_more || step == 0) {
      break;
    }
  }
  if (size - used > kHeaderLimit) {
    error_ = "not a valid HTTP response: header without an end";
    return {Result::error, used};
  }
  return {Result::need_more, used};
}

ResponseReader::Result ResponseReader::finish() {
  boost::beast::error_code error;
  if (parser_->got_some()) parser_->put_eof(error);
  if (!error && parser_->is_done() && parser_->status() / 100 != 1) return Result::complete;
  error_ = "closed by the server in the middle of a response";
  return Result::error;
}

}  // namespace metronome
