#include "connection.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace metronome {

namespace {

// A server closes a connection that it deems idle while a request is already on its way: then, and only then, sending
// it again hides nothing. A connection that dies under a request while in steady use is the server's failure.
constexpr Nanos kIdleEnoughToBeStale = 500 * kMillisecond;

// Reads per event: enough for a large body, few enough that an endless one does not keep the others waiting.
constexpr int kReadsPerEvent = 8;

}  // namespace

Connection::Event Connection::open() {
  has_request_ = false;
  return begin_connect();
}

Connection::Event Connection::send(std::string_view request, bool head_request, Nanos idle) {
  reader_.begin(head_request);
  unsent_.clear();
  unparsed_.clear();
  bytes_read_ = bytes_written_ = 0;
  has_request_ = true;
  maybe_stale_ = state_ == State::idle && idle >= kIdleEnoughToBeStale;
  if (state_ == State::closed) {
    unsent_ = request;
    return begin_connect();
  }
  state_ = State::active;
  return push(request);
}

Connection::Event Connection::handle(std::uint32_t events, std::vector<char>& scratch) {
  switch (state_) {
    case State::closed: return Event::waiting;  // an event that was under way when the connection was dropped
    case State::connecting: return connected(scratch);
    case State::idle: {
      // Nothing was asked: whatever comes (an end, a 408, a TLS alert) ends this connection, unless it is only a TLS
      // session ticket.
      const auto result = stream_.read(scratch.data(), scratch.size());
      if (result.status == Stream::Status::want_read) return Event::waiting;
      drop();
      return Event::idle_closed;
    }
    case State::active: break;
  }
  if (!unsent_.empty() && (events & (EPOLLOUT | EPOLLIN)) != 0) {
    const Event event = push(std::exchange(unsent_, {}));
    if (event != Event::waiting) return event;
  }
  return receive(scratch);
}

void Connection::drop() {
  stream_.close();
  state_ = State::closed;
  watched_ = 0;
}

Connection::Event Connection::begin_connect() {
  if (stream_.connect() == Stream::Status::failed) return fail(ErrorKind::connect, stream_.error());
  state_ = State::connecting;
  watched_ = EPOLLOUT;
  poller_.add(stream_.fd(), id_, watched_);
  return Event::waiting;
}

Connection::Event Connection::connected(std::vector<char>& scratch) {
  switch (stream_.finish_connect()) {
    case Stream::Status::ok: break;
    case Stream::Status::want_read: watch(EPOLLIN); return Event::waiting;
    case Stream::Status::want_write: watch(EPOLLOUT); return Event::waiting;
    default: return fail(ErrorKind::connect, stream_.error());
  }
  ++connects_;
  watch(EPOLLIN);
  if (!has_request_) {
    state_ = State::idle;
    return Event::opened;
  }
  state_ = State::active;
  const Event event = push(std::exchange(unsent_, {}));
  // With TLS the answer's first bytes may already be inside OpenSSL, where epoll does not see them.
  return event == Event::waiting && stream_.tls() != nullptr ? receive(scratch) : event;
}

Connection::Event Connection::push(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto result = stream_.write(bytes.data(), bytes.size());
    switch (result.status) {
      case Stream::Status::ok:
        bytes_written_ += result.bytes;
        bytes.remove_prefix(result.bytes);
        continue;
      case Stream::Status::want_read:
      case Stream::Status::want_write:
        unsent_ = bytes;
        watch(EPOLLIN | EPOLLOUT);
        return Event::waiting;
      default: break;
    }
    const std::string why = stream_.error();
    // A server may refuse a body early, answer and close: then the answer counts, and it may already be here.
    std::vector<char> scratch(kScratchBytes);
    const Event event = receive(scratch);
    if (event == Event::answered || event == Event::stale) return event;
    return fail(ErrorKind::write, why);
  }
  watch(EPOLLIN);
  return Event::waiting;
}

Connection::Event Connection::receive(std::vector<char>& scratch) {
  for (int i = 0; i < kReadsPerEvent; ++i) {
    const std::size_t kept = unparsed_.size();
    std::copy(unparsed_.begin(), unparsed_.end(), scratch.begin());
    const auto result = stream_.read(scratch.data() + kept, scratch.size() - kept);
    switch (result.status) {
      case Stream::Status::ok: break;
      case Stream::Status::want_read: return Event::waiting;
      case Stream::Status::want_write: watch(EPOLLIN | EPOLLOUT); return Event::waiting;
      case Stream::Status::closed: return end_of_stream(true);
      case Stream::Status::reset: return end_of_stream(false);
      case Stream::Status::failed: return fail(ErrorKind::read, stream_.error());
    }
    bytes_read_ += result.bytes;
    const Event event = take(scratch.data(), kept + result.bytes);
    if (event != Event::waiting) return event;
    // Less than asked for: the socket is empty. (OpenSSL may hold more, so with TLS it has to be asked.)
    if (stream_.tls() == nullptr && kept + result.bytes < scratch.size()) break;
  }
  return Event::waiting;
}

Connection::Event Connection::take(const char* data, std::size_t size) {
  const auto fed = reader_.feed(data, size);
  switch (fed.result) {
    // Bytes after the end of an answer, or an answer before the end of the request: what comes next on this
    // connection could not be told apart.
    case ResponseReader::Result::complete:
      return answered(reader_.keep_alive() && fed.consumed == size && unsent_.empty());
    case ResponseReader::Result::error: return fail(ErrorKind::protocol, reader_.error());
    case ResponseReader::Result::need_more: break;
  }
  unparsed_.assign(data + fed.consumed, size - fed.consumed);
  return Event::waiting;
}

Connection::Event Connection::end_of_stream(bool orderly) {
  if (bytes_read_ == 0 && maybe_stale_) {
    maybe_stale_ = false;
    drop();
    return Event::stale;
  }
  if (orderly && reader_.finish() == ResponseReader::Result::complete) return answered(false);
  if (bytes_read_ == 0) return fail(ErrorKind::read, orderly ? "closed by the server without an answer" : stream_.error());
  return fail(ErrorKind::read, orderly ? reader_.error() : stream_.error());
}

Connection::Event Connection::answered(bool reusable) {
  unparsed_.clear();
  unsent_.clear();
  if (reusable) {
    state_ = State::idle;
    watch(EPOLLIN);
  } else {
    drop();
  }
  return Event::answered;
}

Connection::Event Connection::fail(ErrorKind kind, std::string why) {
  drop();
  error_kind_ = kind;
  error_ = std::move(why);
  return Event::failed;
}

void Connection::watch(std::uint32_t events) {
  if (events == watched_) return;
  watched_ = events;
  poller_.change(stream_.fd(), id_, events);
}

}  // namespace metronome
