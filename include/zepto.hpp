// zepto.hpp: C++17 over zepto.h.  It has no ABI of its own: everything here is inline.
//
// What may fail throws zepto::error, but for what is called for each tick, which gives a status.
// Objects are moved, not copied; the same threads may use them as the C functions say.  None may be
// destroyed within a callback of the library's: that ends the program.
#ifndef ZEPTO_HPP
#define ZEPTO_HPP

#include "zepto.h"

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace zepto {

using nanoseconds = std::chrono::nanoseconds;
using status = zepto_status;
using tick = zepto_tick;

inline constexpr status ok = ZEPTO_OK;
inline constexpr status busy = ZEPTO_E_BUSY;

enum durability : uint32_t {
  replicated = ZEPTO_DURABILITY_REPLICATED,  // in as many nodes as the cluster declares copies
  memory = ZEPTO_DURABILITY_MEMORY,          // in the owner's memory
};

class error : public std::runtime_error {
 public:
  error(zepto_status code, const std::string &text) : std::runtime_error(text), code_(code) {}
  zepto_status code() const noexcept { return code_; }

 private:
  zepto_status code_;
};

namespace detail {

inline zepto_str str(std::string_view text) noexcept { return {text.data(), text.size()}; }

inline std::string_view view(zepto_str text) noexcept {
  return text.len ? std::string_view(text.ptr, text.len) : std::string_view();
}

inline uint64_t ns(nanoseconds time) noexcept {
  return time.count() > 0 ? static_cast<uint64_t>(time.count()) : 0;
}

// Where 0 is a default: a deadline that has passed is none of these.
inline uint64_t ns_or_default(nanoseconds time) noexcept {
  return time.count() < 0 ? 1 : static_cast<uint64_t>(time.count());
}

// After a call, never around it: arguments are evaluated in any order.
inline void check(zepto_status code, zepto_error *why) {
  struct owner {
    zepto_error *why;
    ~owner() { zepto_error_free(why); }
  } own{why};
  if (code >= 0) return;
  if (why) throw error(code, std::string(view(zepto_error_message(why))));
  throw error(code, "zepto: status " + std::to_string(code));
}

template <auto F>
struct freer {
  template <class T>
  void operator()(T *handle) const noexcept {
    if constexpr (std::is_void_v<decltype(F(handle))>) {
      F(handle);
    } else if (F(handle) == ZEPTO_E_REENTRANT) {
      // Destroyed within a callback, it would go on without its owner.
      std::terminate();
    }
  }
};

template <class T, auto F>
using owned = std::unique_ptr<T, freer<F>>;

}  // namespace detail

struct client_options {
  std::vector<std::string> seeds;  // host:port; one that answers is enough
  std::string name{};
  std::string secret_file{};
  bool shared_memory = true;
  nanoseconds connect_timeout{};  // 0 is ten seconds
};

struct producer_options {
  zepto::durability durability = replicated;
  bool tickets = false;  // for outcome()
  uint32_t window = 0;   // ticks on their way to each shard, a power of two; 0 is the default
};

// What became of all ticks of a producer.
struct account : zepto_account {
  account() : zepto_account{} { struct_size = sizeof(zepto_account); }
  bool is_final() const noexcept { return in_flight == 0 && parked == 0; }
  // Everything that was taken is there.
  explicit operator bool() const noexcept { return acknowledged == accepted; }
};

// What became of one tick.
struct outcome {
  zepto_status status;  // ok, busy: not known yet, ZEPTO_E_REFUSED, ZEPTO_E_NOT_FOUND: not kept
  uint32_t refusal;
  std::string_view why() const noexcept {
    return refusal ? detail::view(zepto_refusal_text(refusal)) : std::string_view();
  }
};

// Owned by one thread at a time.
class producer {
 public:
  // Never blocks: ok, or why the tick was not taken.
  zepto_status ingest(const tick &t) noexcept { return zepto_ingest(handle_.get(), &t); }
  zepto_status ingest_wait(const tick &t, nanoseconds within) noexcept {
    return zepto_ingest_wait(handle_.get(), &t, detail::ns(within));
  }
  // As many as there is room for, and how many that were.
  std::pair<zepto_status, size_t> ingest(const tick *ticks, size_t count) noexcept {
    size_t taken = 0;
    const zepto_status code = zepto_ingest_batch(handle_.get(), ticks, count, &taken);
    return {code, taken};
  }
  // For when there is nothing to take.
  zepto_status poll() noexcept { return zepto_poll(handle_.get()); }
  // Waits until all is acknowledged or refused; the account says what is not.
  zepto::account flush(nanoseconds within) {
    zepto::account a;
    const zepto_status code = zepto_flush(handle_.get(), detail::ns(within), &a);
    if (code != ZEPTO_E_TIMEOUT) detail::check(code, nullptr);
    return a;
  }
  zepto::account account() {
    zepto::account a;
    detail::check(zepto_account_get(handle_.get(), &a), nullptr);
    return a;
  }
  uint32_t symbol(std::string_view name, nanoseconds within = std::chrono::seconds(10)) {
    uint32_t id = 0;
    zepto_error *why = nullptr;
    const zepto_status code =
        zepto_symbol(handle_.get(), detail::str(name), detail::ns(within), &id, &why);
    detail::check(code, why);
    return id;
  }
  uint64_t last_ticket() noexcept { return zepto_last_ticket(handle_.get()); }
  zepto::outcome outcome(uint64_t ticket) noexcept {
    zepto::outcome o{};
    o.status = zepto_outcome(handle_.get(), ticket, &o.refusal);
    return o;
  }
  // Lets another thread have it.
  void detach() { detail::check(zepto_producer_detach(handle_.get()), nullptr); }
  zepto_producer *raw() const noexcept { return handle_.get(); }

 private:
  friend class client;
  explicit producer(zepto_producer *handle) : handle_(handle) {}
  detail::owned<zepto_producer, zepto_producer_free> handle_;
};

// A member, as long as the members that it is of.
struct member {
  std::string_view name, address, zone;
  uint64_t incarnation;
  uint32_t state, node, weight, partitions;
};

// The members as of one index of the log; any thread.
class members {
 public:
  size_t size() const noexcept { return zepto_members_count(handle_.get()); }
  uint64_t index() const noexcept { return zepto_members_index(handle_.get()); }
  member operator[](size_t place) const && = delete;  // its texts are a part of the snapshot
  member operator[](size_t place) const & {
    zepto_member m{};
    m.struct_size = sizeof m;
    detail::check(zepto_members_at(handle_.get(), place, &m), nullptr);
    return {detail::view(m.name), detail::view(m.address), detail::view(m.zone), m.incarnation,
            m.state,              m.node,                  m.weight,             m.partitions};
  }
  zepto_route route(uint16_t table, uint32_t symbol) const {
    zepto_route r{};
    r.struct_size = sizeof r;
    detail::check(zepto_members_route(handle_.get(), table, symbol, &r), nullptr);
    return r;
  }

 private:
  friend class client;
  explicit members(zepto_members *handle) : handle_(handle) {}
  detail::owned<zepto_members, zepto_members_free> handle_;
};

// A question about one series; all of it, and of trades, where nothing else is said.
struct query {
  std::string symbol;
  uint64_t from_ns = 0;
  uint64_t to_ns = 0;  // 0 is no end
  uint16_t table = 0;
  std::vector<uint8_t> kinds{};  // none is trades
  uint32_t limit = 0;            // of a page; 0 is 65536
  nanoseconds timeout{};         // 0 is ten seconds

  zepto_query raw() const && = delete;  // it points into this
  zepto_query raw() const & noexcept {
    zepto_query q{};
    q.struct_size = sizeof q;
    q.table = table;
    q.symbol = detail::str(symbol);
    q.from_ns = from_ns;
    q.to_ns = to_ns;
    for (const uint8_t kind : kinds) q.kinds[kind / 64] |= uint64_t{1} << (kind % 64);
    q.limit = limit;
    q.timeout_ns = detail::ns_or_default(timeout);
    return q;
  }
};

// Told of every change of the cluster until it is destroyed.
class watch {
 private:
  friend class client;
  explicit watch(zepto_watch *handle) : handle_(handle) {}
  detail::owned<zepto_watch, zepto_watch_free> handle_;
};

// Gives new ticks of a symbol until it is destroyed.
class subscription {
 private:
  friend class client;
  explicit subscription(zepto_subscription *handle) : handle_(handle) {}
  detail::owned<zepto_subscription, zepto_subscription_free> handle_;
};

// A connection to the cluster; any thread.
class client {
 public:
  static client open(const client_options &options) {
    if (zepto_abi_version() >> 16 != ZEPTO_ABI_MAJOR || zepto_abi_version() < ZEPTO_ABI_VERSION)
      throw error(ZEPTO_E_VERSION, "libzepto.so is older than zepto.hpp, or of another major version");
    std::vector<zepto_str> seeds;
    for (const std::string &seed : options.seeds) seeds.push_back(detail::str(seed));
    zepto_client_options o{};
    o.struct_size = sizeof o;
    o.abi_version = ZEPTO_ABI_VERSION;
    o.seeds = seeds.data();
    o.seeds_len = static_cast<uint32_t>(seeds.size());
    o.flags = options.shared_memory ? 0u : ZEPTO_CLIENT_NO_SHARED_MEMORY;
    o.name = detail::str(options.name);
    o.secret_file = detail::str(options.secret_file);
    o.connect_timeout_ns = detail::ns_or_default(options.connect_timeout);
    zepto_client *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_client_open(&o, &handle, &why);
    detail::check(code, why);
    return client(handle);
  }

  // With a configuration, TOML: seeds = ["host:port"], ...
  static client open_toml(std::string_view toml) {
    zepto_client *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_client_open_toml(detail::str(toml), &handle, &why);
    detail::check(code, why);
    return client(handle);
  }

  zepto::producer producer(const producer_options &options = {}) const {
    zepto_producer_options o{};
    o.struct_size = sizeof o;
    o.durability = options.durability;
    o.flags = options.tickets ? ZEPTO_PRODUCER_TICKETS : 0u;
    o.window = options.window;
    zepto_producer *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_producer_open(handle_.get(), &o, &handle, &why);
    detail::check(code, why);
    return zepto::producer(handle);
  }

  zepto::members members() const {
    zepto_members *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_members_get(handle_.get(), &handle, &why);
    detail::check(code, why);
    return zepto::members(handle);
  }
  // The members once the cluster has changed beyond an index; nothing when it has not.
  std::optional<zepto::members> wait(uint64_t after_index, nanoseconds within) const {
    zepto_members *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code =
        zepto_members_wait(handle_.get(), after_index, detail::ns(within), &handle, &why);
    if (code == ZEPTO_E_TIMEOUT) {
      zepto_error_free(why);
      return std::nullopt;
    }
    detail::check(code, why);
    return zepto::members(handle);
  }
  // `changed` must not throw: that ends the program.
  zepto::watch watch(std::function<void(uint64_t)> changed) const {
    auto user = std::make_unique<std::function<void(uint64_t)>>(std::move(changed));
    zepto_watch *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_watch_open(
        handle_.get(),
        [](void *u, uint64_t index) noexcept {
          (*static_cast<std::function<void(uint64_t)> *>(u))(index);
        },
        user.get(),
        [](void *u) noexcept { delete static_cast<std::function<void(uint64_t)> *>(u); }, &handle,
        &why);
    detail::check(code, why);
    user.release();
    return zepto::watch(handle);
  }

  // New ticks of a symbol, as they come: `take` is called from one of the library's threads, never
  // twice at once, and must not throw.
  zepto::subscription subscribe(const query &question,
                                std::function<void(const tick *, size_t)> take) const {
    using function = std::function<void(const tick *, size_t)>;
    auto user = std::make_unique<function>(std::move(take));
    const zepto_query q = question.raw();
    zepto_subscription *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_subscribe(
        handle_.get(), &q,
        [](void *u, const zepto_tick *ticks, size_t count) noexcept {
          (*static_cast<function *>(u))(ticks, count);
        },
        user.get(), [](void *u) noexcept { delete static_cast<function *>(u); }, &handle, &why);
    detail::check(code, why);
    user.release();
    return zepto::subscription(handle);
  }

  zepto_aggregate aggregate(const query &question) const {
    const zepto_query q = question.raw();
    zepto_aggregate a{};
    a.struct_size = sizeof a;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_aggregate_get(handle_.get(), &q, &a, &why);
    detail::check(code, why);
    return a;
  }
  // In units of 1e-9; nothing where nothing was traded.
  std::optional<int64_t> vwap(std::string_view symbol, uint64_t from_ns = 0,
                              uint64_t to_ns = 0) const {
    const zepto_aggregate a = aggregate({std::string(symbol), from_ns, to_ns});
    return a.has_vwap ? std::optional<int64_t>(a.vwap) : std::nullopt;
  }
  uint64_t count(const query &question) const {
    const zepto_query q = question.raw();
    uint64_t count = 0;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_count(handle_.get(), &q, &count, &why);
    detail::check(code, why);
    return count;
  }
  std::optional<tick> last(const query &question) const {
    const zepto_query q = question.raw();
    tick t{};
    zepto_error *why = nullptr;
    const zepto_status code = zepto_last(handle_.get(), &q, &t, &why);
    if (code == ZEPTO_E_NOT_FOUND) {
      zepto_error_free(why);
      return std::nullopt;
    }
    detail::check(code, why);
    return t;
  }
  // All bars of a range, page by page.
  std::vector<zepto_aggregate> ohlcv(query question, nanoseconds interval) const {
    std::vector<zepto_aggregate> all;
    for (;;) {
      const zepto_query q = question.raw();
      zepto_bars *handle = nullptr;
      zepto_error *why = nullptr;
      const zepto_status code =
          zepto_ohlcv(handle_.get(), &q, detail::ns(interval), &handle, &why);
      detail::check(code, why);
      const detail::owned<zepto_bars, zepto_bars_free> bars(handle);
      for (size_t i = 0; i < zepto_bars_count(bars.get()); i++) {
        zepto_aggregate a{};
        a.struct_size = sizeof a;
        detail::check(zepto_bars_at(bars.get(), i, &a), nullptr);
        all.push_back(a);
      }
      question.from_ns = zepto_bars_next_ns(bars.get());
      if (question.from_ns == 0) return all;
    }
  }
  // Has a function called with every page of a range: const tick *, size_t.
  template <class F>
  void range(const query &question, F &&page) const {
    detail::owned<zepto_ticks, zepto_ticks_free> before;
    do {
      const zepto_query q = question.raw();
      zepto_ticks *handle = nullptr;
      zepto_error *why = nullptr;
      const zepto_status code = zepto_range(handle_.get(), &q, before.get(), &handle, &why);
      detail::check(code, why);
      before.reset(handle);
      page(zepto_ticks_data(before.get()), zepto_ticks_count(before.get()));
    } while (zepto_ticks_more(before.get()));
  }
  // JSON, as `zepto-host status --json` prints it; of any member where none is named.
  std::string status(std::string_view address = {},
                     nanoseconds within = std::chrono::seconds(5)) const {
    zepto_text *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_status_json(handle_.get(), detail::str(address),
                                                detail::ns(within), &handle, &why);
    detail::check(code, why);
    const detail::owned<zepto_text, zepto_text_free> text(handle);
    return std::string(detail::view(zepto_text_str(text.get())));
  }
  zepto_client *raw() const noexcept { return handle_.get(); }

 private:
  friend class node;
  explicit client(zepto_client *handle) : handle_(handle) {}
  detail::owned<zepto_client, zepto_client_free> handle_;
};

// Has the library's log lines up to a level brought to a function: from any thread, several at a
// time, so it should only note, and must not throw. It is let go once there is another or none.
inline void log(uint32_t level,
                std::function<void(uint32_t, std::string_view target, std::string_view text)> to) {
  using function = std::function<void(uint32_t, std::string_view, std::string_view)>;
  auto user = std::make_unique<function>(std::move(to));
  zepto_error *why = nullptr;
  const zepto_status code = zepto_log(
      level,
      [](void *u, uint32_t level, zepto_str target, zepto_str text) noexcept {
        (*static_cast<function *>(u))(level, detail::view(target), detail::view(text));
      },
      user.get(), [](void *u) noexcept { delete static_cast<function *>(u); }, &why);
  detail::check(code, why);
  user.release();
}
inline void log_to_nobody() {
  zepto_error *why = nullptr;
  const zepto_status code = zepto_log(0, nullptr, nullptr, nullptr, &why);
  detail::check(code, why);
}

// A node in this process; it stops when it is destroyed.
class node {
 public:
  // With a configuration as `zepto-host --config` reads it.
  static node open(std::string_view toml) { return opened(zepto_node_open, toml); }
  // The same, for a program that calls `poll` all the time.
  static node open_polled(std::string_view toml) { return opened(zepto_node_open_polled, toml); }
  // Does a piece of the node's work; how much there was.
  uint64_t poll() {
    uint64_t work = 0;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_node_poll(handle_.get(), &work, &why);
    detail::check(code, why);
    return work;
  }
  std::string_view address() const && = delete;
  std::string_view address() const & noexcept {
    return detail::view(zepto_node_address(handle_.get()));
  }
  zepto::client client() const {
    zepto_client *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = zepto_node_client(handle_.get(), &handle, &why);
    detail::check(code, why);
    return zepto::client(handle);
  }
  // Why it ended by itself, if it did.
  std::optional<std::string> failed() const {
    zepto_text *handle = nullptr;
    const zepto_status code = zepto_node_failed(handle_.get(), &handle);
    if (code == ZEPTO_E_NOT_FOUND) return std::nullopt;
    detail::check(code, nullptr);
    const detail::owned<zepto_text, zepto_text_free> text(handle);
    return std::string(detail::view(zepto_text_str(text.get())));
  }
  void stop() {
    zepto_error *why = nullptr;
    const zepto_status code = zepto_node_stop(handle_.get(), &why);
    detail::check(code, why);
  }

 private:
  static node opened(decltype(&zepto_node_open) how, std::string_view toml) {
    zepto_node *handle = nullptr;
    zepto_error *why = nullptr;
    const zepto_status code = how(detail::str(toml), &handle, &why);
    detail::check(code, why);
    return node(handle);
  }
  explicit node(zepto_node *handle) : handle_(handle) {}
  detail::owned<zepto_node, zepto_node_free> handle_;
};

}  // namespace zepto

#endif
