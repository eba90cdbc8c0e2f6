#include "tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <array>
#include <utility>

#include "errors.h"

namespace metronome {

namespace {

bool is_ip(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> address;
  return ::inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

std::string last_reason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* text = code != 0 ? ERR_reason_error_string(code) : nullptr;
  return text != nullptr ? text : "connection closed";
}

}  // namespace

TlsContext::TlsContext(std::string host, const std::string& ca_file, bool insecure)
    : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free),
      host_(std::move(host)),
      host_is_ip_(is_ip(host_)),
      insecure_(insecure) {
  if (!context_) throw RunError("OpenSSL: " + last_reason());
  SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
  SSL_CTX_set_mode(context_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
  if (insecure_) return;
  SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
  if (ca_file.empty()) {
    SSL_CTX_set_default_verify_paths(context_.get());
  } else if (SSL_CTX_load_verify_locations(context_.get(), ca_file.c_str(), nullptr) != 1) {
    throw InputError("--ca: " + ca_file + ": " + last_reason());
  }
}

SSL* TlsContext::new_session(int fd) const {
  SSL* session = SSL_new(context_.get());
  SSL_set_fd(session, fd);
  SSL_set_connect_state(session);
  // RFC 6066, 3: no address literals in the server name indication.
  if (!host_is_ip_) SSL_set_tlsext_host_name(session, host_.c_str());
  if (insecure_) return session;
  if (host_is_ip_) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host_.c_str());
  } else {
    SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    SSL_set1_host(session, host_.c_str());
  }
  return session;
}

std::string tls_error(const SSL* session) {
  const long verdict = SSL_get_verify_result(session);
  const std::string reason = last_reason();
  if (verdict != X509_V_OK && (SSL_get_verify_mode(session) & SSL_VERIFY_PEER) != 0)
    return std::string("TLS: certificate not accepted: ") + X509_verify_cert_error_string(verdict);
  return "TLS: " + reason;
}

}  // namespace metronome
