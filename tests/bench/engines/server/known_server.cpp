// An HTTP/1.1 server of known behaviour: it answers when it is told to, and writes down when it really did. One
// thread, epoll, 127.0.0.1 or ::1 only. Prints "listening PORT" once it accepts connections; on SIGTERM or SIGINT it
// writes its own figures as JSON.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "behaviour.h"
#include "clock.h"
#include "histogram.h"
#include "poller.h"
#include "queue.h"

namespace known {

using metronome::Nanos;
using metronome::now_ns;

constexpr Nanos kNever = INT64_MAX;
constexpr Nanos kIdleLimit = 20 * metronome::kMillisecond;
constexpr std::size_t kDripBytes = 7;
constexpr int kRepeatsPerTurn = 16;
constexpr std::size_t kMostBodies = 100'000;

struct Settings {
  int port = 0;
  bool ipv6 = false;
  long delay_us = 0;
  double stall_at_sec = 0;  // since the first request
  double stall_for_sec = 0;
  int servers = 1;
  double service_us = 5000;
  std::uint64_t seed = 1;
  std::string cert;
  std::string key;
  std::string json;
};

struct Client {
  ~Client() {
    if (ssl != nullptr) SSL_free(ssl);
    ::close(fd);
  }
  int fd = -1;
  long serial = 0;  // of the connection: descriptors and addresses are used again
  SSL* ssl = nullptr;
  std::string in;
  std::string out;
  std::string filler;
  Then then = Then::keep;
  Nanos arrived = 0;
  bool waiting = false;  // an answer is due later
  bool wants_write = false;
  long requests = 0;
};

struct Figures {
  metronome::Histogram service_time;  // from the last byte of the request to the last byte of the answer handed over
  std::uint64_t requests = 0;
  std::uint64_t connections = 0;
  std::string last_request;
  std::unordered_map<std::string, std::uint64_t> bodies;
};

class Server {
 public:
  explicit Server(const Settings& settings)
      : settings_(settings), queue_(settings.servers, settings.service_us, settings.seed) {
    listen();
    if (!settings.cert.empty()) load_certificate();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    signal_fd_ = ::signalfd(-1, &set, SFD_NONBLOCK);
    poller_.add(signal_fd_, kSignalId, EPOLLIN);
    ::prctl(PR_SET_TIMERSLACK, 1);
  }

  void serve() {
    std::cout << "listening " << port_ << std::endl;
    while (!stopped_) {
      const Nanos next = due_.empty() ? now_ns() + metronome::kSecond : due_.begin()->first;
      for (const auto& event : poller_.wait(next, !due_.empty())) handle(event);
      run_due();
    }
  }

  nlohmann::ordered_json figures() const {
    const auto& times = figures_.service_time;
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    nlohmann::ordered_json out{{"requests", figures_.requests},
                               {"connections", figures_.connections},
                               {"cpu_sec", static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                                               static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6},
                               {"service_time_us",
                                {{"p50", times.percentile_us(50)},
                                 {"p95", times.percentile_us(95)},
                                 {"p99", times.percentile_us(99)},
                                 {"max", times.max_us()}}},
                               {"last_request", figures_.last_request}};
    out["bodies"] = figures_.bodies;
    return out;
  }

 private:
  static constexpr std::uint64_t kListenId = 1'000'000'000;
  static constexpr std::uint64_t kSignalId = kListenId + 1;

  void listen() {
    const int family = settings_.ipv6 ? AF_INET6 : AF_INET;
    listen_fd_ = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    ::setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_storage address{};
    socklen_t size = 0;
    if (settings_.ipv6) {
      auto* in6 = reinterpret_cast<sockaddr_in6*>(&address);
      *in6 = {AF_INET6, htons(static_cast<std::uint16_t>(settings_.port)), 0, in6addr_loopback, 0};
      size = sizeof *in6;
    } else {
      auto* in4 = reinterpret_cast<sockaddr_in*>(&address);
      in4->sin_family = AF_INET;
      in4->sin_port = htons(static_cast<std::uint16_t>(settings_.port));
      in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      size = sizeof *in4;
    }
    if (::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listen_fd_, 4096) != 0)
      throw std::runtime_error(std::string("cannot listen: ") + std::strerror(errno));
    ::getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(settings_.ipv6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                 : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
    poller_.add(listen_fd_, kListenId, EPOLLIN);
  }

  void load_certificate() {
    context_.reset(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_set_mode(context_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_use_certificate_chain_file(context_.get(), settings_.cert.c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(context_.get(), settings_.key.c_str(), SSL_FILETYPE_PEM) != 1)
      throw std::runtime_error("cannot load certificate or key");
  }

  void handle(const epoll_event& event) {
    if (event.data.u64 == kListenId) return accept_all();
    if (event.data.u64 == kSignalId) {
      stopped_ = true;
      return;
    }
    const int fd = static_cast<int>(event.data.u64);
    const auto found = clients_.find(fd);
    if (found == clients_.end()) return;
    Client& client = *found->second;
    if ((event.events & EPOLLOUT) != 0 && !flush(client)) return;
    if ((event.events & ~std::uint32_t{EPOLLOUT}) != 0) receive(client);
  }

  void accept_all() {
    for (;;) {
      const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK);
      if (fd < 0) return;
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      auto client = std::make_unique<Client>();
      client->fd = fd;
      if (context_) {
        client->ssl = SSL_new(context_.get());
        SSL_set_fd(client->ssl, fd);
        SSL_set_accept_state(client->ssl);
      }
      client->serial = ++figures_.connections;
      poller_.add(fd, static_cast<std::uint64_t>(fd), EPOLLIN);
      clients_[fd] = std::move(client);
    }
  }

  // n > 0: bytes; 0: nothing now; -1: over.
  static ssize_t read_some(Client& client, char* into, std::size_t size) {
    if (client.ssl != nullptr) {
      const int n = SSL_read(client.ssl, into, static_cast<int>(size));
      if (n > 0) return n;
      const int error = SSL_get_error(client.ssl, n);
      return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    const ssize_t n = ::recv(client.fd, into, size, 0);
    if (n > 0) return n;
    return n < 0 && errno == EAGAIN ? 0 : -1;
  }

  static ssize_t write_some(Client& client, const char* from, std::size_t size) {
    if (client.ssl != nullptr) {
      const int n = SSL_write(client.ssl, from, static_cast<int>(size));
      if (n > 0) return n;
      const int error = SSL_get_error(client.ssl, n);
      return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    const ssize_t n = ::send(client.fd, from, size, MSG_NOSIGNAL);
    if (n > 0) return n;
    return n < 0 && errno == EAGAIN ? 0 : -1;
  }

  void receive(Client& client) {
    char buffer[65536];
    const ssize_t n = read_some(client, buffer, sizeof buffer);
    if (n < 0) return remove(client);
    client.in.append(buffer, static_cast<std::size_t>(n));
    take_request(client);
  }

  void take_request(Client& client) {
    if (client.waiting || client.then == Then::hang || client.then == Then::repeat) return;
    const auto head_end = client.in.find("\r\n\r\n");
    if (head_end == std::string::npos) return;
    const std::size_t length = content_length(std::string_view(client.in).substr(0, head_end));
    const std::size_t total = head_end + 4 + length;
    if (client.in.size() < total) return;
    const Nanos now = now_ns();
    if (figures_.requests == 0) started_ = now;
    ++figures_.requests;
    figures_.last_request = client.in.substr(0, head_end);
    if (length > 0 && figures_.bodies.size() < kMostBodies) ++figures_.bodies[client.in.substr(head_end + 4, length)];
    const auto space = client.in.find(' ');
    const auto second = client.in.find(' ', space + 1);
    const std::string_view path = std::string_view(client.in).substr(space + 1, second - space - 1);
    const Nanos delay = path == "/queue" ? queue_.departure(now) - now : settings_.delay_us * metronome::kMicrosecond;
    Reply reply = reply_to(std::string_view(client.in).substr(0, space), path, ++client.requests, delay);
    client.in.erase(0, total);
    client.arrived = now;
    answer(client, std::move(reply), now);
  }

  static std::size_t content_length(std::string_view head) {
    std::string lower(head);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    const auto at = lower.find("\r\ncontent-length:");
    return at == std::string::npos ? 0 : std::strtoul(lower.c_str() + at + 17, nullptr, 10);
  }

  void answer(Client& client, Reply reply, Nanos now) {
    client.then = reply.then;
    client.filler = std::move(reply.filler);
    const Nanos at = std::max(now + reply.delay, end_of_stall(now + reply.delay));
    if (at > now) {
      client.waiting = true;
      later(at, client.fd, [this, bytes = std::move(reply.bytes)](Client& later_client) {
        later_client.waiting = false;
        send(later_client, bytes);
      });
    } else {
      send(client, std::move(reply.bytes));
    }
  }

  Nanos end_of_stall(Nanos at) const {
    if (settings_.stall_for_sec <= 0) return 0;
    const Nanos from = started_ + metronome::from_sec(settings_.stall_at_sec);
    const Nanos to = from + metronome::from_sec(settings_.stall_for_sec);
    return at >= from && at < to ? to : 0;
  }

  void send(Client& client, std::string bytes) {
    if (client.then == Then::drip) return drip(client.fd, std::move(bytes), 0);
    client.out += bytes;
    flush(client);
  }

  void drip(int fd, std::string bytes, std::size_t done) {
    later(now_ns() + metronome::kMillisecond, fd, [this, bytes = std::move(bytes), done](Client& client) {
      client.out += bytes.substr(done, kDripBytes);
      if (!flush(client)) return;
      if (done + kDripBytes < bytes.size()) drip(client.fd, bytes, done + kDripBytes);
    });
  }

  void want_write(Client& client, bool wanted) {
    if (client.wants_write == wanted) return;
    client.wants_write = wanted;
    poller_.change(client.fd, static_cast<std::uint64_t>(client.fd), wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  // false: the client is gone.
  bool flush(Client& client) {
    for (int rounds = 0;;) {
      while (!client.out.empty()) {
        const ssize_t n = write_some(client, client.out.data(), client.out.size());
        if (n < 0) {
          remove(client);
          return false;
        }
        if (n == 0) {
          want_write(client, true);
          return true;
        }
        client.out.erase(0, static_cast<std::size_t>(n));
      }
      if (client.then != Then::repeat) break;
      client.out = client.filler;
      if (++rounds % kRepeatsPerTurn == 0) {  // the others' turn
        want_write(client, true);
        return true;
      }
    }
    want_write(client, false);
    return written(client);
  }

  bool written(Client& client) {
    const Nanos now = now_ns();
    if (client.arrived != 0 && client.then != Then::hang) {
      figures_.service_time.record(now - client.arrived);
      client.arrived = 0;
    }
    switch (client.then) {
      case Then::close: remove(client); return false;
      case Then::reset: {
        const linger now_or_never{1, 0};
        ::setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &now_or_never, sizeof now_or_never);
        remove(client);
        return false;
      }
      case Then::close_idle:
        later(now + kIdleLimit, client.fd, [this, seen = client.requests](Client& idle) {
          if (idle.requests == seen) remove(idle);
        });
        break;
      default: break;
    }
    return true;
  }

  void later(Nanos at, int fd, std::function<void(Client&)> what) {
    due_.emplace(at, [this, fd, serial = clients_.at(fd)->serial, what = std::move(what)] {
      const auto found = clients_.find(fd);
      if (found != clients_.end() && found->second->serial == serial) what(*found->second);
    });
  }

  void run_due() {
    while (!due_.empty() && due_.begin()->first <= now_ns()) {
      const auto what = std::move(due_.begin()->second);
      due_.erase(due_.begin());
      what();
    }
  }

  void remove(Client& client) { clients_.erase(client.fd); }

  Settings settings_;
  Queue queue_;
  metronome::Poller poller_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_{nullptr, SSL_CTX_free};
  int listen_fd_ = -1;
  int signal_fd_ = -1;
  int port_ = 0;
  bool stopped_ = false;
  Nanos started_ = 0;
  std::unordered_map<int, std::unique_ptr<Client>> clients_;
  std::multimap<Nanos, std::function<void()>> due_;
  Figures figures_;
};

}  // namespace known

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  known::Settings settings;
  CLI::App app("HTTP/1.1 server of known behaviour on the loopback; paths: see behaviour.h");
  app.add_option("--port", settings.port, "0: any free one, printed");
  app.add_flag("--ipv6", settings.ipv6, "Listen on ::1");
  app.add_option("--delay-us", settings.delay_us, "How long / waits before it answers");
  app.add_option("--stall-at", settings.stall_at_sec, "Seconds after the first request: answer nothing from then on");
  app.add_option("--stall-for", settings.stall_for_sec, "...for so many seconds");
  app.add_option("--servers", settings.servers, "/queue: how many requests are served at a time")->check(CLI::PositiveNumber);
  app.add_option("--service-us", settings.service_us, "/queue: mean service time");
  app.add_option("--seed", settings.seed, "/queue: of the service times");
  app.add_option("--cert", settings.cert, "PEM certificate chain: serve TLS");
  app.add_option("--key", settings.key, "PEM key");
  app.add_option("--json", settings.json, "Write the figures here on SIGTERM");
  CLI11_PARSE(app, argc, argv);
  try {
    known::Server server(settings);
    server.serve();
    if (!settings.json.empty()) std::ofstream(settings.json) << server.figures().dump(1) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "known_server: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
