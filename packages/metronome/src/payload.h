// A JSON Lines file as request bodies: mapped, indexed, never copied.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace metronome {

class Payload {
 public:
  Payload() = default;  // no bodies
  // Throws InputError naming file and line: unreadable, empty, or with an empty line before its end.
  explicit Payload(const std::string& path);
  ~Payload();
  Payload(Payload&& other) noexcept;
  Payload& operator=(Payload&& other) noexcept;

  std::size_t size() const { return lines_.size(); }
  bool empty() const { return lines_.empty(); }
  std::string_view body(std::size_t index) const { return lines_[index]; }
  double mean_bytes() const;

 private:
  void index_lines(const std::string& path);

  const char* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::vector<std::string_view> lines_;
};

}  // namespace metronome
