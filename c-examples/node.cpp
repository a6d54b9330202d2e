// A node in this process, and ticks into its own partitions. With `polled` the node has no threads
// that append ticks: this program's one thread produces them and takes them.
//   node DIRECTORY [COUNT [polled]]
#include "zepto.hpp"

#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

using namespace std::chrono_literals;

int main(int argc, char **argv) try {
  if (argc < 2) {
    std::cerr << "usage: node DIRECTORY [COUNT [polled]]\n";
    return 2;
  }
  const uint64_t count = argc > 2 ? std::stoull(argv[2]) : 100000;
  zepto::log(ZEPTO_LOG_WARN, [](uint32_t, std::string_view target, std::string_view text) {
    std::cerr << std::string(target) + ": " + std::string(text) + "\n";
  });
  const bool polled = argc > 3 && argv[3] == std::string_view("polled");
  const std::string config = "node_id = 'embedded'\nlisten = '127.0.0.1:0'\ndata_dir = '" +
                             std::string(argv[1]) + "'\n[cluster]\ncopies = 1\n";
  zepto::node node = polled ? zepto::node::open_polled(config) : zepto::node::open(config);
  const zepto::client client = node.client();
  zepto::producer producer = client.producer({zepto::memory, /*tickets=*/true});

  zepto_tick tick{};
  tick.symbol = producer.symbol("embedded:ONE");
  tick.kind = ZEPTO_KIND_TRADE;
  tick.size = 1000000000;
  for (uint64_t i = 0; i < count; i++) {
    tick.event_time_ns = 1723075200000000000 + i;
    tick.price = static_cast<int64_t>(i + 1) * 1000000000;
    while (producer.ingest(tick) == zepto::busy) {
      if (polled) node.poll();
      producer.poll();
    }
  }
  // Nobody else would take them: what waits below would wait in vain.
  while (polled && producer.account().acknowledged < count) {
    node.poll();
    producer.poll();
  }
  const zepto::account account = producer.flush(10s);
  const zepto::outcome last = producer.outcome(producer.last_ticket());
  std::cout << "accepted " << account.accepted << ", acknowledged " << account.acknowledged
            << ", last tick " << (last.status == zepto::ok ? "there" : "not there") << "\n";
  std::cout << "counted " << client.count({"embedded:ONE"}) << "\n";
  node.stop();
  zepto::log_to_nobody();
  return account ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception &error) {
  std::cerr << "node: " << error.what() << "\n";
  return EXIT_FAILURE;
}
