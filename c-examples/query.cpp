// Asks a running cluster about a symbol: vwap, bars of a minute, the last trade, all its ticks.
//   query HOST:PORT SYMBOL
#include "zepto.hpp"

#include <cstdio>
#include <cstdlib>
#include <iostream>

int main(int argc, char **argv) try {
  if (argc != 3) {
    std::cerr << "usage: query HOST:PORT SYMBOL\n";
    return 2;
  }
  const zepto::client client = zepto::client::open({{argv[1]}, "query.cpp"});
  const std::string symbol = argv[2];

  const zepto_aggregate all = client.aggregate({symbol});
  std::printf("trades %llu, open %.9f, high %.9f, low %.9f, close %.9f, vwap %.9f\n",
              static_cast<unsigned long long>(all.count), static_cast<double>(all.open) / 1e9,
              static_cast<double>(all.high) / 1e9, static_cast<double>(all.low) / 1e9,
              static_cast<double>(all.close) / 1e9, static_cast<double>(all.vwap) / 1e9);

  const auto bars = client.ohlcv({symbol}, std::chrono::minutes(1));
  uint64_t in_bars = 0;
  for (const zepto_aggregate &bar : bars) in_bars += bar.count;
  std::printf("bars %zu, with %llu trades\n", bars.size(), static_cast<unsigned long long>(in_bars));

  if (const auto last = client.last({symbol}))
    std::printf("last %.9f at %llu\n", static_cast<double>(last->price) / 1e9,
                static_cast<unsigned long long>(last->event_time_ns));

  size_t ticks = 0, pages = 0;
  zepto::query question{symbol};
  question.limit = 10000;
  client.range(question, [&](const zepto::tick *, size_t count) {
    ticks += count;
    pages++;
  });
  std::printf("ticks %zu in %zu pages\n", ticks, pages);
  return EXIT_SUCCESS;
} catch (const zepto::error &error) {
  std::cerr << "query: " << error.what() << "\n";
  return EXIT_FAILURE;
}
