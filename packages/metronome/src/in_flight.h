// Requests without an answer, oldest first. All have the same timeout, so the oldest is always the next to expire.
#pragma once

#include <cstdint>
#include <vector>

namespace metronome {

// A doubly linked list over the numbers 0 .. size-1, each in it at most once.
class InFlight {
 public:
  using Id = std::uint32_t;

  explicit InFlight(std::size_t size) : links_(size + 1, Link{end(size), end(size)}) {}

  bool empty() const { return sentinel().next == end(links_.size() - 1); }
  Id oldest() const { return sentinel().next; }  // only when not empty

  void push(Id id) {
    const Id last = sentinel().previous;
    links_[id] = {last, end(links_.size() - 1)};
    links_[last].next = id;
    sentinel().previous = id;
  }

  void remove(Id id) {
    const Link link = links_[id];
    links_[link.previous].next = link.next;
    links_[link.next].previous = link.previous;
  }

 private:
  struct Link {
    Id previous;
    Id next;
  };

  static Id end(std::size_t size) { return static_cast<Id>(size); }
  Link& sentinel() { return links_.back(); }
  const Link& sentinel() const { return links_.back(); }

  std::vector<Link> links_;
};

}  // namespace metronome
