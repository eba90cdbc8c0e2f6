// One client: a connection that carries one request at a time, and reconnects when it has to.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "clock.h"
#include "poller.h"
#include "response.h"
#include "stream.h"

namespace metronome {

// How a request can fail. The order is that of kErrorKindNames.
enum class ErrorKind { connect, read, write, timeout, protocol };
inline constexpr std::size_t kErrorKinds = 5;
inline constexpr const char* kErrorKindNames[kErrorKinds] = {"connect", "read", "write", "timeout", "protocol"};

class Connection {
 public:
  enum class Event {
    waiting,      // nothing to do until the next event
    opened,       // connected, without a request
    answered,     // status() holds
    failed,       // error_kind() and error() hold; closed
    stale,        // the server had already given up this idle connection: send the request again
    idle_closed,  // the server closed it between requests
  };

  Connection(const Address& address, const TlsContext* tls, Poller& poller, std::uint64_t id)
      : stream_(address, tls), poller_(poller), id_(id) {}

  Event open();  // connects ahead of the first request
  // Sends the request; connects first where needed. `idle`: how long the connection has been idle.
  Event send(std::string_view request, bool head_request, Nanos idle);
  // `scratch` must be at least kScratchBytes.
  Event handle(std::uint32_t events, std::vector<char>& scratch);
  void drop();

  int status() const { return reader_.status(); }
  ErrorKind error_kind() const { return error_kind_; }
  const std::string& error() const { return error_; }
  std::uint64_t bytes_read() const { return bytes_read_; }        // of the current or last request
  std::uint64_t bytes_written() const { return bytes_written_; }  // likewise
  std::uint64_t connects() const { return connects_; }            // connections established so far
  bool connecting() const { return state_ == State::connecting; }
  const Stream& stream() const { return stream_; }

  static constexpr std::size_t kScratchBytes = 2 * ResponseReader::kHeaderLimit;

 private:
  enum class State { closed, connecting, idle, active };

  Event begin_connect();
  Event connected(std::vector<char>& scratch);
  Event push(std::string_view bytes);
  Event receive(std::vector<char>& scratch);
  Event take(const char* data, std::size_t size);
  Event end_of_stream(bool orderly);
  Event answered(bool reusable);
  Event fail(ErrorKind kind, std::string why);
  void watch(std::uint32_t events);

  Stream stream_;
  Poller& poller_;
  std::uint64_t id_;
  ResponseReader reader_;
  State state_ = State::closed;
  std::uint32_t watched_ = 0;
  bool has_request_ = false;
  bool maybe_stale_ = false;
  std::string unsent_;
  std::string unparsed_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t bytes_written_ = 0;
  std::uint64_t connects_ = 0;
  ErrorKind error_kind_ = ErrorKind::connect;
  std::string error_;
};

}  // namespace metronome
