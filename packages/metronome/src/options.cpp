#include "options.h"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>

#include "errors.h"

namespace metronome {

namespace {

constexpr double kMostRate = 1e6;
constexpr double kMostSec = 7 * 24 * 3600;
constexpr int kMostConnections = 60'000;
constexpr int kMostThreads = 256;

const std::map<std::string, Mode> kModes{
    {"connection", Mode::connection}, {"clock", Mode::clock}, {"none", Mode::none}};

// What the flags hold before they are checked together.
struct Raw {
  Options options;
  std::vector<std::string> headers;
  std::string header_file;
  std::string url_file;
  std::string schedule = "connection";
  bool rate_given = false;
};

void add_request_flags(CLI::App& app, Raw& raw) {
  app.add_option("--url", raw.options.url_text, "Where to send: http://HOST[:PORT]/PATH or https://...")
      ->type_name("URL")->group("Request");
  app.add_option("--url-file", raw.url_file, "File with the URL: the place for one with a key in its query")
      ->type_name("FILE")->group("Request");
  app.add_option("--method", raw.options.method, "HTTP method; default GET, with a payload POST")
      ->type_name("M")->group("Request");
  app.add_option("--header", raw.headers, "Header 'K: V', may be repeated; no secrets here, ps shows them")
      ->type_name("K:V")->allow_extra_args(false)->group("Request");
  app.add_option("--header-file", raw.header_file, "File of headers, one 'K: V' per line: the place for secrets")
      ->type_name("FILE")->group("Request");
  app.add_option("--payload", raw.options.payload_path, "JSON Lines file; each line is a body, sent in rotation")
      ->type_name("FILE")->group("Request");
  app.add_option("--timeout", raw.options.timeout_sec, "Give up a request this long after its send (10)")
      ->type_name("SEC")->group("Request");
}

void add_load_flags(CLI::App& app, Raw& raw) {
  app.add_option("--schedule", raw.schedule,
                 "connection: open loop, every connection on its own even schedule (wrk2's model; the default)\n"
                 "clock: open loop, one even clock, a tick goes to an idle client (LaBench's model)\n"
                 "none: closed loop, each connection sends when its last answer is in (wrk's model)")
      ->type_name("S")->group("Load");
  app.add_option_function<double>("--rate", [&raw](const double& rate) {
       raw.options.rate = rate;
       raw.rate_given = true;
     }, "Requests per second over all connections; needed unless --schedule none")
      ->type_name("R")->group("Load");
  app.add_option("--connections", raw.options.connections, "Connections, each with one request at a time (1)")
      ->type_name("N")->group("Load");
  app.add_option("--threads", raw.options.threads, "Threads that share the connections (1)")->type_name("T")->group("Load");
  app.add_option("--duration", raw.options.duration_sec, "Length of the counted window (10)")
      ->type_name("SEC")->group("Load");
  app.add_option("--warmup", raw.options.warmup_sec, "Same load before it, not counted (0)")
      ->type_name("SEC")->group("Load");
  app.add_option("--start-at", raw.options.start_at,
                 "Begin at this moment of CLOCK_MONOTONIC, for several generators that share one schedule")
      ->type_name("NS")->group("Load");
}

void add_tls_flags(CLI::App& app, Raw& raw) {
  app.add_option("--ca", raw.options.ca_file, "PEM file of the authorities to trust instead of the system's")
      ->type_name("FILE")->group("TLS");
  app.add_flag("--insecure", raw.options.insecure, "Accept any certificate")->group("TLS");
}

void add_output_flags(CLI::App& app, Raw& raw) {
  app.add_option("--json", raw.options.json_path, "Write the result here as JSON ('-': stdout) instead of a summary")
      ->type_name("FILE")->group("Output");
  app.add_flag("--progress", raw.options.progress, "One JSON line per second on stderr")->group("Output");
  app.set_version_flag("--version", "metronome " METRONOME_VERSION, "Print the version")->group("Output");
  app.set_help_flag("--help,-h", "Print this")->group("Output");
}

void describe(CLI::App& app) {
  app.description(
      "metronome - HTTP/1.1 load generator that keeps its schedule\n"
      "\n"
      "Sends requests at a constant rate whatever the server does, and counts each one's latency from the moment\n"
      "it was due, so that a stall shows in the percentiles (no coordinated omission). Times are in seconds;\n"
      "fractions are fine.");
  app.footer(
      "Exit codes: 0 the run took place (whatever the server answered), 1 it could not start, 2 bad flags or input,\n"
      "130 or 143 interrupted (the JSON is written all the same, marked interrupted).\n"
      "Proxy variables of the environment are ignored; redirects are counted, never followed.\n"
      "\n"
      "Example: metronome --url http://127.0.0.1:8080/score --payload bodies.jsonl --header-file headers.txt \\\n"
      "           --rate 200 --connections 16 --duration 30 --json result.json");
}

[[noreturn]] void reject(const std::string& flag, const std::string& why) { throw InputError(flag + ": " + why); }

void check_range(const std::string& flag, double value, double least, double most) {
  if (!std::isfinite(value) || value < least || value > most) {
    std::ostringstream text;
    text << value << " is not between " << least << " and " << most;
    reject(flag, text.str());
  }
}

void check_load(const Raw& raw) {
  const Options& options = raw.options;
  check_range("--connections", options.connections, 1, kMostConnections);
  check_range("--threads", options.threads, 1, kMostThreads);
  check_range("--duration", options.duration_sec, 0.001, kMostSec);
  check_range("--warmup", options.warmup_sec, 0, kMostSec);
  check_range("--timeout", options.timeout_sec, 0.001, 3600);
  if (options.start_at < 0) reject("--start-at", "must not be negative");
  if (options.threads > options.connections)
    reject("--threads", std::to_string(options.threads) + " threads need as many connections; --connections is " +
                            std::to_string(options.connections));
  if (options.mode == Mode::none) {
    if (raw.rate_given) reject("--rate", "a closed loop (--schedule none) has no rate; leave it out");
    return;
  }
  if (!raw.rate_given) reject("--rate", "needed with --schedule " + raw.schedule + " (or use --schedule none)");
  if (!(options.rate > 0)) reject("--rate", "must be above 0 with --schedule " + raw.schedule);
  check_range("--rate", options.rate, 1e-4, kMostRate);
}

// The file's one line, without the white space around it.
std::string read_url_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) reject("--url-file", path + ": " + std::strerror(errno));
  std::string url, more;
  if (!(in >> url)) reject("--url-file", path + ": no URL in it");
  if (in >> more) reject("--url-file", path + ": more than one URL in it");
  return url;
}

void complete(Raw& raw) {
  Options& options = raw.options;
  if (options.url_text.empty() == raw.url_file.empty()) reject("--url", "give either --url or --url-file");
  if (!raw.url_file.empty()) options.url_text = read_url_file(raw.url_file);
  const auto mode = kModes.find(raw.schedule);
  if (mode == kModes.end()) reject("--schedule", "'" + raw.schedule + "' is not connection, clock or none");
  options.mode = mode->second;
  check_load(raw);
  options.url = parse_url(options.url_text);
  for (const auto& header : raw.headers) options.headers.push_back(parse_header(header, "--header"));
  if (!raw.header_file.empty()) {
    for (auto& header : read_header_file(raw.header_file)) options.headers.push_back(std::move(header));
  }
  if (options.method.empty()) options.method = options.payload_path.empty() ? "GET" : "POST";
  check_method(options.method);
  if (options.insecure && !options.ca_file.empty()) reject("--insecure", "contradicts --ca; give one of them");
}

}  // namespace

const char* mode_name(Mode mode) {
  for (const auto& [name, value] : kModes) {
    if (value == mode) return name.c_str();
  }
  return "";
}

bool CommandLine::read(int argc, char** argv, Options& options) {
  CLI::App app;
  Raw raw;
  describe(app);
  app.get_formatter()->column_width(28);
  add_request_flags(app, raw);
  add_load_flags(app, raw);
  add_tls_flags(app, raw);
  add_output_flags(app, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    app.exit(asked, std::cout, std::cerr);
    return false;
  } catch (const CLI::ParseError& error) {
    throw InputError(error.what());
  }
  complete(raw);
  options = std::move(raw.options);
  return true;
}

}  // namespace metronome
