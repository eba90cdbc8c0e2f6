// A non-blocking byte stream: TCP, with TLS over it where asked. It knows nothing of HTTP or of schedules.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <string>

#include "address.h"
#include "tls.h"

namespace metronome {

class Stream {
 public:
  enum class Status {
    ok,
    want_read,   // try again when readable
    want_write,  // try again when writable
    closed,      // the peer ended the stream in order
    reset,       // the peer dropped it: ECONNRESET, EPIPE, TLS without its closing alert
    failed,
  };
  struct Result {
    Status status;
    std::size_t bytes = 0;
  };

  Stream(const Address& address, const TlsContext* tls) : address_(address), tls_(tls) {}
  ~Stream() { close(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Status connect();         // begins: ok or want_write on a socket that fd() names, or failed
  Status finish_connect();  // goes on, as often as asked, until ok or failed; with TLS this is the handshake
  Result read(char* into, std::size_t size);
  Result write(const char* from, std::size_t size);
  void close();

  int fd() const { return fd_; }
  const SSL* tls() const { return session_; }
  const std::string& error() const { return error_; }  // why the last call failed

 private:
  Status system_failure(int error);
  Status tls_status(int returned);

  const Address& address_;
  const TlsContext* tls_;
  int fd_ = -1;
  SSL* session_ = nullptr;
  bool connected_ = false;
  std::string error_;
};

}  // namespace metronome
