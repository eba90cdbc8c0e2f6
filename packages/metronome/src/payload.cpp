#include "payload.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "errors.h"

namespace metronome {

Payload::Payload(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw InputError("--payload: " + path + ": " + std::strerror(errno));
  struct stat info {};
  ::fstat(fd, &info);
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    throw InputError("--payload: " + path + ": not a regular file");
  }
  bytes_ = static_cast<std::size_t>(info.st_size);
  // MAP_POPULATE: page faults now rather than in front of a send.
  void* mapped = bytes_ > 0 ? ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0) : nullptr;
  const int error = errno;
  ::close(fd);
  if (mapped == MAP_FAILED) throw InputError("--payload: " + path + ": " + std::strerror(error));
  data_ = static_cast<const char*>(mapped);
  try {
    index_lines(path);
  } catch (...) {
    if (data_ != nullptr) ::munmap(const_cast<char*>(data_), bytes_);
    throw;
  }
}

void Payload::index_lines(const std::string& path) {
  const char* const end = data_ + bytes_;
  std::size_t blank_line = 0;  // number of the first blank line, allowed only where nothing follows
  std::size_t number = 0;
  for (const char* at = data_; at < end;) {
    const void* newline = std::memchr(at, '\n', static_cast<std::size_t>(end - at));
    const char* stop = newline != nullptr ? static_cast<const char*>(newline) : end;
    std::string_view line(at, static_cast<std::size_t>(stop - at));
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number;
    if (line.find_first_not_of(" \t") == std::string_view::npos) {
      if (blank_line == 0) blank_line = number;
    } else if (blank_line != 0) {
      throw InputError("--payload: " + path + ":" + std::to_string(blank_line) +
                       ": empty line; every line is one request body");
    } else {
      lines_.push_back(line);
    }
    at = stop + 1;
  }
  if (lines_.empty()) throw InputError("--payload: " + path + ": no lines in it");
}

Payload::~Payload() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), bytes_);
}

Payload::Payload(Payload&& other) noexcept { *this = std::move(other); }

Payload& Payload::operator=(Payload&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(lines_, other.lines_);
  return *this;
}

double Payload::mean_bytes() const {
  if (lines_.empty()) return 0;
  double total = 0;
  for (const auto& line : lines_) total += static_cast<double>(line.size());
  return total / static_cast<double>(lines_.size());
}

}  // namespace metronome
