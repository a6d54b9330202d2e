/* zepto.h: the C interface of libzepto.  Made by cbindgen from host/capi/src; do not edit.
 *
 * Every function says from where it may be called:
 *   [any thread]         from any, at the same time too;
 *   [owner's thread]     from the one thread that owns the producer: the first that uses it, until
 *                        it calls zepto_producer_detach.  Others get ZEPTO_E_BAD_STATE;
 *   [one thread at a time]  from any, but not from two at the same time: the second gets
 *                        ZEPTO_E_BAD_STATE;
 *   [callback-safe]      from within a callback of the library's too; what is not gives
 *                        ZEPTO_E_REENTRANT there.
 * A status is 0 or negative.  Where there is a zepto_error **, it may be NULL; after a failure it
 * is the caller's to free, after success it is NULL.  Whatever is freed may be NULL.  Structs begin
 * with their size, fill it in: fields are added at the end, and zero is always their default.
 * After a fork every function of a handle gives ZEPTO_E_BAD_STATE in the child, which keeps the
 * parent's sockets and locks open until it ends or execs.
 * ZEPTO_E_NOT_FOUND of a question about a symbol says that no such name was ever issued. */

#ifndef ZEPTO_H
#define ZEPTO_H

#include <stddef.h>
#include <stdint.h>

#define ZEPTO_ABI_VERSION ((uint32_t)((ZEPTO_ABI_MAJOR << 16) | ZEPTO_ABI_MINOR))
#if defined(__GNUC__)
#define ZEPTO_API __attribute__((visibility("default")))
#else
#define ZEPTO_API
#endif


// Major version of the interface: another one has another file name.
#define ZEPTO_ABI_MAJOR 1

// Minor version: functions and fields were added.
#define ZEPTO_ABI_MINOR 0

// It happened.
#define ZEPTO_OK 0

// An argument is wrong: NULL, not UTF-8, a struct_size that cannot be.
#define ZEPTO_E_INVALID -1

// This version of the library cannot do that.
#define ZEPTO_E_UNSUPPORTED -2

// A member does not let this process in: the cluster secret is not the same.
#define ZEPTO_E_DENIED -3

// There is no such thing.
#define ZEPTO_E_NOT_FOUND -4

// Beyond a limit.
#define ZEPTO_E_TOO_BIG -5

// No memory for it.
#define ZEPTO_E_NO_MEMORY -6

// No room now, or not known yet: try again.
#define ZEPTO_E_BUSY -7

// The deadline passed. What was asked may or may not have happened.
#define ZEPTO_E_TIMEOUT -8

// Given up.
#define ZEPTO_E_CANCELED -9

// Not now: closed, another thread's, or in a child after a fork.
#define ZEPTO_E_BAD_STATE -10

// Called from within a callback, where this function must not be.
#define ZEPTO_E_REENTRANT -11

// The cluster refused it, and it did not happen.
#define ZEPTO_E_REFUSED -12

// The system failed, or no member of the cluster can be reached.
#define ZEPTO_E_IO -13

// A defect of the library.
#define ZEPTO_E_INTERNAL -14

// A panic was caught: this handle can only be freed.
#define ZEPTO_E_PANIC -15

// Versions do not fit.
#define ZEPTO_E_VERSION -16

// Anything without a better name.
#define ZEPTO_KIND_OTHER 0

// A trade: vwap, bars and last are of these where nothing else is said.
#define ZEPTO_KIND_TRADE 1

// A change of a bid level.
#define ZEPTO_KIND_BID 2

// A change of an ask level.
#define ZEPTO_KIND_ASK 3

// A fill, reported apart from the trade.
#define ZEPTO_KIND_FILL 4

// The book was cleared.
#define ZEPTO_KIND_CLEAR 5

// First kind that is the user's own, to 254; 6 to 127 are kept for zepto.
#define ZEPTO_KIND_USER_FIRST 128

// No shared memory, also where it could be had.
#define ZEPTO_CLIENT_NO_SHARED_MEMORY 1

// Acknowledged means: in as many nodes as the cluster declares copies.
#define ZEPTO_DURABILITY_REPLICATED 0

// Acknowledged means: in its owner's memory.
#define ZEPTO_DURABILITY_MEMORY 1

// Remember what becomes of the last million ticks, for `zepto_outcome`.
#define ZEPTO_PRODUCER_TICKETS 1

// Reasons of a refusal that an account tells apart; those of later versions are in the last.
#define ZEPTO_REFUSALS 24

// It was accepted, and not heard yet.
#define ZEPTO_MEMBER_JOINING 1

// It takes part.
#define ZEPTO_MEMBER_ACTIVE 2

// It takes part, and gives everything away.
#define ZEPTO_MEMBER_LEAVING 3

// It left, or was not heard for too long.
#define ZEPTO_MEMBER_DEAD 4

// Something is lost or cannot go on.
#define ZEPTO_LOG_ERROR 1

// Somebody should look.
#define ZEPTO_LOG_WARN 2

// Members come and go, partitions move.
#define ZEPTO_LOG_INFO 3

// For whoever looks for a cause.
#define ZEPTO_LOG_DEBUG 4

// Bars, in order; only those of intervals with ticks. Free it with `zepto_bars_free`.
typedef struct zepto_bars zepto_bars;

// A connection to the cluster. Free it with `zepto_client_free`.
typedef struct zepto_client zepto_client;

// Why a call failed: free it with `zepto_error_free`.
typedef struct zepto_error zepto_error;

// The members as of one index of the log. Free it with `zepto_members_free`.
typedef struct zepto_members zepto_members;

// A node. Free it with `zepto_node_free`.
typedef struct zepto_node zepto_node;

// A producer. Free it with `zepto_producer_free`.
typedef struct zepto_producer zepto_producer;

// A subscription. Free it with `zepto_subscription_free`.
typedef struct zepto_subscription zepto_subscription;

// Text of the library's: free it with `zepto_text_free`.
typedef struct zepto_text zepto_text;

// Ticks, in order of event time and sequence. Free it with `zepto_ticks_free`.
typedef struct zepto_ticks zepto_ticks;

// A watch. Free it with `zepto_watch_free`.
typedef struct zepto_watch zepto_watch;

// Borrowed text: UTF-8, not terminated. `ptr` may be NULL when `len` is 0.
typedef struct zepto_str {
  // Its first byte.
  const char *ptr;
  // Its length in bytes.
  size_t len;
} zepto_str;

// How a call ended: `ZEPTO_OK`, or one of `ZEPTO_E_*`, which are negative.
typedef int32_t zepto_status;

// How to open a client. Zero it, and fill in what is needed.
typedef struct zepto_client_options {
  // `sizeof` of this struct.
  uint32_t struct_size;
  // `ZEPTO_ABI_VERSION`.
  uint32_t abi_version;
  // Addresses of members, `host:port`; one that answers is enough.
  const struct zepto_str *seeds;
  // How many.
  uint32_t seeds_len;
  // `ZEPTO_CLIENT_*`.
  uint32_t flags;
  // A name for the members' logs.
  struct zepto_str name;
  // File with the cluster secret, if the cluster has one.
  struct zepto_str secret_file;
  // Time to find a member that answers, ns; 0 is ten seconds.
  uint64_t connect_timeout_ns;
  // Zero.
  uint64_t reserved;
} zepto_client_options;

// How to open a producer. Zero it, and fill in what is needed.
typedef struct zepto_producer_options {
  // `sizeof` of this struct.
  uint32_t struct_size;
  // `ZEPTO_DURABILITY_*`.
  uint32_t durability;
  // `ZEPTO_PRODUCER_*`.
  uint32_t flags;
  // Ticks that may be on their way to each shard of a node, a power of two; 0 is the default.
  uint32_t window;
} zepto_producer_options;

// One market event. Its layout is that of the cluster's memory, and never changes.
typedef struct zepto_tick {
  // In an answer: its number in its partition. Ignored when it is sent.
  uint64_t sequence;
  // When it happened, ns since 1970, as the source says.
  uint64_t event_time_ns;
  // When the source received it, ns since 1970, or 0.
  uint64_t receive_time_ns;
  // Symbol id, of `zepto_symbol`.
  uint32_t symbol;
  // Table: the user's own namespace of symbols.
  uint16_t table;
  // `ZEPTO_KIND_*`, or 128 to 254 of the user's own.
  uint8_t kind;
  // The user's bits.
  uint8_t flags;
  // Price in units of 1e-9.
  int64_t price;
  // Size in units of 1e-9; 0 is valid.
  uint64_t size;
  // Two words of the user's.
  uint64_t user[2];
} zepto_tick;

// What became of all ticks: accepted = acknowledged + refused + in_flight + parked.
typedef struct zepto_account {
  // `sizeof` of this struct.
  uint32_t struct_size;
  // Why ticks wait, if they do: a `zepto_refusal_text` of it tells; 0 is nothing.
  uint32_t parked_for;
  // Taken by ingest.
  uint64_t accepted;
  // There, with the durability that was asked for.
  uint64_t acknowledged;
  // Not there, for good.
  uint64_t refused;
  // On their way. After a deadline: unknown, there or not.
  uint64_t in_flight;
  // Waiting in this process for an owner: not sent to the one they wait for.
  uint64_t parked;
  // Refused by reason.
  uint64_t refused_by[ZEPTO_REFUSALS];
} zepto_account;

// One member. Its texts are a part of the snapshot.
typedef struct zepto_member {
  // `sizeof` of this struct.
  uint32_t struct_size;
  // `ZEPTO_MEMBER_*`, or a number of a later version.
  uint32_t state;
  // Its number, which is never used twice.
  uint32_t node;
  // Its weight: 100 is ordinary.
  uint32_t weight;
  // Which life of it this is: grows with each start.
  uint64_t incarnation;
  // Its text id.
  struct zepto_str name;
  // Where it is reached, `host:port`.
  struct zepto_str address;
  // Its failure zone, or empty.
  struct zepto_str zone;
  // Partitions that it owns.
  uint32_t partitions;
  // Zero.
  uint32_t reserved;
} zepto_member;

// Where a series' ticks go.
typedef struct zepto_route {
  // `sizeof` of this struct.
  uint32_t struct_size;
  // Its partition.
  uint32_t partition;
  // The epoch of that: the index of the log's entry that last changed its owner or copies.
  uint64_t epoch;
  // The number of the node that owns it; 0 is nobody.
  uint32_t node;
  // 1 if the owner takes part, so that ticks can be sent to it.
  uint32_t online;
} zepto_route;

// Called when the cluster has changed, with the index of the log that it has changed to. It must
// not throw. Functions that are not [callback-safe] refuse to be called from it.
typedef void (*zepto_change_fn)(void *user, uint64_t index);

// Called once, after the last use of `user`.
typedef void (*zepto_drop_fn)(void *user);

// A question. Zero it, and fill in what is needed.
typedef struct zepto_query {
  // `sizeof` of this struct.
  uint32_t struct_size;
  // Table of the symbol.
  uint32_t table;
  // The symbol's name.
  struct zepto_str symbol;
  // First event time that is inside, ns since 1970.
  uint64_t from_ns;
  // First event time that is no longer inside; 0 is none: everything from `from_ns` on.
  uint64_t to_ns;
  // Bit k of word k / 64: ticks of kind k. All zero is trades.
  uint64_t kinds[4];
  // Time for the answer, ns; 0 is ten seconds.
  uint64_t timeout_ns;
  // Ticks or bars of one page; 0 is 65536.
  uint32_t limit;
  // Zero.
  uint32_t reserved;
} zepto_query;

// What some ticks come to. Prices in units of 1e-9.
typedef struct zepto_aggregate {
  // `sizeof` of this struct.
  uint32_t struct_size;
  // 1 if there is a vwap: there was volume, and the sums fit.
  uint32_t has_vwap;
  // Ticks.
  uint64_t count;
  // Volume-weighted average price, rounded down.
  int64_t vwap;
  // Price of the first tick, in order of event time and sequence.
  int64_t open;
  // Highest price.
  int64_t high;
  // Lowest price.
  int64_t low;
  // Price of the last tick.
  int64_t close;
  // Event time of the first tick, ns.
  uint64_t first_time_ns;
  // Event time of the last tick, ns.
  uint64_t last_time_ns;
  // Sum of sizes in units of 1e-9: 128 bits, the low half.
  uint64_t size_low;
  // The high half.
  uint64_t size_high;
  // Start of the interval, ns; 0 where it is none.
  uint64_t start_ns;
} zepto_aggregate;

// Called with new ticks, in the order in which their owner took them, as soon as they are
// readable: in as many nodes as the cluster declares copies. They are the library's, during the
// call. It must not throw. Functions that are not [callback-safe] refuse to be called from it.
typedef void (*zepto_ticks_fn)(void *user, const struct zepto_tick *ticks, size_t count);

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

// A type, as Arrow's C data interface has it.
typedef struct ArrowSchema {
  // What it is.
  const char *format;
  // Its name.
  const char *name;
  // NULL.
  const char *metadata;
  // 0: nothing is ever missing.
  int64_t flags;
  // Columns.
  int64_t n_children;
  // The columns.
  struct ArrowSchema **children;
  // NULL.
  struct ArrowSchema *dictionary;
  // Frees it; NULL when it is free.
  void (*release)(struct ArrowSchema*);
  // The library's.
  void *private_data;
} ArrowSchema;

// Values, as Arrow's C data interface has them.
typedef struct ArrowArray {
  // Rows.
  int64_t length;
  // 0.
  int64_t null_count;
  // 0.
  int64_t offset;
  // Buffers of this array: of a column two, validity, which is NULL, and values.
  int64_t n_buffers;
  // Columns.
  int64_t n_children;
  // The buffers.
  const void **buffers;
  // The columns.
  struct ArrowArray **children;
  // NULL.
  struct ArrowArray *dictionary;
  // Frees it; NULL when it is free.
  void (*release)(struct ArrowArray*);
  // The library's.
  void *private_data;
} ArrowArray;

#endif  // ARROW_C_DATA_INTERFACE

// Called with one line: its level, the part of the library that it is from, and its text; both
// are the library's, during the call. It must not throw. Functions that are not [callback-safe]
// refuse to be called from it, and what the others log meanwhile is dropped.
typedef void (*zepto_log_fn)(void *user,
                             uint32_t level,
                             struct zepto_str target,
                             struct zepto_str text);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface that this library has: major << 16 | minor.
// [any thread] [callback-safe]
ZEPTO_API uint32_t zepto_abi_version(void);

// The version of zepto, for people; ends with a zero, and is there for good.
// [any thread] [callback-safe]
ZEPTO_API const char *zepto_version_string(void);

// What it says, as long as it is not freed; nothing of NULL. [any thread] [callback-safe]
//
// It requires:
// `text` must be NULL or of this library, and not freed.
ZEPTO_API struct zepto_str zepto_text_str(const struct zepto_text *text);

// Frees it; NULL is fine. [any thread] [callback-safe]
//
// It requires:
// `text` must be NULL or of this library, and is not used any more.
ZEPTO_API void zepto_text_free(struct zepto_text *text);

// What went wrong, and what to do; as long as the error is not freed. [any thread] [callback-safe]
//
// It requires:
// `error` must be NULL or of this library, and not freed.
ZEPTO_API struct zepto_str zepto_error_message(const struct zepto_error *error);

// Its status; `ZEPTO_OK` of NULL. [any thread] [callback-safe]
//
// It requires:
// As for `zepto_error_message`.
ZEPTO_API zepto_status zepto_error_code(const struct zepto_error *error);

// Frees it; NULL is fine. [any thread] [callback-safe]
//
// It requires:
// `error` must be NULL or of this library, and is not used any more.
ZEPTO_API void zepto_error_free(struct zepto_error *error);

// Opens a client: finds a member that answers, and follows the cluster from then on. It blocks for
// `connect_timeout_ns` at most. [any thread] [not callback-safe]
//
// It requires:
// `options` and what it points to must be readable, `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_client_open(const struct zepto_client_options *options,
                               struct zepto_client **out,
                               struct zepto_error **error);

// Opens a client with a configuration, TOML: `seeds = ["host:port"]`, and where wanted `name`,
// `secret_file`, `shared_memory` and `connect_timeout_ms`. [any thread] [not callback-safe]
//
// It requires:
// `toml` must be readable, `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_client_open_toml(struct zepto_str toml,
                                    struct zepto_client **out,
                                    struct zepto_error **error);

// Has a node take a new version of one of its plugins into service: that of a file on the node's
// machine. `address` is the node's; `out`, which may be NULL, gets what was done.
// [any thread] [not callback-safe]
//
// It requires:
// `client` must be of this library, the texts readable, `out` NULL or writable, `error` NULL or
// writable.
ZEPTO_API
zepto_status zepto_plugin_load(const struct zepto_client *client,
                               struct zepto_str address,
                               struct zepto_str name,
                               struct zepto_str path,
                               uint64_t timeout_ns,
                               struct zepto_text **out,
                               struct zepto_error **error);

// Closes and frees it; NULL is fine. Producers of it go on until they are freed; the last handle
// waits for the library's threads to end. From within a callback it is refused, and nothing is
// freed. [any thread] [not callback-safe]
//
// It requires:
// `client` must be NULL or of this library, and is not used any more.
ZEPTO_API zepto_status zepto_client_free(struct zepto_client *client);

// What one member says of itself and the cluster, as a JSON object: that of
// `zepto-host status --json`. `address` is the member's, or empty for any. Free it with
// `zepto_text_free`. [any thread] [not callback-safe]
//
// It requires:
// `client` must be of this library, `address` readable, `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_status_json(const struct zepto_client *client,
                               struct zepto_str address,
                               uint64_t timeout_ns,
                               struct zepto_text **out,
                               struct zepto_error **error);

// Opens a producer; `options` may be NULL. It sends each tick to its owner: over shared memory on
// the same machine, over the network otherwise. [any thread] [not callback-safe]
//
// It requires:
// `client` must be of this library, `options` NULL or readable, `out` writable, `error` NULL or
// writable.
ZEPTO_API
zepto_status zepto_producer_open(const struct zepto_client *client,
                                 const struct zepto_producer_options *options,
                                 struct zepto_producer **out,
                                 struct zepto_error **error);

// The id of a symbol's name, issued now where it is new. What was taken goes its way meanwhile.
// [owner's thread] [not callback-safe]
//
// It requires:
// `producer` must be of this library, `name` readable, `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_symbol(struct zepto_producer *producer,
                          struct zepto_str name,
                          uint64_t timeout_ns,
                          uint32_t *out,
                          struct zepto_error **error);

// Takes a tick and returns at once: `ZEPTO_OK`, or `ZEPTO_E_BUSY` when there is no room just now,
// `ZEPTO_E_REFUSED` when nobody owns its partition, `ZEPTO_E_NOT_FOUND` when its symbol's id was
// never issued. Whatever is not OK was not taken. What was taken may wait here until the next
// `zepto_poll`, so call that often, and always when there is nothing to take.
// [owner's thread] [callback-safe]
//
// It requires:
// `producer` must be of this library, `tick` readable.
ZEPTO_API zepto_status zepto_ingest(struct zepto_producer *producer, const struct zepto_tick *tick);

// Takes a tick, and waits for room for so long: `ZEPTO_E_BUSY` when there was none.
// [owner's thread] [not callback-safe]
//
// It requires:
// As for `zepto_ingest`.
ZEPTO_API
zepto_status zepto_ingest_wait(struct zepto_producer *producer,
                               const struct zepto_tick *tick,
                               uint64_t timeout_ns);

// Takes `count` ticks, in order, as far as there is room, and sends them on their way. `taken`
// gets how many, which is all of them if the status is `ZEPTO_OK`; the status is about the first
// that was not taken. [owner's thread] [callback-safe]
//
// It requires:
// `producer` must be of this library, `ticks` readable for `count` ticks, `taken` NULL or
// writable.
ZEPTO_API
zepto_status zepto_ingest_batch(struct zepto_producer *producer,
                                const struct zepto_tick *ticks,
                                size_t count,
                                size_t *taken);

// Sends what was taken, and reads what owners said, without waiting: for when there is nothing to
// take. [owner's thread] [callback-safe]
//
// It requires:
// `producer` must be of this library.
ZEPTO_API zepto_status zepto_poll(struct zepto_producer *producer);

// Sends what was taken, and waits until all of it is acknowledged or refused: `ZEPTO_OK`, also
// when some were refused, which `account` tells; `ZEPTO_E_TIMEOUT` when the deadline passed
// before. `account` may be NULL. [owner's thread] [not callback-safe]
//
// It requires:
// `producer` must be of this library, `account` NULL or writable, its `struct_size` filled in.
ZEPTO_API
zepto_status zepto_flush(struct zepto_producer *producer,
                         uint64_t timeout_ns,
                         struct zepto_account *account);

// Lets it go: the next thread that uses it owns it. [owner's thread] [callback-safe]
//
// It requires:
// `producer` must be of this library.
ZEPTO_API zepto_status zepto_producer_detach(struct zepto_producer *producer);

// Takes nothing from now on. What is not acknowledged yet may be lost: flush before. It is freed
// later. [owner's thread] [callback-safe]
//
// It requires:
// `producer` must be of this library.
ZEPTO_API zepto_status zepto_producer_close(struct zepto_producer *producer);

// Frees it; NULL is fine. What is not acknowledged may be lost: flush before. Nobody may be using
// it. [any thread] [not callback-safe]
//
// It requires:
// `producer` must be NULL or of this library, and is not used any more.
ZEPTO_API zepto_status zepto_producer_free(struct zepto_producer *producer);

// What became of all ticks so far. [owner's thread] [callback-safe]
//
// It requires:
// `producer` must be of this library, `account` writable, its `struct_size` filled in.
ZEPTO_API
zepto_status zepto_account_get(struct zepto_producer *producer,
                               struct zepto_account *account);

// The ticket of the tick that was taken last: how many were taken by then, so they count up by
// one. 0 when nothing was taken, or the producer is not this thread's. [owner's thread]
// [callback-safe]
//
// It requires:
// `producer` must be of this library.
ZEPTO_API uint64_t zepto_last_ticket(struct zepto_producer *producer);

// What became of a tick, as of the last call that read what owners said: `ZEPTO_OK` when it is
// acknowledged; `ZEPTO_E_BUSY` when that is not known yet; `ZEPTO_E_REFUSED` when it is not there,
// and `reason`, which may be NULL, gets the number of why; `ZEPTO_E_NOT_FOUND` when it is too long
// ago, or tickets are not kept. [owner's thread] [callback-safe]
//
// It requires:
// `producer` must be of this library, `reason` NULL or writable.
ZEPTO_API
zepto_status zepto_outcome(struct zepto_producer *producer,
                           uint64_t ticket,
                           uint32_t *reason);

// A reason of a refusal, for people; "unknown" for one of a later version. There for good.
// [any thread] [callback-safe]
ZEPTO_API struct zepto_str zepto_refusal_text(uint32_t reason);

// The members as they are known now. [any thread] [callback-safe]
//
// It requires:
// `client` must be of this library, `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_members_get(const struct zepto_client *client,
                               struct zepto_members **out,
                               struct zepto_error **error);

// Waits until the cluster has changed beyond an index of the log, and gives the members then;
// `ZEPTO_E_TIMEOUT` when it has not. With index 0 it does not wait.
// [any thread] [not callback-safe]
//
// It requires:
// As for `zepto_members_get`.
ZEPTO_API
zepto_status zepto_members_wait(const struct zepto_client *client,
                                uint64_t after_index,
                                uint64_t timeout_ns,
                                struct zepto_members **out,
                                struct zepto_error **error);

// How many members there are; 0 of NULL. [any thread] [callback-safe]
//
// It requires:
// `members` must be NULL or of this library, and not freed.
ZEPTO_API size_t zepto_members_count(const struct zepto_members *members);

// The index of the log that this is of; 0 of NULL. [any thread] [callback-safe]
//
// It requires:
// As for `zepto_members_count`.
ZEPTO_API uint64_t zepto_members_index(const struct zepto_members *members);

// Fills in the `place`th member, from 0. [any thread] [callback-safe]
//
// It requires:
// `members` must be of this library, `out` writable, its `struct_size` filled in.
ZEPTO_API
zepto_status zepto_members_at(const struct zepto_members *members,
                              size_t place,
                              struct zepto_member *out);

// Where the ticks of a series go as of this snapshot. [any thread] [callback-safe]
//
// It requires:
// As for `zepto_members_at`.
ZEPTO_API
zepto_status zepto_members_route(const struct zepto_members *members,
                                 uint16_t table,
                                 uint32_t symbol,
                                 struct zepto_route *out);

// Frees it; NULL is fine. [any thread] [callback-safe]
//
// It requires:
// `members` must be NULL or of this library, and is not used any more.
ZEPTO_API void zepto_members_free(struct zepto_members *members);

// Has `changed` called whenever the cluster changes: from one of the library's threads, never two
// calls at once, and once soon after this. `user_drop`, which may be NULL, is called after the
// last call. On failure nothing is taken, and it is not called. [any thread] [not callback-safe]
//
// It requires:
// `client` must be of this library, `changed` callable with `user` from any thread, `out`
// writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_watch_open(const struct zepto_client *client,
                              zepto_change_fn changed,
                              void *user,
                              zepto_drop_fn user_drop,
                              struct zepto_watch **out,
                              struct zepto_error **error);

// Ends it, and frees it; NULL is fine. No call runs when it returns, and `user_drop` has been
// called. From within a callback it is refused, and nothing is freed.
// [any thread] [not callback-safe]
//
// It requires:
// `watch` must be NULL or of this library, and is not used any more.
ZEPTO_API zepto_status zepto_watch_free(struct zepto_watch *watch);

// Count, vwap, open, high, low, close and volume of a series' ticks; of none, all is zero.
// [any thread] [not callback-safe]
//
// It requires:
// `client` must be of this library, `query` readable, `out` writable with its `struct_size` filled
// in, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_aggregate_get(const struct zepto_client *client,
                                 const struct zepto_query *query,
                                 struct zepto_aggregate *out,
                                 struct zepto_error **error);

// The number of a series' ticks. [any thread] [not callback-safe]
//
// It requires:
// As for `zepto_aggregate_get`.
ZEPTO_API
zepto_status zepto_count(const struct zepto_client *client,
                         const struct zepto_query *query,
                         uint64_t *out,
                         struct zepto_error **error);

// The last tick of a series, in order of event time and sequence; `ZEPTO_E_NOT_FOUND` when there
// is none. [any thread] [not callback-safe]
//
// It requires:
// As for `zepto_aggregate_get`.
ZEPTO_API
zepto_status zepto_last(const struct zepto_client *client,
                        const struct zepto_query *query,
                        struct zepto_tick *out,
                        struct zepto_error **error);

// A series in bars of `interval_ns`. When there are more than a page has, `zepto_bars_next_ns`
// says where the next begins. [any thread] [not callback-safe]
//
// It requires:
// `client` must be of this library, `query` readable, `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_ohlcv(const struct zepto_client *client,
                         const struct zepto_query *query,
                         uint64_t interval_ns,
                         struct zepto_bars **out,
                         struct zepto_error **error);

// How many bars there are; 0 of NULL. [any thread] [callback-safe]
//
// It requires:
// `bars` must be NULL or of this library, and not freed.
ZEPTO_API size_t zepto_bars_count(const struct zepto_bars *bars);

// Where the next bar begins, to be asked for with that as `from_ns`; 0 when there are no more.
// [any thread] [callback-safe]
//
// It requires:
// As for `zepto_bars_count`.
ZEPTO_API uint64_t zepto_bars_next_ns(const struct zepto_bars *bars);

// Fills in the `place`th bar, from 0. [any thread] [callback-safe]
//
// It requires:
// `bars` must be of this library, `out` writable, its `struct_size` filled in.
ZEPTO_API
zepto_status zepto_bars_at(const struct zepto_bars *bars,
                           size_t place,
                           struct zepto_aggregate *out);

// Frees it; NULL is fine. [any thread] [callback-safe]
//
// It requires:
// `bars` must be NULL or of this library, and is not used any more.
ZEPTO_API void zepto_bars_free(struct zepto_bars *bars);

// The ticks of a series, of the kinds that the query says, or of every kind where it says none, a
// page of them: those after the last of `after`, or from the beginning when that is NULL. [any
// thread] [not callback-safe]
//
// It requires:
// As for `zepto_ohlcv`; `after` must be NULL or of this library.
ZEPTO_API
zepto_status zepto_range(const struct zepto_client *client,
                         const struct zepto_query *query,
                         const struct zepto_ticks *after,
                         struct zepto_ticks **out,
                         struct zepto_error **error);

// How many ticks there are; 0 of NULL. [any thread] [callback-safe]
//
// It requires:
// `ticks` must be NULL or of this library, and not freed.
ZEPTO_API size_t zepto_ticks_count(const struct zepto_ticks *ticks);

// The first of them, the others follow; NULL when there are none. [any thread] [callback-safe]
//
// It requires:
// As for `zepto_ticks_count`.
ZEPTO_API const struct zepto_tick *zepto_ticks_data(const struct zepto_ticks *ticks);

// 1 when there are more: ask again with these as `after`. [any thread] [callback-safe]
//
// It requires:
// As for `zepto_ticks_count`.
ZEPTO_API int32_t zepto_ticks_more(const struct zepto_ticks *ticks);

// Frees it; NULL is fine. [any thread] [callback-safe]
//
// It requires:
// `ticks` must be NULL or of this library, and is not used any more.
ZEPTO_API void zepto_ticks_free(struct zepto_ticks *ticks);

// Has `take` called with every tick of a series that comes from now on, of every kind: from one of
// the library's threads, never two calls at once. Of `query` only symbol, table, limit (most ticks
// of one call) and timeout count. A symbol that is new is issued now. Whoever takes slowly gets
// them later; what retention drops before is not given. After a loss of all copies it goes on with
// what comes then. `user_drop`, which may be NULL, is called after the last call. On failure
// nothing is taken, and it is not called. [any thread] [not callback-safe]
//
// It requires:
// `client` must be of this library, `query` readable, `take` callable with `user` from any thread,
// `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_subscribe(const struct zepto_client *client,
                             const struct zepto_query *query,
                             zepto_ticks_fn take,
                             void *user,
                             zepto_drop_fn user_drop,
                             struct zepto_subscription **out,
                             struct zepto_error **error);

// Ends it, and frees it; NULL is fine. No call runs when it returns, and `user_drop` has been
// called. From within a callback it is refused, and nothing is freed.
// [any thread] [not callback-safe]
//
// It requires:
// `subscription` must be NULL or of this library, and is not used any more.
ZEPTO_API zepto_status zepto_subscription_free(struct zepto_subscription *subscription);

// Gives ticks as Arrow columns: sequence, event_time and receive_time (timestamps, ns, UTC),
// symbol, table, kind, flags, price and size (in units of 1e-9), user0, user1. Whoever takes them
// calls their `release`, as Arrow says; the ticks themselves may be freed before. [any thread]
// [callback-safe]
//
// It requires:
// `ticks` must be of this library, `schema` and `array` writable; what was in them is not
// released.
ZEPTO_API
zepto_status zepto_ticks_to_arrow(const struct zepto_ticks *ticks,
                                  struct ArrowSchema *schema,
                                  struct ArrowArray *array);

// Has the log lines of everything in this library brought to `log`, from `ZEPTO_LOG_ERROR` to
// `level`; with NULL to nobody, as it is from the start. `log` is called from any thread that is
// in the library, several at a time, and holds that one up: it should only note. `user_drop`,
// which may be NULL, is called after the last call, once there is another function or none. On
// failure nothing changes, and it is not called. [any thread] [not callback-safe]
//
// It requires:
// `log` must be NULL or callable with `user` from several threads at the same time, `error` NULL
// or writable.
ZEPTO_API
zepto_status zepto_log(uint32_t level,
                       zepto_log_fn log,
                       void *user,
                       zepto_drop_fn user_drop,
                       struct zepto_error **error);

// Starts a node with a configuration as `zepto-host --config FILE` reads it, TOML; it joins the
// cluster of its seeds, or founds one. `node_id` and `data_dir` must be in it. It installs no
// signal handlers; its log lines go to `zepto_log`. [any thread] [not callback-safe]
//
// With `transport = 'ucx'` the process loads UCX, and keeps it until it ends. Signal handlers stay
// what they were. UCX's own log goes to stdout unless `UCX_LOG_FILE` names a file, `stderr` or
// another, it writes over `mmap` and its like unless `UCX_MEM_EVENTS` is `n`, and it waits up to
// two minutes for a peer behind a firewall that drops packets unless `UCX_TCP_CONN_NB` is `y`:
// variables that must be there when the program starts. Its sockets stay open in a program that
// this process runs (exec), and a forked child can have no node with it. `zepto-host status` shows
// what it does.
//
// It requires:
// `toml` must be readable, `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_node_open(struct zepto_str toml,
                             struct zepto_node **out,
                             struct zepto_error **error);

// As `zepto_node_open`, but the threads that append ticks are the program's: it calls
// `zepto_node_poll`, all the time. Whoever waits for this node's answers in the thread that polls
// waits in vain. [any thread] [not callback-safe]
//
// It requires:
// As for `zepto_node_open`.
ZEPTO_API
zepto_status zepto_node_open_polled(struct zepto_str toml,
                                    struct zepto_node **out,
                                    struct zepto_error **error);

// Where it is reached, `host:port`, as long as it is not freed; nothing of NULL.
// [any thread] [callback-safe]
//
// It requires:
// `node` must be NULL or of this library, and not freed.
ZEPTO_API struct zepto_str zepto_node_address(const struct zepto_node *node);

// Why it ended by itself, if it did: it was declared dead while it slept, or what it needs is
// gone. `ZEPTO_E_NOT_FOUND` as long as it has not. Free the text with `zepto_text_free`; open
// another node to go on. [any thread] [callback-safe]
//
// It requires:
// `node` must be of this library, `out` writable.
ZEPTO_API zepto_status zepto_node_failed(const struct zepto_node *node, struct zepto_text **out);

// Opens a client of the node's cluster. It is freed by itself. [any thread] [not callback-safe]
//
// It requires:
// `node` must be of this library, `out` writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_node_client(const struct zepto_node *node,
                               struct zepto_client **out,
                               struct zepto_error **error);

// Does a bounded piece of the work of a node that was opened to be polled, and returns: takes
// ticks, acknowledges, answers. `work`, which may be NULL, gets how much there was; with none, the
// thread may do something else, but not for long: a node that is not polled between two heartbeats
// sends none, and is declared dead by the others in the end.
// [one thread at a time] [not callback-safe]
//
// It requires:
// `node` must be of this library, `work` NULL or writable, `error` NULL or writable.
ZEPTO_API
zepto_status zepto_node_poll(struct zepto_node *node,
                             uint64_t *work,
                             struct zepto_error **error);

// Stops it: it takes nothing new, tells the cluster, and ends. It gives nothing away before:
// drain it for that. [any thread] [not callback-safe]
//
// It requires:
// `node` must be of this library, `error` NULL or writable.
ZEPTO_API zepto_status zepto_node_stop(struct zepto_node *node, struct zepto_error **error);

// Stops it if it runs, and frees it; NULL is fine. [any thread] [not callback-safe]
//
// It requires:
// `node` must be NULL or of this library, and is not used any more.
ZEPTO_API zepto_status zepto_node_free(struct zepto_node *node);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ZEPTO_H */

#if defined(__cplusplus)
#define ZEPTO_ASSERT_(c, m) static_assert(c, m)
#else
#define ZEPTO_ASSERT_(c, m) _Static_assert(c, m)
#endif
ZEPTO_ASSERT_(sizeof(void *) == 8, "libzepto is for 64 bits");
ZEPTO_ASSERT_(sizeof(zepto_str) == 16, "zepto_str");
ZEPTO_ASSERT_(sizeof(zepto_tick) == 64, "zepto_tick");
ZEPTO_ASSERT_(sizeof(zepto_client_options) == 72, "zepto_client_options of 1.0");
ZEPTO_ASSERT_(sizeof(zepto_producer_options) == 16, "zepto_producer_options of 1.0");
ZEPTO_ASSERT_(sizeof(zepto_account) == 240, "zepto_account of 1.0");
ZEPTO_ASSERT_(sizeof(zepto_query) == 88, "zepto_query of 1.0");
ZEPTO_ASSERT_(sizeof(zepto_aggregate) == 96, "zepto_aggregate of 1.0");
ZEPTO_ASSERT_(sizeof(zepto_member) == 80, "zepto_member of 1.0");
ZEPTO_ASSERT_(sizeof(zepto_route) == 24, "zepto_route of 1.0");
#undef ZEPTO_ASSERT_
