// Boost.Beast's HTTP/1 parser as this program needs it: where a response ends, its status, whether the connection
// can be used again. Bodies are counted and dropped, so that memory stays flat whatever a server sends.
#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <cstddef>
#include <optional>
#include <string>

namespace metronome {

namespace detail {

class Parser final : public boost::beast::http::basic_parser<false> {
 public:
  int status() const { return status_; }

 private:
  using error_code = boost::beast::error_code;
  using string_view = boost::beast::string_view;

  void on_request_impl(boost::beast::http::verb, string_view, string_view, int, error_code&) override {}
  void on_response_impl(int code, string_view, int, error_code&) override { status_ = code; }
  void on_field_impl(boost::beast::http::field, string_view, string_view, error_code&) override {}
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(boost::optional<std::uint64_t> const&, error_code&) override {}
  std::size_t on_body_impl(string_view body, error_code&) override { return body.size(); }
  void on_chunk_header_impl(std::uint64_t, string_view, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, string_view body, error_code&) override { return body.size(); }
  void on_finish_impl(error_code&) override {}

  int status_ = 0;
};

}  // namespace detail

class ResponseReader {
 public:
  enum class Result { need_more, complete, error };
  struct Fed {
    Result result;
    std::size_t consumed;  // bytes used up; the rest must come again at the front of the next call
  };

  // A header section, or a chunk's own header, above this is an error: nobody sends one in good faith.
  static constexpr std::size_t kHeaderLimit = 64 * 1024;

  void begin(bool head_request);  // before each request's answer
  Fed feed(const char* data, std::size_t size);
  Result finish();  // the server closed: complete where that is how the body ends

  int status() const { return parser_->status(); }
  bool keep_alive() const { return parser_->keep_alive(); }
  const std::string& error() const { return error_; }

 private:
  void restart();

  std::optional<detail::Parser> parser_;
  bool head_request_ = false;
  std::string error_;
};

}  // namespace metronome
