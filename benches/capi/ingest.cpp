// What a tick costs a C++ program that sends it through libzepto: as benches/capi.sh runs it.
//   ingest HOST:PORT ROUNDS        one line: ns for one ingest, for one of a batch of 256, for a flush
//   ingest own DIRECTORY ROUNDS    the same into this process's own node, and vwap over a million
#include "zepto.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

using clock_type = std::chrono::steady_clock;
using namespace std::chrono_literals;

namespace {

constexpr size_t BURST = 4096, BATCH = 256, SYMBOLS = 64;

double ns(clock_type::duration time, size_t count) {
  return std::chrono::duration<double, std::nano>(time).count() / static_cast<double>(count);
}

double median(std::vector<double> all) {
  std::nth_element(all.begin(), all.begin() + static_cast<long>(all.size() / 2), all.end());
  return all[all.size() / 2];
}

struct ticks {
  explicit ticks(zepto::producer &producer) : all(BURST) {
    std::vector<uint32_t> symbols;
    for (size_t i = 0; i < SYMBOLS; i++) symbols.push_back(producer.symbol("bench:" + std::to_string(i)));
    for (size_t i = 0; i < BURST; i++) {
      all[i].symbol = symbols[i % SYMBOLS];
      all[i].kind = ZEPTO_KIND_TRADE;
      all[i].price = static_cast<int64_t>(i) * 1000000;
      all[i].size = 1000000000;
    }
  }
  // A new event time for each, outside of what is measured.
  void age() {
    for (auto &tick : all) tick.event_time_ns = ++time;
  }
  std::vector<zepto_tick> all;
  uint64_t time = 1723075200000000000;
};

// The window has room for a burst: nothing waits in what is measured.
void measure(zepto::producer &producer, long rounds, const char *what) {
  ticks ticks(producer);
  std::vector<double> one, batch, flush;
  for (long round = 0; round < rounds; round++) {
    ticks.age();
    auto begun = clock_type::now();
    for (const auto &tick : ticks.all)
      if (producer.ingest(tick) != zepto::ok) std::abort();
    one.push_back(ns(clock_type::now() - begun, BURST));
    if (!producer.flush(10s)) std::abort();

    ticks.age();
    begun = clock_type::now();
    for (size_t i = 0; i < BURST; i += BATCH)
      if (producer.ingest(&ticks.all[i], BATCH).first != zepto::ok) std::abort();
    batch.push_back(ns(clock_type::now() - begun, BURST));
    if (!producer.flush(10s)) std::abort();

    if (producer.ingest(ticks.all[0]) != zepto::ok) std::abort();
    begun = clock_type::now();
    if (!producer.flush(10s)) std::abort();
    flush.push_back(ns(clock_type::now() - begun, 1));
  }
  std::printf("%s %.1f %.1f %.0f\n", what, median(one), median(batch), median(flush));
}

// Over a million ticks of one symbol, asked by a client in the same process.
void vwap(const zepto::client &client, zepto::producer &producer) {
  zepto_tick tick{};
  tick.symbol = producer.symbol("bench:vwap");
  tick.kind = ZEPTO_KIND_TRADE;
  tick.size = 1000000000;
  for (uint64_t i = 0; i < 1000000; i++) {
    tick.event_time_ns = 1723075200000000000 + i;
    tick.price = static_cast<int64_t>(i % 100 + 1) * 1000000000;
    if (producer.ingest_wait(tick, 10s) != zepto::ok) std::abort();
  }
  if (!producer.flush(10s)) std::abort();
  std::vector<double> all;
  for (int i = 0; i < 21; i++) {
    const auto begun = clock_type::now();
    if (client.vwap("bench:vwap") != 50500000000) std::abort();
    all.push_back(ns(clock_type::now() - begun, 1));
  }
  std::printf("vwap %.0f\n", median(all));
}

}  // namespace

int main(int argc, char **argv) try {
  const bool own = argc == 4 && std::strcmp(argv[1], "own") == 0;
  if (!own && argc != 3) return 2;
  const zepto::producer_options options{zepto::memory};
  if (!own) {
    const auto client = zepto::client::open({{argv[1]}});
    auto producer = client.producer(options);
    measure(producer, std::atol(argv[2]), "cpp");
    return 0;
  }
  auto node = zepto::node::open("node_id = 'own'\nlisten = '127.0.0.1:0'\ndata_dir = '" +
                                std::string(argv[2]) + "'\n[cluster]\ncopies = 1\n");
  const auto client = node.client();
  auto producer = client.producer(options);
  measure(producer, std::atol(argv[3]), "own");
  vwap(client, producer);
  return 0;
} catch (const zepto::error &error) {
  std::fprintf(stderr, "ingest: %s\n", error.what());
  return 1;
}
