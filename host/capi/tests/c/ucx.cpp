// Two nodes of one cluster in this process, with UCX between them: every tick is kept twice. What the
// program does about its signals stays as it was.
// With `leave` it ends while its nodes run.
//   ucx DIRECTORY [COUNT [leave]]
#include "zepto.hpp"

#include <array>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;

namespace {

constexpr std::array<int, 9> signals{SIGHUP, SIGINT,  SIGILL,  SIGABRT, SIGBUS,
                                     SIGFPE, SIGSEGV, SIGUSR1, SIGTERM};
volatile std::sig_atomic_t heard = 0;

extern "C" void hear(int signal) { heard = signal; }

void keep_handlers() {
  for (const int signal : signals) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler != hear) throw std::runtime_error("signal " + std::to_string(signal));
  }
  raise(SIGHUP);
  if (heard != SIGHUP) throw std::runtime_error("a signal was not heard");
  heard = 0;
}

zepto::node open(const std::string &directory, const std::string &name, const std::string &seed) {
  return zepto::node::open("node_id = '" + name + "'\nlisten = '127.0.0.1:0'\ndata_dir = '" + directory +
                           "/" + name + "'\ntransport = 'ucx'\n" + seed + "[cluster]\ncopies = 2\n");
}

/// Whether a forked child is told why it can have no node over UCX.
bool is_refused(const std::string &directory) try {
  open(directory, "child", "");
  return false;
} catch (const std::exception &error) {
  return std::string(error.what()).find("forked") != std::string::npos;
}

}  // namespace

int main(int argc, char **argv) try {
  if (argc < 2) return 2;
  const uint64_t count = argc > 2 ? std::stoull(argv[2]) : 100000;
  for (const int signal : signals) {
    struct sigaction action {};
    action.sa_handler = hear;
    if (sigaction(signal, &action, nullptr) != 0) return 2;
  }
  zepto::node first = open(argv[1], "first", "");
  zepto::node second =
      open(argv[1], "second", "seeds = ['" + std::string(first.address()) + "']\n");
  keep_handlers();
  const zepto::client client = first.client();
  zepto::producer producer = client.producer();
  std::array<uint32_t, 16> symbols{};
  for (size_t i = 0; i < symbols.size(); i++)
    symbols[i] = producer.symbol("ucx:" + std::to_string(i));
  zepto_tick tick{};
  tick.kind = ZEPTO_KIND_TRADE;
  for (uint64_t i = 0; i < count; i++) {
    tick.symbol = symbols[i % symbols.size()];
    tick.event_time_ns = 1723075200000000000 + i;
    while (producer.ingest(tick) == zepto::busy) producer.poll();
  }
  const zepto::account account = producer.flush(30s);
  uint64_t counted = 0;
  for (size_t i = 0; i < symbols.size(); i++)
    counted += client.count({"ucx:" + std::to_string(i)});
  std::cout << "acknowledged " << account.acknowledged << ", counted " << counted << std::endl;
  keep_handlers();
  // A child may end as it likes: what is open here stays so. It has no UCX of its own.
  const pid_t child = fork();
  if (child == 0) std::exit(is_refused(argv[1]) ? EXIT_SUCCESS : EXIT_FAILURE);
  int ended = -1;
  if (child < 0 || waitpid(child, &ended, 0) != child || ended != 0)
    throw std::runtime_error("a forked child did not end well");
  tick.event_time_ns += 1;
  if (producer.ingest(tick) != zepto::ok || !producer.flush(30s))
    throw std::runtime_error("no tick is taken after a fork");
  if (argc > 3) std::exit(counted == count ? EXIT_SUCCESS : EXIT_FAILURE);
  second.stop();
  first.stop();
  keep_handlers();
  std::cout << "signals are as they were\n";
  return account && counted == count ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception &error) {
  std::cerr << "ucx: " << error.what() << "\n";
  return EXIT_FAILURE;
}
