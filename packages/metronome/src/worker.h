// One thread of the run: its connections, its share of the schedule, its own counts. It shares nothing that is
// written on the hot path but, with a payload in a closed loop, the number of the next line.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "address.h"
#include "connection.h"
#include "in_flight.h"
#include "options.h"
#include "poller.h"
#include "request.h"
#include "schedule.h"
#include "tally.h"
#include "timeline.h"
#include "tls.h"

namespace metronome {

// What all threads of a run have in common.
struct Plan {
  const Options& options;
  const Address& address;
  const TlsContext* tls;  // null: plain TCP
  const RequestWriter& writer;
  std::size_t bodies;
  Schedule schedule;
  SliceBox& slices;
  // Set once, before the first request.
  Nanos count_from = 0;  // the counted window begins
  Nanos count_to = 0;    // and ends, unless stop_at is earlier
  // Set by the main thread on a signal.
  std::atomic<Nanos> stop_at{INT64_MAX};
  std::atomic<bool> abandon{false};  // do not even wait for outstanding answers
  std::atomic<std::uint64_t> next_line{0};  // Mode::none
};

class Worker {
 public:
  Worker(Plan& plan, int thread);

  void open_connections();  // step 1: connect, before the clock starts
  void run();               // step 2: from plan.count_from on; returns when the last answer is in or given up
  void wake() { poller_.wake(); }

  const Tally& tally() const { return tally_; }
  const std::string& tls_version() const { return tls_version_; }
  const std::string& tls_cipher() const { return tls_cipher_; }

 private:
  struct Client {
    Client(const Plan& plan, Poller& poller, std::uint32_t id) : connection(plan.address, plan.tls, poller, id) {}
    Connection connection;
    bool busy = false;
    bool resting = false;
    bool counted = false;
    Nanos due = 0;
    Nanos sent = 0;
    std::uint64_t line = 0;
    Nanos idle_since = 0;
    Nanos debt = 0;  // see Delay
    std::int64_t next_tick = 0;      // Mode::connection
    std::uint64_t connects_seen = 0;
  };
  using Id = std::uint32_t;

  Nanos due(std::int64_t tick) const { return plan_.count_from + plan_.schedule.offset_ns(tick); }
  Nanos end() const { return std::min(plan_.count_to, plan_.stop_at.load(std::memory_order_relaxed)); }
  bool ticks_left() const { return cursor_.tick() < plan_.schedule.total_ticks(); }

  void start_closed_loop();
  void rest(Id id, Nanos until);
  void dispatch(Nanos now);
  void dispatch_closed(Nanos now);
  void dispatch_tick(std::int64_t tick);
  void send_own_ticks(Id id, Nanos until);
  void settle(Id id);
  void start(Id id, Nanos due, bool counted, std::uint64_t line);
  void apply(Id id, Connection::Event event);
  void release(Id id, Nanos now);
  void on_answer(Client& client, Nanos now);
  void on_failure(Id id, Nanos now, ErrorKind kind, const std::string& reason);
  void note_connects(Client& client);
  void expire(Nanos now);
  void give_up(Id id, const std::string& reason);
  void handle(const epoll_event& event);
  void wait();
  void watch_window(Nanos now);
  void count_planned();

  Plan& plan_;
  int thread_;
  Poller poller_;
  std::vector<std::unique_ptr<Client>> clients_;
  TickCursor cursor_;
  std::deque<Id> idle_;                       // Mode::clock: longest idle first
  std::deque<std::pair<Nanos, Id>> resting_;  // Mode::none: after a failure; in order
  InFlight in_flight_;
  SecondRecorder seconds_;
  Tally tally_;
  std::string scratch_request_;
  std::vector<char> scratch_response_;
  std::string tls_version_;
  std::string tls_cipher_;
  bool cpu_started_ = false;
  bool window_over_ = false;
};

}  // namespace metronome
