#include "stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace metronome {

Stream::Status Stream::connect() {
  connected_ = false;
  fd_ = ::socket(address_.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return system_failure(errno);
  const int on = 1;
  // Nagle's algorithm would hold back the second half of a request.
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // Also on success the caller waits for writability: one path, and finish_connect() finds it connected.
  if (::connect(fd_, address_.get(), address_.length) == 0 || errno == EINPROGRESS) return Status::want_write;
  const int error = errno;
  const Status status = system_failure(error);
  close();
  return status;
}

Stream::Status Stream::finish_connect() {
  if (!connected_) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      system_failure(error);
      return Status::failed;
    }
    connected_ = true;
    if (tls_ != nullptr) session_ = tls_->new_session(fd_);
  }
  if (session_ == nullptr) return Status::ok;
  errno = 0;  // SSL_ERROR_SYSCALL speaks of this call alone
  const int returned = SSL_do_handshake(session_);
  if (returned == 1) return Status::ok;
  const Status status = tls_status(returned);
  return status == Status::want_read || status == Status::want_write ? status : Status::failed;
}

Stream::Result Stream::read(char* into, std::size_t size) {
  if (session_ != nullptr) {
    std::size_t done = 0;
    errno = 0;
    const int returned = SSL_read_ex(session_, into, size, &done);
    return returned == 1 ? Result{Status::ok, done} : Result{tls_status(returned)};
  }
  const ssize_t n = ::recv(fd_, into, size, 0);
  if (n > 0) return {Status::ok, static_cast<std::size_t>(n)};
  if (n == 0) {
    error_ = "closed by the server";
    return {Status::closed};
  }
  if (errno == EAGAIN || errno == EINTR) return {Status::want_read};
  return {system_failure(errno)};
}

Stream::Result Stream::write(const char* from, std::size_t size) {
  if (session_ != nullptr) {
    std::size_t done = 0;
    errno = 0;
    const int returned = SSL_write_ex(session_, from, size, &done);
    return returned == 1 ? Result{Status::ok, done} : Result{tls_status(returned)};
  }
  const ssize_t n = ::send(fd_, from, size, MSG_NOSIGNAL);
  if (n >= 0) return {Status::ok, static_cast<std::size_t>(n)};
  if (errno == EAGAIN || errno == EINTR) return {Status::want_write};
  return {system_failure(errno)};
}

void Stream::close() {
  if (session_ != nullptr) {
    SSL_free(session_);
    session_ = nullptr;
  }
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Stream::Status Stream::system_failure(int error) {
  error_ = std::strerror(error);
  return error == ECONNRESET || error == EPIPE ? Status::reset : Status::failed;
}

Stream::Status Stream::tls_status(int returned) {
  const int system_error = errno;
  switch (SSL_get_error(session_, returned)) {
    case SSL_ERROR_WANT_READ: return Status::want_read;
    case SSL_ERROR_WANT_WRITE: return Status::want_write;
    case SSL_ERROR_ZERO_RETURN: error_ = "closed by the server"; return Status::closed;
    case SSL_ERROR_SYSCALL:
      ERR_clear_error();
      if (system_error != 0) return system_failure(system_error);
      error_ = "TLS: closed without a closing alert";
      return Status::reset;
    default: break;
  }
  error_ = tls_error(session_);
  // OpenSSL 3 reports an end of stream without the closing alert as a protocol error of its own.
  return error_.find("unexpected eof") != std::string::npos ? Status::reset : Status::failed;
}

}  // namespace metronome
