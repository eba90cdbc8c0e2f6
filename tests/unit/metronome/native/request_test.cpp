#include "request.h"

#include <doctest/doctest.h>

#include "errors.h"
#include "temporary_file.h"

using namespace metronome;

TEST_SUITE("request") {
  TEST_CASE("a GET without a payload") {
    const Url url = parse_url("http://example.com:8080/x?y=1");
    const Payload none;
    std::string scratch;
    const RequestWriter writer(url, "GET", {{"X-Key", "v"}}, none);
    CHECK(writer.write(0, scratch) ==
          "GET /x?y=1 HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: metronome/" METRONOME_VERSION
          "\r\nAccept: */*\r\nX-Key: v\r\n\r\n");
    CHECK_FALSE(writer.head());
    CHECK(RequestWriter(url, "HEAD", {}, none).head());
  }

  TEST_CASE("bodies go round, each with its own length, and default to JSON") {
    const TemporaryFile file("{}\n[1,2,3]\n");
    const Payload payload(file.path());
    const RequestWriter writer(parse_url("http://h/"), "POST", {}, payload);
    std::string scratch;
    const auto ends_with = [&](std::size_t line, const char* end) {
      CHECK(std::string(writer.write(line, scratch)).ends_with(end));
    };
    ends_with(0, "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    ends_with(1, "Content-Length: 7\r\n\r\n[1,2,3]");
    ends_with(2, "Content-Length: 2\r\n\r\n{}");
  }

  TEST_CASE("given headers replace the defaults, whatever their case") {
    const TemporaryFile file("{}\n");
    const Payload payload(file.path());
    const Headers headers{{"content-type", "text/plain"}, {"HOST", "other"}, {"user-agent", "me"}, {"accept", "a/b"}};
    std::string scratch;
    const std::string text(RequestWriter(parse_url("http://h/"), "POST", headers, payload).write(0, scratch));
    CHECK(text == "POST / HTTP/1.1\r\ncontent-type: text/plain\r\nHOST: other\r\nuser-agent: me\r\naccept: a/b\r\n"
                  "Content-Length: 2\r\n\r\n{}");
  }

  TEST_CASE("a POST without a body says so") {
    const Payload none;
    std::string scratch;
    const std::string text(RequestWriter(parse_url("http://h/"), "POST", {}, none).write(0, scratch));
    CHECK(text.ends_with("Content-Length: 0\r\n\r\n"));
  }

  TEST_CASE("headers") {
    CHECK(parse_header("X-A:b", "p") == std::pair<std::string, std::string>("X-A", "b"));
    CHECK(parse_header("X-A:  b: c \r", "p") == std::pair<std::string, std::string>("X-A", "b: c"));
    CHECK(parse_header("X-A:", "p").second.empty());
    for (const std::string bad : {"no colon", ": v", "a b: v", "X: a\x01""b", "Content-Length: 3", "transfer-encoding: chunked"}) {
      CAPTURE(bad);
      CHECK_THROWS_AS(parse_header(bad, "p"), InputError);
    }
  }

  TEST_CASE("a header file's errors name the line, never the value") {
    const TemporaryFile good("# a comment\n\nAuthorization: Bearer abc\nX: y\r\n");
    const Headers headers = read_header_file(good.path());
    REQUIRE(headers.size() == 2);
    CHECK(headers[0].second == "Bearer abc");
    CHECK(headers[1].second == "y");
    const TemporaryFile bad("X: y\nAuthorization Bearer-abc\n");
    try {
      read_header_file(bad.path());
      FAIL("accepted");
    } catch (const InputError& error) {
      const std::string text = error.what();
      CHECK(text.starts_with("--header-file: " + bad.path() + ":2: "));
      CHECK(text.find("abc") == std::string::npos);
    }
    CHECK_THROWS_AS(read_header_file("/no/such/file"), InputError);
  }

  TEST_CASE("methods") {
    CHECK_NOTHROW(check_method("PATCH"));
    CHECK_NOTHROW(check_method("X-OWN"));
    for (const std::string bad : {"", "GET /", "CONNECT", "A\r\n"}) CHECK_THROWS_AS(check_method(bad), InputError);
  }
}
