#include "run.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <barrier>
#include <chrono>
#include <csignal>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "address.h"
#include "errors.h"
#include "payload.h"
#include "report.h"
#include "request.h"
#include "tls.h"
#include "worker.h"

namespace metronome {

namespace {

// From the last connect to the first send: every thread is past the barrier and asleep by then.
constexpr Nanos kStartLead = 5 * kMillisecond;

void allow_open_files(int connections) {
  const auto needed = static_cast<rlim_t>(connections) + 64 + 8;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= needed) return;
  if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < needed)
    throw RunError(std::to_string(connections) + " connections need " + std::to_string(needed) +
                   " open files, the limit is " + std::to_string(limit.rlim_max) + "; raise it with ulimit -n");
  limit.rlim_cur = needed;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string utc(std::chrono::system_clock::time_point at) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count();
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[40];
  const std::size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + n, sizeof text - n, ".%03dZ", static_cast<int>(ms % 1000));
  return text;
}

// SIGINT and SIGTERM as something to poll. The threads started after it inherit the blocked signals.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  }
  ~Signals() { ::close(fd_); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_; }
  int take() const {
    signalfd_siginfo info{};
    return ::read(fd_, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  int fd_;
};

// The worker threads. The destructor waits for them.
class Crew {
 public:
  explicit Crew(Plan& plan) : plan_(plan), done_fd_(::eventfd(0, EFD_CLOEXEC)) {
    for (int i = 0; i < plan.options.threads; ++i) workers_.push_back(std::make_unique<Worker>(plan, i));
    errors_.resize(workers_.size());
  }
  ~Crew() {
    threads_.clear();  // the last one to finish writes to done_fd_
    ::close(done_fd_);
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  void start() {
    gate_.emplace(static_cast<std::ptrdiff_t>(workers_.size()), [this]() noexcept { set_clock(); });
    running_ = static_cast<int>(workers_.size());
    for (std::size_t i = 0; i < workers_.size(); ++i) threads_.emplace_back([this, i] { work(i); });
  }

  int done_fd() const { return done_fd_; }  // readable when all have finished
  const std::vector<std::unique_ptr<Worker>>& workers() const { return workers_; }

  void stop(Nanos at) {
    plan_.stop_at = at;
    wake();
  }
  void abandon() {
    plan_.abandon = true;
    wake();
  }
  void join() {
    threads_.clear();
    for (const auto& error : errors_) {
      if (error) std::rethrow_exception(error);
    }
  }

 private:
  void set_clock() noexcept {
    const Nanos ticks = plan_.options.mode == Mode::none ? 0 : -plan_.schedule.offset_ns(0);
    const Nanos soonest = now_ns() + kStartLead;
    const Nanos start = plan_.options.start_at != 0 ? plan_.options.start_at : soonest;
    late_ = soonest - start;
    plan_.count_from = start + std::max(from_sec(plan_.options.warmup_sec), ticks);
    plan_.count_to = plan_.count_from + from_sec(plan_.options.duration_sec);
  }

  void work(std::size_t i) {
    bool at_gate = false;
    try {
      workers_[i]->open_connections();
      at_gate = true;
      gate_->arrive_and_wait();
      if (late_ > 0)
        throw RunError("--start-at: the connections were open " + std::to_string(late_ / kMillisecond + 1) +
                       " ms too late for it; name a later moment");
      workers_[i]->run();
    } catch (...) {
      errors_[i] = std::current_exception();
      if (!at_gate) gate_->arrive_and_drop();
      stop(now_ns());
    }
    const std::uint64_t one = 1;
    if (running_.fetch_sub(1) == 1) static_cast<void>(!::write(done_fd_, &one, sizeof one));
  }

  void wake() {
    for (const auto& worker : workers_) worker->wake();
  }

  Plan& plan_;
  int done_fd_;
  Nanos late_ = 0;  // how long after --start-at the first request could have been sent; set at the gate
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::exception_ptr> errors_;
  std::optional<std::barrier<std::function<void()>>> gate_;
  std::atomic<int> running_{0};
  std::vector<std::jthread> threads_;
};

// Waits for the crew, reacting to signals and finished seconds. Answers the signal that stopped it, or 0.
int watch(Crew& crew, const Signals& signals, Plan& plan, Timeline& timeline) {
  int stopped_by = 0;
  Progress progress;
  pollfd waiting[2] = {{signals.fd(), POLLIN, 0}, {crew.done_fd(), POLLIN, 0}};
  while ((waiting[1].revents & POLLIN) == 0) {
    ::poll(waiting, 2, 250);
    if ((waiting[0].revents & POLLIN) != 0) {
      const int signal = signals.take();
      if (stopped_by != 0) crew.abandon();
      if (stopped_by == 0 && signal != 0) {
        stopped_by = signal;
        crew.stop(now_ns());
      }
    }
    for (const Row& row : timeline.add(plan.slices.take())) {
      if (plan.options.progress) progress.print(row);
    }
  }
  return stopped_by;
}

void collect(RunResult& result, const Crew& crew) {
  for (const auto& worker : crew.workers()) {
    result.total.merge(worker->tally());
    result.threads.push_back(worker->tally().cpu);
    if (result.tls_version.empty()) {
      result.tls_version = worker->tls_version();
      result.tls_cipher = worker->tls_cipher();
    }
  }
}

}  // namespace

RunResult run(const Options& options) {
  const Payload payload = options.payload_path.empty() ? Payload() : Payload(options.payload_path);
  std::optional<TlsContext> tls;
  if (options.url.tls) tls.emplace(options.url.host, options.ca_file, options.insecure);
  allow_open_files(options.connections);
  const Address address =
      choose_address(options.url.host, options.url.port, std::min(from_sec(options.timeout_sec), 3 * kSecond));
  const RequestWriter writer(options.url, options.method, options.headers, payload);
  SliceBox slices;
  const Schedule schedule = options.mode == Mode::none
                                ? Schedule()
                                : Schedule(options.rate, options.warmup_sec, options.duration_sec);
  Plan plan{options, address, tls ? &*tls : nullptr, writer, payload.size(), schedule, slices};

  const Signals signals;
  Crew crew(plan);
  Timeline timeline(options.threads);
  crew.start();
  RunResult result;
  result.signal = watch(crew, signals, plan, timeline);
  crew.join();
  const Nanos finished = now_ns();
  timeline.add(slices.take());
  timeline.finish();

  const Nanos ended = std::min(plan.count_to, plan.stop_at.load());
  const auto wall_offset = std::chrono::nanoseconds(plan.count_from - finished);
  result.started_at = utc(std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::system_clock::duration>(wall_offset));
  result.address = address.text;
  result.bodies = payload.size();
  result.body_bytes_mean = payload.mean_bytes();
  result.window_sec = to_sec(std::max<Nanos>(ended - plan.count_from, 0));
  result.drain_sec = to_sec(std::max<Nanos>(finished - ended, 0));
  result.timeline = timeline.rows();
  collect(result, crew);
  return result;
}

}  // namespace metronome
