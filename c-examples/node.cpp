// A node in this process, and ticks into its own partitions.
//   node DIRECTORY [COUNT]
#include "zepto.hpp"

#include <cstdlib>
#include <iostream>

using namespace std::chrono_literals;

int main(int argc, char **argv) try {
  if (argc < 2) {
    std::cerr << "usage: node DIRECTORY [COUNT]\n";
    return 2;
  }
  const uint64_t count = argc > 2 ? std::stoull(argv[2]) : 100000;
  zepto::node node = zepto::node::open("node_id = 'embedded'\nlisten = '127.0.0.1:0'\ndata_dir = '" +
                                       std::string(argv[1]) + "'\n[cluster]\ncopies = 1\n");
  const zepto::client client = node.client();
  zepto::producer producer = client.producer({zepto::memory, /*tickets=*/true});

  zepto_tick tick{};
  tick.symbol = producer.symbol("embedded:ONE");
  tick.kind = ZEPTO_KIND_TRADE;
  tick.size = 1000000000;
  for (uint64_t i = 0; i < count; i++) {
    tick.event_time_ns = 1723075200000000000 + i;
    tick.price = static_cast<int64_t>(i + 1) * 1000000000;
    while (producer.ingest(tick) == zepto::busy) producer.poll();
  }
  const zepto::account account = producer.flush(10s);
  const zepto::outcome last = producer.outcome(producer.last_ticket());
  std::cout << "accepted " << account.accepted << ", acknowledged " << account.acknowledged
            << ", last tick " << (last.status == zepto::ok ? "there" : "not there") << "\n";
  std::cout << "counted " << client.count({"embedded:ONE"}) << "\n";
  node.stop();
  return account ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception &error) {
  std::cerr << "node: " << error.what() << "\n";
  return EXIT_FAILURE;
}
