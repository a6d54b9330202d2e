// A feed handler: reads ticks as CSV (ts_ns,symbol,kind,price,size), sends them into a running
// cluster, and says what became of them.
//   feed HOST:PORT FILE.csv        - is standard input
#include "zepto.hpp"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <unordered_map>

using namespace std::chrono_literals;

namespace {

// What stands before the next comma.
std::string_view field(std::string_view &line) {
  const size_t end = line.find(',');
  const std::string_view head = line.substr(0, end);
  line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  return head;
}

// A decimal number in units of 1e-9, exact.
int64_t units(std::string_view text) {
  const bool negative = !text.empty() && text.front() == '-';
  if (negative) text.remove_prefix(1);
  const size_t point = std::min(text.find('.'), text.size());
  const std::string_view behind = text.substr(std::min(point + 1, text.size()));
  if (text.empty() || behind.size() > 9) throw std::runtime_error("no number of 9 decimals");
  int64_t value = 0;
  const auto digit = [&](char c) {
    if (c < '0' || c > '9') throw std::runtime_error("not a number");
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, c - '0', &value))
      throw std::runtime_error("too large a number");
  };
  for (const char c : text.substr(0, point)) digit(c);
  for (size_t i = 0; i < 9; i++) digit(i < behind.size() ? behind[i] : '0');
  return negative ? -value : value;
}

uint8_t kind_of(std::string_view name) {
  if (name == "trade") return ZEPTO_KIND_TRADE;
  if (name == "bid") return ZEPTO_KIND_BID;
  if (name == "ask") return ZEPTO_KIND_ASK;
  throw std::runtime_error("an unknown kind: " + std::string(name));
}

class handler {
 public:
  explicit handler(const zepto::client &client) : producer_(client.producer()) {}

  void line(std::string_view text) {
    zepto_tick tick{};
    tick.event_time_ns = std::stoull(std::string(field(text)));
    tick.symbol = symbol(field(text));
    tick.kind = kind_of(field(text));
    tick.price = units(field(text));
    tick.size = static_cast<uint64_t>(units(field(text)));
    tick.user[0] = rows_++;
    // Nanoseconds, as long as there is room; the cluster says how fast it takes them.
    zepto_status status = producer_.ingest(tick);
    if (status == zepto::busy) status = producer_.ingest_wait(tick, 10s);
    if (status != zepto::ok) throw zepto::error(status, "a tick was not taken");
  }

  zepto::account flush() { return producer_.flush(10s); }

 private:
  uint32_t symbol(std::string_view name) {
    const std::string key(name);
    const auto known = symbols_.find(key);
    if (known != symbols_.end()) return known->second;
    return symbols_[key] = producer_.symbol(name);
  }

  zepto::producer producer_;
  std::unordered_map<std::string, uint32_t> symbols_;
  uint64_t rows_ = 0;
};

int feed(const std::string &seed, std::istream &input) {
  const zepto::client client = zepto::client::open({{seed}, "feed.cpp"});
  handler feed(client);
  std::string line;
  std::getline(input, line);
  if (line != "ts_ns,symbol,kind,price,size") throw std::runtime_error("another header: " + line);
  for (uint64_t number = 2; std::getline(input, line); number++) try {
      feed.line(line);
    } catch (const std::exception &wrong) {
      throw std::runtime_error("line " + std::to_string(number) + ": " + wrong.what());
    }
  const zepto::account account = feed.flush();
  std::cout << "accepted " << account.accepted << ", acknowledged " << account.acknowledged
            << ", refused " << account.refused << "\n";
  return account ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main(int argc, char **argv) try {
  if (argc != 3) {
    std::cerr << "usage: feed HOST:PORT FILE.csv\n";
    return 2;
  }
  if (std::string_view(argv[2]) == "-") return feed(argv[1], std::cin);
  std::ifstream file(argv[2]);
  if (!file) throw std::runtime_error(std::string("cannot read ") + argv[2]);
  return feed(argv[1], file);
} catch (const std::exception &error) {
  std::cerr << "feed: " << error.what() << "\n";
  return EXIT_FAILURE;
}
