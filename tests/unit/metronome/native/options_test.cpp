#include "options.h"

#include <doctest/doctest.h>

#include "errors.h"

using namespace metronome;

namespace {

Options read(std::vector<std::string> words) {
  words.insert(words.begin(), "metronome");
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  Options options;
  const bool to_run = CommandLine::read(static_cast<int>(pointers.size()), pointers.data(), options);
  CHECK(to_run);
  return options;
}

std::string refusal(const std::vector<std::string>& words) {
  try {
    read(words);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_SUITE("options") {
  TEST_CASE("defaults") {
    const Options options = read({"--url", "http://h/", "--rate", "50"});
    CHECK(options.mode == Mode::connection);
    CHECK(options.method == "GET");
    CHECK(options.connections == 1);
    CHECK(options.threads == 1);
    CHECK(options.duration_sec == 10);
    CHECK(options.warmup_sec == 0);
    CHECK(options.timeout_sec == 10);
    CHECK_FALSE(options.insecure);
    CHECK_FALSE(options.progress);
    CHECK(options.json_path.empty());
  }

  TEST_CASE("a payload makes it a POST unless told otherwise") {
    CHECK(read({"--url", "http://h/", "--rate", "1", "--payload", "f"}).method == "POST");
    CHECK(read({"--url", "http://h/", "--rate", "1", "--payload", "f", "--method", "PUT"}).method == "PUT");
  }

  TEST_CASE("headers repeat") {
    const Options options = read({"--url", "http://h/", "--rate", "1", "--header", "A: 1", "--header", "B: x:y"});
    REQUIRE(options.headers.size() == 2);
    CHECK(options.headers[1].second == "x:y");
  }

  TEST_CASE("schedules") {
    CHECK(read({"--url", "http://h/", "--rate", "1", "--schedule", "clock"}).mode == Mode::clock);
    CHECK(read({"--url", "http://h/", "--schedule", "none"}).mode == Mode::none);
    CHECK(std::string(mode_name(Mode::clock)) == "clock");
  }

  TEST_CASE("every refusal is one line that names the flag") {
    const std::vector<std::string> url{"--url", "http://h/"};
    const auto with = [&](std::vector<std::string> more) {
      more.insert(more.begin(), url.begin(), url.end());
      return refusal(more);
    };
    for (const auto& [text, flag] : std::vector<std::pair<std::string, std::string>>{
             {refusal({"--rate", "5"}), "--url"},
             {with({}), "--rate"},
             {with({"--rate", "0"}), "--rate"},
             {with({"--rate", "-3"}), "--rate"},
             {with({"--rate", "nan"}), "--rate"},
             {with({"--rate", "many"}), "--rate"},
             {with({"--rate", "0", "--schedule", "clock"}), "--rate"},
             {with({"--rate", "5", "--schedule", "none"}), "--rate"},
             {with({"--rate", "5", "--schedule", "daily"}), "--schedule"},
             {with({"--rate", "5", "--connections", "0"}), "--connections"},
             {with({"--rate", "5", "--threads", "2"}), "--threads"},
             {with({"--rate", "5", "--threads", "0"}), "--threads"},
             {with({"--rate", "5", "--duration", "0"}), "--duration"},
             {with({"--rate", "5", "--warmup", "-1"}), "--warmup"},
             {with({"--rate", "5", "--timeout", "0"}), "--timeout"},
             {with({"--rate", "5", "--header", "nothing"}), "--header"},
             {with({"--rate", "5", "--header-file", "/no/such/file"}), "--header-file"},
             {with({"--rate", "5", "--method", "A B"}), "--method"},
             {with({"--rate", "5", "--insecure", "--ca", "x"}), "--insecure"},
             {with({"--rate", "5", "--no-such-flag"}), "--no-such-flag"},
             {with({"--rate", "5", "stray"}), "stray"}}) {
      CAPTURE(text);
      CHECK(text != "accepted");
      CHECK(text.find(flag) != std::string::npos);
      CHECK(text.find('\n') == std::string::npos);
    }
  }
}
