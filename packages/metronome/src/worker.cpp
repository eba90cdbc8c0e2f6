#include "worker.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace metronome {

namespace {

// A closed loop whose connects fail would otherwise do nothing but connect.
constexpr Nanos kRestAfterFailedConnect = 10 * kMillisecond;
// Reading /proc takes longer than a send may be late, so it is done ahead of the first counted one.
constexpr Nanos kCpuSnapshotLead = 3 * kMillisecond;
constexpr Nanos kLongestOpening = 10 * kSecond;

CpuUse thread_cpu_now() {
  CpuUse use;
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  use.user_sec = static_cast<double>(usage.ru_utime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec) / 1e6;
  use.system_sec = static_cast<double>(usage.ru_stime.tv_sec) + static_cast<double>(usage.ru_stime.tv_usec) / 1e6;
  use.wall_sec = to_sec(now_ns());
  // Second field: nanoseconds spent waiting on a run queue (Linux, Documentation/scheduler/sched-stats.rst). Absent
  // without CONFIG_SCHED_INFO; 0 then.
  std::ifstream stat("/proc/self/task/" + std::to_string(::syscall(SYS_gettid)) + "/schedstat");
  double on_cpu_ns = 0;
  double waited_ns = 0;
  if (stat >> on_cpu_ns >> waited_ns) use.run_queue_wait_sec = waited_ns / 1e9;
  return use;
}

CpuUse difference(const CpuUse& from, const CpuUse& to) {
  return {to.user_sec - from.user_sec, to.system_sec - from.system_sec, to.wall_sec - from.wall_sec,
          to.run_queue_wait_sec - from.run_queue_wait_sec};
}

}  // namespace

Worker::Worker(Plan& plan, int thread)
    : plan_(plan),
      thread_(thread),
      cursor_(plan.options.mode, thread, plan.options.threads, plan.options.connections),
      in_flight_(static_cast<std::size_t>(owned_connections(thread, plan.options.threads, plan.options.connections))),
      seconds_(plan.slices),
      scratch_response_(Connection::kScratchBytes) {
  const int own = owned_connections(thread, plan.options.threads, plan.options.connections);
  for (int i = 0; i < own; ++i) {
    clients_.push_back(std::make_unique<Client>(plan, poller_, static_cast<Id>(i)));
    clients_.back()->next_tick = thread + static_cast<std::int64_t>(i) * plan.options.threads;
    idle_.push_back(static_cast<Id>(i));
  }
}

void Worker::open_connections() {
  // Timers of other programs are rounded to 50 µs to save power; this thread's must not be.
  ::prctl(PR_SET_TIMERSLACK, 1);
  for (auto& client : clients_) client->connection.open();
  const Nanos limit = now_ns() + std::min(from_sec(plan_.options.timeout_sec), kLongestOpening);
  const auto connecting = [](const auto& client) { return client->connection.connecting(); };
  while (std::any_of(clients_.begin(), clients_.end(), connecting) && now_ns() < limit &&
         plan_.stop_at.load(std::memory_order_relaxed) == INT64_MAX) {
    for (const auto& event : poller_.wait(limit, false)) handle(event);
  }
  // A connect that fails here is not a request's failure: the first request tries again, and counts.
  for (auto& client : clients_) {
    if (client->connection.connecting()) client->connection.drop();
  }
}

void Worker::run() {
  if (plan_.options.mode == Mode::none) start_closed_loop();
  for (;;) {
    const Nanos now = now_ns();
    // Also once when the window is over: what was due before its end and has a free connection is late, not missed.
    if (!window_over_) dispatch(std::min(now, end() - 1));
    expire(now);
    watch_window(now);
    if (window_over_ && in_flight_.empty()) break;
    wait();
  }
  count_planned();
  seconds_.seal_all();
}

void Worker::start_closed_loop() {
  const Nanos warmup = from_sec(plan_.options.warmup_sec);
  for (Id id = 0; id < clients_.size(); ++id) rest(id, plan_.count_from - warmup);
}

void Worker::rest(Id id, Nanos until) {
  clients_[id]->resting = true;
  const std::pair<Nanos, Id> entry{until, id};
  resting_.insert(std::upper_bound(resting_.begin(), resting_.end(), entry), entry);
}

// Sends everything that is due and has a connection to go on.
void Worker::dispatch(Nanos now) {
  if (plan_.options.mode == Mode::none) return dispatch_closed(now);
  while (ticks_left() && due(cursor_.tick()) <= now) {
    if (plan_.options.mode == Mode::connection) {
      Client& owner = *clients_[static_cast<std::size_t>(cursor_.lane())];
      // A busy owner, or one that caught up in settle(), has this tick in its next_tick already.
      if (!owner.busy && owner.next_tick == cursor_.tick()) send_own_ticks(static_cast<Id>(cursor_.lane()), now);
    } else {
      if (idle_.empty()) return;  // the tick waits for the next idle client, and later ticks wait behind it
      dispatch_tick(cursor_.tick());
    }
    cursor_.advance();
  }
}

void Worker::dispatch_closed(Nanos now) {
  while (!resting_.empty() && resting_.front().first <= now) {
    const Id id = resting_.front().second;
    resting_.pop_front();
    clients_[id]->resting = false;
    settle(id);
  }
}

void Worker::dispatch_tick(std::int64_t tick) {
  const Id id = idle_.front();
  idle_.pop_front();
  start(id, due(tick), plan_.schedule.counted(tick), static_cast<std::uint64_t>(tick));
}

// Mode::connection: what is due by `until` and belongs to this client, until one of it is under way.
void Worker::send_own_ticks(Id id, Nanos until) {
  Client& client = *clients_[id];
  while (!client.busy && client.next_tick < plan_.schedule.total_ticks() && due(client.next_tick) <= until) {
    const std::int64_t tick = client.next_tick;
    client.next_tick += plan_.options.connections;
    start(id, due(tick), plan_.schedule.counted(tick), static_cast<std::uint64_t>(tick));
  }
}

// A client without a request sends its next one, if that is due. (Mode::clock leaves that to dispatch().)
void Worker::settle(Id id) {
  Client& client = *clients_[id];
  if (client.busy || client.resting || plan_.options.mode == Mode::clock) return;
  const Nanos now = now_ns();
  if (now >= end()) return;
  if (plan_.options.mode == Mode::connection) return send_own_ticks(id, now);
  const bool rotates = plan_.bodies > 1;
  start(id, now, now >= plan_.count_from, rotates ? plan_.next_line.fetch_add(1, std::memory_order_relaxed) : 0);
}

void Worker::start(Id id, Nanos due, bool counted, std::uint64_t line) {
  Client& client = *clients_[id];
  client.busy = true;
  client.counted = counted;
  client.due = due;
  client.line = line;
  client.sent = plan_.options.mode == Mode::none ? due : now_ns();
  const Delay delay = attribute(due, client.idle_since, client.sent, client.debt);
  client.debt = delay.debt();
  if (counted) {
    ++tally_.sent;
    tally_.punctuality.note(delay);
    seconds_.sent(client.sent - plan_.count_from);
  }
  in_flight_.push(id);
  apply(id, client.connection.send(plan_.writer.write(line, scratch_request_), plan_.writer.head(),
                                   client.sent - client.idle_since));
}

void Worker::apply(Id id, Connection::Event event) {
  Client& client = *clients_[id];
  note_connects(client);
  switch (event) {
    case Connection::Event::waiting: return;
    case Connection::Event::opened: client.idle_since = now_ns(); return;
    case Connection::Event::idle_closed: ++tally_.idle_closes; return;
    case Connection::Event::stale:
      ++tally_.stale_retries;
      // Once: the second attempt is on a fresh connection, which cannot be stale. Its clock keeps running.
      return apply(id, client.connection.send(plan_.writer.write(client.line, scratch_request_), plan_.writer.head(), 0));
    case Connection::Event::answered: {
      const Nanos now = now_ns();
      on_answer(client, now);
      return release(id, now);
    }
    case Connection::Event::failed:
      if (client.busy) on_failure(id, now_ns(), client.connection.error_kind(), client.connection.error());
      return;
  }
}

void Worker::release(Id id, Nanos now) {
  Client& client = *clients_[id];
  in_flight_.remove(id);
  client.busy = false;
  client.idle_since = now;
  if (plan_.options.mode == Mode::clock) idle_.push_back(id);
}

void Worker::on_answer(Client& client, Nanos now) {
  if (!client.counted) return;
  const Nanos latency = now - client.due;
  const Nanos service_time = now - client.sent;
  tally_.answered(client.connection.status(), latency, service_time);
  tally_.bytes_read += client.connection.bytes_read();
  tally_.bytes_written += client.connection.bytes_written();
  seconds_.answered(now - plan_.count_from, client.connection.status(), latency, service_time);
}

void Worker::on_failure(Id id, Nanos now, ErrorKind kind, const std::string& reason) {
  Client& client = *clients_[id];
  if (client.counted) {
    tally_.failed({kind, reason, to_sec(now - plan_.count_from)});
    if (kind == ErrorKind::timeout) tally_.timed_out.record(now - client.due);
    tally_.bytes_read += client.connection.bytes_read();
    tally_.bytes_written += client.connection.bytes_written();
    seconds_.failed(now - plan_.count_from);
  }
  release(id, now);
  // A send that fails at once leaves no connection whose events could call for the next one: dispatch() does, at once.
  if (plan_.options.mode == Mode::none) rest(id, kind == ErrorKind::connect ? now + kRestAfterFailedConnect : now);
}

void Worker::note_connects(Client& client) {
  const std::uint64_t connects = client.connection.connects();
  if (connects == client.connects_seen) return;
  tally_.connects += connects - client.connects_seen;
  tally_.reconnects += connects - std::max<std::uint64_t>(client.connects_seen, 1);
  client.connects_seen = connects;
  const SSL* session = client.connection.stream().tls();
  if (session == nullptr || !tls_version_.empty()) return;
  tls_version_ = SSL_get_version(session);
  tls_cipher_ = SSL_get_cipher_name(session);
}

void Worker::expire(Nanos now) {
  const Nanos timeout = from_sec(plan_.options.timeout_sec);
  const bool abandon = plan_.abandon.load(std::memory_order_relaxed);
  while (!in_flight_.empty()) {
    const Id id = in_flight_.oldest();
    if (!abandon && now - clients_[id]->sent < timeout) return;
    give_up(id, abandon ? "abandoned by a second signal" : "no complete answer within the timeout");
    settle(id);
  }
}

void Worker::give_up(Id id, const std::string& reason) {
  Connection& connection = clients_[id]->connection;
  const bool connecting = connection.connecting();
  connection.drop();
  on_failure(id, now_ns(), connecting ? ErrorKind::connect : ErrorKind::timeout,
             connecting ? "no connection within the timeout" : reason);
}

void Worker::handle(const epoll_event& event) {
  if (event.data.u64 == Poller::kWakeId) return;
  const Id id = static_cast<Id>(event.data.u64);
  apply(id, clients_[id]->connection.handle(event.events, scratch_response_));
  if (plan_.count_from != 0) settle(id);
}

void Worker::wait() {
  const Nanos finish = end();
  Nanos deadline = plan_.count_from + seconds_.next_seal();
  if (!cpu_started_) deadline = std::min(deadline, plan_.count_from - kCpuSnapshotLead);
  if (!window_over_) deadline = std::min(deadline, finish);
  if (!in_flight_.empty())
    deadline = std::min(deadline, clients_[in_flight_.oldest()]->sent + from_sec(plan_.options.timeout_sec));
  if (!resting_.empty() && !window_over_) deadline = std::min(deadline, resting_.front().first);
  bool precise = false;
  const bool can_send = plan_.options.mode != Mode::clock || !idle_.empty();
  if (plan_.options.mode != Mode::none && !window_over_ && ticks_left() && can_send) {
    const Nanos next = due(cursor_.tick());
    precise = next <= deadline;
    deadline = std::min(deadline, next);
  }
  for (const auto& event : poller_.wait(deadline, precise)) handle(event);
}

// What happens once when the counted window begins, every second, and when it ends.
void Worker::watch_window(Nanos now) {
  if (!cpu_started_ && (now >= plan_.count_from - kCpuSnapshotLead || now >= end())) {
    cpu_started_ = true;
    tally_.cpu = thread_cpu_now();
  }
  if (now - plan_.count_from >= seconds_.next_seal()) seconds_.seal_before(now - plan_.count_from);
  if (!window_over_ && now >= end()) {
    window_over_ = true;
    tally_.cpu = difference(tally_.cpu, thread_cpu_now());
  }
}

void Worker::count_planned() {
  if (plan_.options.mode == Mode::none) {
    tally_.planned = tally_.sent;
    return;
  }
  TickCursor own(plan_.options.mode, thread_, plan_.options.threads, plan_.options.connections);
  for (; own.tick() < plan_.schedule.total_ticks() && due(own.tick()) < end(); own.advance()) {
    if (plan_.schedule.counted(own.tick())) ++tally_.planned;
  }
}

}  // namespace metronome
