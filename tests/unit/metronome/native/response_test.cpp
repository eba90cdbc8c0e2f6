#include "response.h"

#include <doctest/doctest.h>

#include <string>

using namespace metronome;
using Result = ResponseReader::Result;

namespace {

struct Outcome {
  Result result;
  std::size_t used;
  int status;
  bool keep_alive;
};

// Feeds `text` in pieces of at most `step` bytes, the way a connection does: what was not consumed comes again.
Outcome feed(const std::string& text, std::size_t step, bool head = false, bool close = false) {
  ResponseReader reader;
  reader.begin(head);
  std::string kept;
  std::size_t used = 0;
  for (std::size_t at = 0; at < text.size(); at += step) {
    kept += text.substr(at, step);
    const auto fed = reader.feed(kept.data(), kept.size());
    used += fed.consumed;
    kept.erase(0, fed.consumed);
    if (fed.result == Result::complete) return {fed.result, used, reader.status(), reader.keep_alive()};
    if (fed.result == Result::error) return {fed.result, used, 0, false};
  }
  if (!close) return {Result::need_more, used, 0, false};
  const Result result = reader.finish();
  return {result, used, result == Result::complete ? reader.status() : 0, false};
}

}  // namespace

TEST_SUITE("response") {
  TEST_CASE("complete answers, however they are cut up") {
    struct Case {
      std::string text;
      int status;
      bool keep_alive;
      bool head = false;
    };
    const Case cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, true},
        {"HTTP/1.1 429 \r\ncontent-length:2\r\n\r\nno", 429, true},
        {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 200, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, false},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", 200, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\nyou\r\n0\r\nT: x\r\n\r\n", 200, true},
        {"HTTP/1.1 204 No Content\r\n\r\n", 204, true},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", 304, true},
        {"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, true},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, true},
        {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
         201, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 200, true, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, true, true},
    };
    for (const auto& one : cases) {
      for (const std::size_t step : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{100'000}}) {
        CAPTURE(one.text);
        CAPTURE(step);
        const Outcome outcome = feed(one.text, step, one.head);
        CHECK(outcome.result == Result::complete);
        CHECK(outcome.used == one.text.size());
        CHECK(outcome.status == one.status);
        CHECK(outcome.keep_alive == one.keep_alive);
      }
    }
  }

  TEST_CASE("a last chunk that comes byte by byte is no assertion's business") {
    CHECK(feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1).result == Result::complete);
    CHECK(feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nh", 1).result == Result::need_more);
  }

  TEST_CASE("bytes after an answer are left alone") {
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    CHECK(feed(answer + "HTTP/1.1 500", 100'000).used == answer.size());
  }

  TEST_CASE("a body that lasts until the close is complete then, others are not") {
    CHECK(feed("HTTP/1.1 200 OK\r\n\r\nhello", 3, false, true).result == Result::complete);
    CHECK(feed("HTTP/1.1 200 OK\r\n\r\nhello", 3).result == Result::need_more);
    for (const std::string cut : {"", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "HTTP/1.1 100 Continue\r\n\r\n"}) {
      CAPTURE(cut);
      CHECK(feed(cut, 4, false, true).result == Result::error);
    }
  }

  TEST_CASE("what is not HTTP is an error") {
    for (const std::string bad :
         {"\x7f\x01 this is not HTTP\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 101 Switching\r\n\r\n",
          "HTTP/1.1 200 OK\r\nBroken header\r\n\r\n"}) {
      for (const std::size_t step : {std::size_t{1}, std::size_t{100'000}}) {
        CAPTURE(bad);
        CHECK(feed(bad, step).result == Result::error);
      }
    }
  }

  TEST_CASE("a header without an end is an error, and memory stays bounded") {
    std::string endless = "HTTP/1.1 200 OK\r\n";
    while (endless.size() < 3 * ResponseReader::kHeaderLimit) endless += "X-More: and more\r\n";
    CHECK(feed(endless, 1000).result == Result::error);
    CHECK(feed("HTTP/1.1 200 OK\r\nX: " + std::string(3 * ResponseReader::kHeaderLimit, 'x'), 1000).result == Result::error);
    CHECK(feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + std::string(3 * ResponseReader::kHeaderLimit, 'x'),
               1000).result == Result::error);
  }

  TEST_CASE("a body without an end is neither an error nor kept") {
    ResponseReader reader;
    reader.begin(false);
    const std::string head = "HTTP/1.1 200 OK\r\n\r\n";
    CHECK(reader.feed(head.data(), head.size()).result == Result::need_more);
    const std::string piece(65536, 'x');
    for (int i = 0; i < 1000; ++i) {
      const auto fed = reader.feed(piece.data(), piece.size());
      REQUIRE(fed.result == Result::need_more);
      REQUIRE(fed.consumed == piece.size());
    }
  }
}
