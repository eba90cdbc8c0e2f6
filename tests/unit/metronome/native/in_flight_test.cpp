#include "in_flight.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <random>

using namespace metronome;

TEST_SUITE("in_flight") {
  TEST_CASE("oldest first, whatever is removed in between") {
    InFlight queue(8);
    std::list<InFlight::Id> model;
    std::mt19937 random(3);
    CHECK(queue.empty());
    for (int step = 0; step < 10'000; ++step) {
      const InFlight::Id id = random() % 8;
      const auto at = std::find(model.begin(), model.end(), id);
      if (at == model.end()) {
        queue.push(id);
        model.push_back(id);
      } else {
        queue.remove(id);
        model.erase(at);
      }
      REQUIRE(queue.empty() == model.empty());
      if (!model.empty()) REQUIRE(queue.oldest() == model.front());
    }
  }
}
