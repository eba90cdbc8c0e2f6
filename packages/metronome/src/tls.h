// TLS settings shared by all connections: which authorities to trust and which name the certificate must carry.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace metronome {

class TlsContext {
 public:
  // `ca_file` empty: the system's authorities. Throws InputError where the file holds no certificate.
  TlsContext(std::string host, const std::string& ca_file, bool insecure);

  // A client session on a connected socket; the caller owns it (SSL_free).
  SSL* new_session(int fd) const;

 private:
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::string host_;
  bool host_is_ip_;
  bool insecure_;
};

// Why the last operation on the session failed: the certificate's fault by name, else OpenSSL's own reason.
std::string tls_error(const SSL* session);

}  // namespace metronome
