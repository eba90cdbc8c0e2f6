// Whatever a server sends: no crash, no hang, no growing memory. The first byte of the input chooses how the rest is
// cut into reads and whether a HEAD was asked; the bytes are fed as Connection feeds them, what was not consumed
// coming again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "response.h"

namespace {

using metronome::ResponseReader;

void require(bool condition) {
  if (!condition) std::abort();
}

// One connection's life: answers one after the other until an error or the end of the bytes. Answers how many were
// complete and the status of the last.
std::pair<int, int> read_all(const std::string& bytes, std::size_t step, bool head) {
  ResponseReader reader;
  reader.begin(head);
  std::string kept;
  std::pair<int, int> seen{0, 0};
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    kept.append(bytes, at, step);
    for (;;) {
      const auto fed = reader.feed(kept.data(), kept.size());
      require(fed.consumed <= kept.size());
      kept.erase(0, fed.consumed);
      if (fed.result == ResponseReader::Result::error) {
        require(!reader.error().empty());
        return seen;
      }
      if (fed.result == ResponseReader::Result::need_more) break;
      require(reader.status() >= 0 && reader.status() <= 999);
      static_cast<void>(reader.keep_alive());
      ++seen.first;
      seen.second = reader.status();
      reader.begin(head);
      if (kept.empty()) break;
    }
    require(kept.size() <= ResponseReader::kHeaderLimit);
  }
  reader.finish();
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool head = (data[0] & 1) != 0;
  const std::size_t step = 1 + (data[0] >> 1);
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  // How the bytes are cut up must not change what is read.
  require(read_all(bytes, step, head) == read_all(bytes, bytes.size() + 1, head));
  return 0;
}
