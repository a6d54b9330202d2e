// A producer that is killed: it sends ticks 0, 1, 2, ... of one symbol as fast as they are taken, and
// says again and again how many of them are acknowledged.  Whoever asks afterwards finds those, each
// once and in order.
//   killed send HOST:PORT SYMBOL        until it is killed
//   killed check HOST:PORT SYMBOL N     that the first N are there, and nothing twice
#include "layout.h"
#include "zepto.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

namespace {

int send(const zepto::client &client, const std::string &symbol) {
  zepto::producer producer = client.producer();
  zepto_tick tick{};
  tick.symbol = producer.symbol(symbol);
  tick.kind = ZEPTO_KIND_TRADE;
  for (uint64_t told = 0;;) {
    for (int i = 0; i < 1000; i++) {
      tick.event_time_ns = 1723075200000000000 + tick.user[0];
      const zepto_status status = producer.ingest(tick);
      if (status == zepto::busy) break;
      if (status != zepto::ok) throw zepto::error(status, "not taken");
      tick.user[0]++;
    }
    producer.poll();
    const zepto::account account = producer.account();
    if (account.refused != 0) throw std::runtime_error("a tick was refused");
    // One symbol is one partition, where ticks are acknowledged in order.
    if (account.acknowledged != told) {
      told = account.acknowledged;
      std::printf("%llu\n", static_cast<unsigned long long>(told));
      std::fflush(stdout);
    }
  }
}

int check(const zepto::client &client, const std::string &symbol, uint64_t acknowledged) {
  uint64_t next = 0;
  try {
    client.range({symbol}, [&](const zepto::tick *ticks, size_t count) {
      for (size_t i = 0; i < count; i++)
        if (ticks[i].user[0] != next++)
          throw std::runtime_error("tick " + std::to_string(ticks[i].user[0]) + ", not " +
                                   std::to_string(next - 1));
    });
  } catch (const zepto::error &error) {
    // Killed before it had its symbol.
    if (error.code() != ZEPTO_E_NOT_FOUND) throw;
  }
  if (next < acknowledged)
    throw std::runtime_error(std::to_string(next) + " are there, " + std::to_string(acknowledged) +
                             " were acknowledged");
  std::cout << next << "\n";
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char **argv) try {
  if (argc < 4) return 2;
  const zepto::client client = zepto::client::open({{argv[2]}});
  if (std::strcmp(argv[1], "send") == 0) return send(client, argv[3]);
  return check(client, argv[3], argc > 4 ? std::stoull(argv[4]) : 0);
} catch (const std::exception &error) {
  std::cerr << "killed: " << error.what() << "\n";
  return EXIT_FAILURE;
}
