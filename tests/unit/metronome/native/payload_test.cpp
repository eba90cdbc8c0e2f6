#include "payload.h"

#include <doctest/doctest.h>

#include "errors.h"
#include "temporary_file.h"

using namespace metronome;

namespace {

std::string refusal(const std::string& text) {
  const TemporaryFile file(text);
  try {
    const Payload payload(file.path());
  } catch (const InputError& error) {
    return std::string(error.what()).substr(std::string("--payload: " + file.path()).size());
  }
  return "accepted";
}

}  // namespace

TEST_SUITE("payload") {
  TEST_CASE("every line is a body, with or without a newline at the end") {
    for (const std::string text : {"{\"a\": 1}\n[2]\n\"three\"", "{\"a\": 1}\n[2]\n\"three\"\n", "{\"a\": 1}\r\n[2]\r\n\"three\"\r\n\n \n"}) {
      const TemporaryFile file(text);
      const Payload payload(file.path());
      REQUIRE(payload.size() == 3);
      CHECK(payload.body(0) == "{\"a\": 1}");
      CHECK(payload.body(1) == "[2]");
      CHECK(payload.body(2) == "\"three\"");
      CHECK(payload.mean_bytes() == doctest::Approx(6));
    }
  }

  TEST_CASE("moving it keeps the bodies") {
    const TemporaryFile file("[1]\n[2]\n");
    Payload first(file.path());
    const Payload second(std::move(first));
    CHECK(second.body(1) == "[2]");
    CHECK(second.size() == 2);
  }

  TEST_CASE("what cannot be sent is refused with its place") {
    CHECK(refusal("") == ": no lines in it");
    CHECK(refusal("\n\n") == ": no lines in it");
    CHECK(refusal("[1]\n\n[2]\n") == ":2: empty line; every line is one request body");
    CHECK(refusal("\n[1]\n") == ":1: empty line; every line is one request body");
    CHECK_THROWS_WITH_AS(Payload("/no/such/file"), "--payload: /no/such/file: No such file or directory", InputError);
    CHECK_THROWS_WITH_AS(Payload("/tmp"), "--payload: /tmp: not a regular file", InputError);
  }
}
