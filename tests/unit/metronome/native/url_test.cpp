#include "url.h"

#include <doctest/doctest.h>

#include "errors.h"

using namespace metronome;

TEST_SUITE("url") {
  TEST_CASE("parts") {
    const Url plain = parse_url("http://example.com");
    CHECK_FALSE(plain.tls);
    CHECK(plain.host == "example.com");
    CHECK(plain.port == 80);
    CHECK(plain.path == "/");
    CHECK(plain.host_header == "example.com");

    const Url full = parse_url("HTTPS://example.com:8443/score/a?x=1&y=%20#part");
    CHECK(full.tls);
    CHECK(full.port == 8443);
    CHECK(full.path == "/score/a?x=1&y=%20");
    CHECK(full.host_header == "example.com:8443");

    CHECK(parse_url("https://example.com/").port == 443);
    CHECK(parse_url("https://example.com:443/").host_header == "example.com");
    CHECK(parse_url("http://example.com?x=1").path == "/?x=1");
    CHECK(parse_url("http://example.com:/x").port == 80);
  }

  TEST_CASE("IPv6 literals") {
    const Url url = parse_url("http://[::1]:8080/x");
    CHECK(url.host == "::1");
    CHECK(url.port == 8080);
    CHECK(url.host_header == "[::1]:8080");
    CHECK(parse_url("http://[::1]/").host_header == "[::1]");
  }

  TEST_CASE("what is not a URL of a server is refused") {
    for (const std::string bad :
         {"", "example.com", "ftp://example.com/", "http://", "http:///path", "http://host:0/", "http://host:65536/",
          "http://host:80x/", "http://[::1", "http://[::1]x/", "http://::1/", "http://host/a b", "http://host/\n",
          "http://host/\xc3\xa4", "https://user:secret@host/"}) {
      CAPTURE(bad);
      CHECK_THROWS_AS(parse_url(bad), InputError);
    }
  }

  TEST_CASE("a refusal names the flag and never repeats credentials") {
    try {
      parse_url("https://user:secret@host/");
      FAIL("accepted");
    } catch (const InputError& error) {
      const std::string text = error.what();
      CHECK(text.starts_with("--url: "));
      CHECK(text.find("secret") == std::string::npos);
    }
  }
}
