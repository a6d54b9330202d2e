/* Everything about the interface that does not need a cluster of several nodes: wrong arguments,
 * sizes of the past and the future, threads, callbacks, forks, handles that are closed.  It has a
 * node of its own, with the plugin of a file.
 *   abi DIRECTORY PLUGIN
 *   abi DIRECTORY cycles N */
#define _GNU_SOURCE
#include "layout.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define EXPECT(condition)                                                        \
  do {                                                                           \
    if (!(condition)) {                                                          \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
      exit(1);                                                                   \
    }                                                                            \
  } while (0)

static zepto_str str(const char *text) {
  zepto_str s = { text, strlen(text) };
  return s;
}

/* A status that is expected, with words where it is a failure. */
static void gives(zepto_status want, zepto_status got, zepto_error *error, int line) {
  zepto_str why = zepto_error_message(error);
  if (got != want || (want == ZEPTO_OK) != (error == NULL) || zepto_error_code(error) != got) {
    fprintf(stderr, "line %d: status %d, not %d: %.*s\n", line, (int)got, (int)want, (int)why.len,
            why.ptr ? why.ptr : "");
    exit(1);
  }
  EXPECT(want == ZEPTO_OK || why.len > 0);
  zepto_error_free(error);
}
#define GIVES(want, call)                   \
  do {                                      \
    zepto_error *error = (zepto_error *)1;  \
    zepto_status got = (call);              \
    gives(want, got, error, __LINE__);      \
  } while (0)

static zepto_node *node;
static zepto_client *client;

static void open_node(const char *directory, const char *plugin) {
  char toml[2048];
  int length = snprintf(toml, sizeof toml,
                        "node_id = 'abi'\nlisten = '127.0.0.1:0'\ndata_dir = '%s'\n"
                        "[cluster]\ncopies = 1\n",
                        directory);
  if (plugin != NULL)
    length += snprintf(toml + length, sizeof toml - (size_t)length,
                       "[[plugins]]\nname = 'steady'\nfile = '%s'\n", plugin);
  EXPECT(length < (int)sizeof toml);
  GIVES(ZEPTO_OK, zepto_node_open(str(toml), &node, &error));
  EXPECT(zepto_node_address(node).len > 0);
  GIVES(ZEPTO_OK, zepto_node_client(node, &client, &error));
}

static atomic_int lines, lines_dropped, lines_refused;

static void line(void *user, uint32_t level, zepto_str target, zepto_str text) {
  EXPECT(user == &lines && level >= ZEPTO_LOG_ERROR && level <= ZEPTO_LOG_DEBUG);
  EXPECT(target.len > 0 && text.len > 0);
  if (zepto_log(0, NULL, NULL, NULL, NULL) == ZEPTO_E_REENTRANT) lines_refused++;
  lines++;
}

static void line_dropped(void *user) {
  EXPECT(user == &lines);
  lines_dropped++;
}

static void lines_come_to_a_callback(void) {
  GIVES(ZEPTO_E_INVALID, zepto_log(0, line, &lines, line_dropped, &error));
  GIVES(ZEPTO_E_INVALID, zepto_log(5, line, &lines, line_dropped, &error));
  EXPECT(lines_dropped == 0);
  GIVES(ZEPTO_OK, zepto_log(ZEPTO_LOG_DEBUG, line, &lines, line_dropped, &error));
  GIVES(ZEPTO_OK, zepto_log(ZEPTO_LOG_INFO, line, &lines, line_dropped, &error));
  EXPECT(lines_dropped == 1);
}

static void lines_come_no_more(void) {
  EXPECT(lines > 0 && lines_refused == lines);
  GIVES(ZEPTO_OK, zepto_log(0, NULL, NULL, NULL, &error));
  /* A call that is under way is waited for by nobody. */
  for (int i = 0; i < 1000 && lines_dropped < 2; i++) usleep(1000);
  EXPECT(lines_dropped == 2);
}

/* Polls a node from a second thread until it is told off. */
static void *polls_too(void *polled) {
  for (;;)
    if (zepto_node_poll(polled, NULL, NULL) == ZEPTO_E_BAD_STATE) return NULL;
}

static void a_node_is_polled(const char *directory) {
  char toml[512];
  zepto_node *polled = NULL;
  zepto_client *own = NULL;
  zepto_producer *producer = NULL;
  zepto_account account = { .struct_size = sizeof account };
  zepto_tick tick = { .event_time_ns = 1, .kind = ZEPTO_KIND_TRADE, .price = 5, .size = 7 };
  zepto_producer_options memory = { .struct_size = sizeof memory,
                                    .durability = ZEPTO_DURABILITY_MEMORY,
                                    .flags = ZEPTO_PRODUCER_TICKETS };
  zepto_status status;
  uint64_t work = 0, rounds = 0;
  uint32_t reason = 0;
  pthread_t other;
  snprintf(toml, sizeof toml,
           "node_id = 'polled'\nlisten = '127.0.0.1:0'\ndata_dir = '%s-polled'\nshards = 2\n"
           "memory = '16MiB'\n[cluster]\ncopies = 1\n",
           directory);
  GIVES(ZEPTO_E_UNSUPPORTED, zepto_node_poll(node, &work, &error));
  GIVES(ZEPTO_E_INVALID, zepto_node_poll(NULL, &work, &error));
  GIVES(ZEPTO_E_INVALID, zepto_node_open_polled(str(toml), NULL, &error));
  GIVES(ZEPTO_OK, zepto_node_open_polled(str(toml), &polled, &error));
  GIVES(ZEPTO_OK, zepto_node_client(polled, &own, &error));
  GIVES(ZEPTO_OK, zepto_producer_open(own, &memory, &producer, &error));
  GIVES(ZEPTO_OK, zepto_symbol(producer, str("polled"), 5 * SECOND, &tick.symbol, &error));
  EXPECT(zepto_ingest_wait(producer, &tick, SECOND) == ZEPTO_OK);
  /* Nobody takes it before it is polled. */
  EXPECT(zepto_flush(producer, SECOND / 20, &account) == ZEPTO_E_TIMEOUT);
  EXPECT(account.accepted == 1 && account.acknowledged == 0);
  EXPECT(zepto_outcome(producer, 1, &reason) == ZEPTO_E_BUSY && reason == 0);
  while (account.acknowledged == 0) {
    GIVES(ZEPTO_OK, zepto_node_poll(polled, &work, &error));
    EXPECT(zepto_poll(producer) == ZEPTO_OK);
    EXPECT(zepto_account_get(producer, &account) == ZEPTO_OK);
    rounds++;
  }
  EXPECT(rounds > 0 && account.refused == 0);
  EXPECT(zepto_outcome(producer, 1, &reason) == ZEPTO_OK && reason == 0);
  /* Until its memory is full. */
  while (account.refused == 0) {
    while (zepto_ingest(producer, &tick) == ZEPTO_OK) continue;
    GIVES(ZEPTO_OK, zepto_node_poll(polled, NULL, &error));
    EXPECT(zepto_poll(producer) == ZEPTO_OK);
    EXPECT(zepto_account_get(producer, &account) == ZEPTO_OK);
    EXPECT(account.accepted < 1000000);
  }
  EXPECT(zepto_outcome(producer, account.acknowledged + 1, &reason) == ZEPTO_E_REFUSED);
  EXPECT(account.refused_by[reason] > 0 && zepto_refusal_text(reason).len > 0);
  EXPECT(pthread_create(&other, NULL, polls_too, polled) == 0);
  while (pthread_tryjoin_np(other, NULL) != 0) {
    status = zepto_node_poll(polled, NULL, NULL);
    EXPECT(status == ZEPTO_OK || status == ZEPTO_E_BAD_STATE);
  }
  zepto_producer_free(producer);
  EXPECT(zepto_client_free(own) == ZEPTO_OK);
  GIVES(ZEPTO_OK, zepto_node_stop(polled, &error));
  GIVES(ZEPTO_E_BAD_STATE, zepto_node_poll(polled, &work, &error));
  EXPECT(zepto_node_free(polled) == ZEPTO_OK);
}

static void a_plugin_is_loaded(const char *plugin) {
  zepto_str address = zepto_node_address(node);
  zepto_text *text = NULL;
  GIVES(ZEPTO_OK, zepto_plugin_load(client, address, str("steady"), str(plugin), 5 * SECOND, &text,
                                    &error));
  EXPECT(zepto_text_str(text).len > 0);
  zepto_text_free(text);
  GIVES(ZEPTO_E_INVALID, zepto_plugin_load(client, address, str("other"), str(plugin), SECOND, NULL,
                                           &error));
}

static zepto_client_options options_of(zepto_str *seed) {
  zepto_client_options options = { .struct_size = sizeof options, .abi_version = ZEPTO_ABI_VERSION };
  *seed = zepto_node_address(node);
  options.seeds = seed;
  options.seeds_len = 1;
  return options;
}

static void wrong_arguments(void) {
  zepto_client *other = (zepto_client *)1;
  zepto_str seed, bad = { "\xff", 1 }, nowhere = { NULL, 5 };
  zepto_client_options options = options_of(&seed);
  struct {
    zepto_client_options known;
    uint64_t future;
  } later = { options, 0 };

  EXPECT(zepto_abi_version() == ZEPTO_ABI_VERSION && strlen(zepto_version_string()) > 0);
  GIVES(ZEPTO_E_INVALID, zepto_client_open(NULL, &other, &error));
  EXPECT(other == NULL);
  GIVES(ZEPTO_E_INVALID, zepto_client_open(&options, NULL, &error));
  EXPECT(zepto_client_open(NULL, &other, NULL) == ZEPTO_E_INVALID);
  options.struct_size = 8;
  GIVES(ZEPTO_E_INVALID, zepto_client_open(&options, &other, &error));
  options.struct_size = 1u << 30;
  GIVES(ZEPTO_E_INVALID, zepto_client_open(&options, &other, &error));
  later.known.struct_size = sizeof later;
  GIVES(ZEPTO_OK, zepto_client_open(&later.known, &other, &error));
  EXPECT(zepto_client_free(other) == ZEPTO_OK);
  later.future = 1;
  GIVES(ZEPTO_E_UNSUPPORTED, zepto_client_open(&later.known, &other, &error));
  options = options_of(&seed);
  options.flags = 1u << 31;
  GIVES(ZEPTO_E_UNSUPPORTED, zepto_client_open(&options, &other, &error));
  options = options_of(&seed);
  options.abi_version = 2u << 16;
  GIVES(ZEPTO_E_VERSION, zepto_client_open(&options, &other, &error));
  options = options_of(&seed);
  options.seeds_len = 0;
  GIVES(ZEPTO_E_INVALID, zepto_client_open(&options, &other, &error));
  options = options_of(&seed);
  seed = bad;
  GIVES(ZEPTO_E_INVALID, zepto_client_open(&options, &other, &error));
  seed = nowhere;
  GIVES(ZEPTO_E_INVALID, zepto_client_open(&options, &other, &error));
  seed = str("127.0.0.1:1");
  options.connect_timeout_ns = SECOND / 5;
  GIVES(ZEPTO_E_IO, zepto_client_open(&options, &other, &error));
  options = options_of(&seed);
  options.secret_file = str("/nowhere");
  GIVES(ZEPTO_E_INVALID, zepto_client_open(&options, &other, &error));
  GIVES(ZEPTO_E_INVALID, zepto_client_open_toml(str("seeds = []"), &other, &error));
  GIVES(ZEPTO_E_INVALID, zepto_client_open_toml(str("seed = 'a:1'"), &other, &error));
  {
    char toml[128];
    zepto_str address = zepto_node_address(node);
    snprintf(toml, sizeof toml, "seeds = ['%.*s']\nname = 'toml'\nshared_memory = false",
             (int)address.len, address.ptr);
    GIVES(ZEPTO_OK, zepto_client_open_toml(str(toml), &other, &error));
    GIVES(ZEPTO_E_INVALID, zepto_plugin_load(other, address, str("none"), str("/nowhere.wasm"),
                                             5 * SECOND, NULL, &error));
    EXPECT(zepto_client_free(other) == ZEPTO_OK);
  }
  GIVES(ZEPTO_E_INVALID, zepto_node_open(str("lissten = 1"), &(zepto_node *){ 0 }, &error));
  GIVES(ZEPTO_E_INVALID, zepto_node_open(str(""), &(zepto_node *){ 0 }, &error));
}

static void nothing_is_fine(void) {
  uint64_t n;
  EXPECT(zepto_client_free(NULL) == ZEPTO_OK && zepto_producer_free(NULL) == ZEPTO_OK);
  EXPECT(zepto_node_free(NULL) == ZEPTO_OK && zepto_watch_free(NULL) == ZEPTO_OK);
  zepto_error_free(NULL);
  zepto_text_free(NULL);
  zepto_members_free(NULL);
  zepto_bars_free(NULL);
  zepto_ticks_free(NULL);
  EXPECT(zepto_members_count(NULL) == 0 && zepto_members_index(NULL) == 0);
  EXPECT(zepto_bars_count(NULL) == 0 && zepto_bars_next_ns(NULL) == 0);
  EXPECT(zepto_ticks_count(NULL) == 0 && !zepto_ticks_data(NULL) && !zepto_ticks_more(NULL));
  EXPECT(zepto_text_str(NULL).len == 0 && zepto_node_address(NULL).len == 0);
  EXPECT(zepto_ingest(NULL, NULL) == ZEPTO_E_INVALID && zepto_poll(NULL) == ZEPTO_E_INVALID);
  EXPECT(zepto_ingest_wait(NULL, NULL, 0) == ZEPTO_E_INVALID);
  EXPECT(zepto_ingest_batch(NULL, NULL, 0, NULL) == ZEPTO_E_INVALID);
  EXPECT(zepto_flush(NULL, 0, NULL) == ZEPTO_E_INVALID);
  EXPECT(zepto_account_get(NULL, NULL) == ZEPTO_E_INVALID && zepto_last_ticket(NULL) == 0);
  EXPECT(zepto_outcome(NULL, 1, NULL) == ZEPTO_E_INVALID);
  EXPECT(zepto_producer_detach(NULL) == ZEPTO_E_INVALID);
  EXPECT(zepto_producer_close(NULL) == ZEPTO_E_INVALID);
  EXPECT(zepto_members_at(NULL, 0, NULL) == ZEPTO_E_INVALID);
  EXPECT(zepto_members_route(NULL, 0, 0, NULL) == ZEPTO_E_INVALID);
  EXPECT(zepto_bars_at(NULL, 0, NULL) == ZEPTO_E_INVALID);
  GIVES(ZEPTO_E_INVALID, zepto_count(NULL, NULL, &n, &error));
  GIVES(ZEPTO_E_INVALID, zepto_count(client, NULL, &n, &error));
  GIVES(ZEPTO_E_INVALID, zepto_symbol(NULL, str("a"), 0, NULL, &error));
  GIVES(ZEPTO_E_INVALID, zepto_status_json(NULL, str(""), 0, NULL, &error));
  GIVES(ZEPTO_E_INVALID, zepto_node_stop(NULL, &error));
  EXPECT(zepto_node_failed(NULL, &(zepto_text *){ 0 }) == ZEPTO_E_INVALID);
  EXPECT(zepto_node_failed(node, &(zepto_text *){ 0 }) == ZEPTO_E_NOT_FOUND);
}

static zepto_producer *producer_of(uint32_t flags) {
  zepto_producer_options options = { .struct_size = sizeof options, .flags = flags };
  zepto_producer *producer = NULL;
  GIVES(ZEPTO_OK, zepto_producer_open(client, &options, &producer, &error));
  return producer;
}

static zepto_tick tick_of(uint32_t symbol, uint64_t i) {
  zepto_tick tick = { .event_time_ns = 1723075200 * SECOND + i,
                      .symbol = symbol,
                      .kind = i % 2 ? ZEPTO_KIND_BID : ZEPTO_KIND_TRADE,
                      .price = (int64_t)(i * 1000),
                      .size = SECOND,
                      .user = { i, ~i } };
  return tick;
}

/* The columns of a page are its rows; one column may be moved away and outlive the others. */
static void as_arrow(const zepto_ticks *page, uint32_t symbol) {
  struct ArrowSchema schema;
  struct ArrowArray array, prices;
  const size_t count = zepto_ticks_count(page);
  const zepto_tick *rows = zepto_ticks_data(page);
  EXPECT(zepto_ticks_to_arrow(NULL, &schema, &array) == ZEPTO_E_INVALID);
  EXPECT(zepto_ticks_to_arrow(page, NULL, &array) == ZEPTO_E_INVALID);
  EXPECT(zepto_ticks_to_arrow(page, &schema, &array) == ZEPTO_OK);
  EXPECT(strcmp(schema.format, "+s") == 0 && schema.n_children == 11 && array.n_children == 11);
  EXPECT(array.length == (int64_t)count && array.n_buffers == 1 && array.buffers[0] == NULL);
  for (int64_t i = 0; i < array.n_children; i++) {
    EXPECT(array.children[i]->length == array.length && array.children[i]->n_buffers == 2);
    EXPECT(array.children[i]->null_count == 0 && strlen(schema.children[i]->name) > 0);
  }
  EXPECT(strcmp(schema.children[1]->name, "event_time") == 0);
  EXPECT(strcmp(schema.children[1]->format, "tsn:UTC") == 0);
  EXPECT(strcmp(schema.children[7]->name, "price") == 0);
  prices = *array.children[7];
  array.children[7]->release = NULL;
  for (size_t i = 0; i < count; i++) {
    EXPECT(((const uint64_t *)array.children[0]->buffers[1])[i] == rows[i].sequence);
    EXPECT(((const uint64_t *)array.children[1]->buffers[1])[i] == rows[i].event_time_ns);
    EXPECT(((const uint32_t *)array.children[3]->buffers[1])[i] == symbol);
    EXPECT(((const uint8_t *)array.children[5]->buffers[1])[i] == rows[i].kind);
    EXPECT(((const uint64_t *)array.children[10]->buffers[1])[i] == rows[i].user[1]);
  }
  array.release(&array);
  schema.release(&schema);
  EXPECT(array.release == NULL && schema.release == NULL);
  for (size_t i = 0; i < count; i++)
    EXPECT(((const int64_t *)prices.buffers[1])[i] == rows[i].price);
  prices.release(&prices);
}

static void ticks_there_and_back(void) {
  enum { COUNT = 10000, BATCH = 256 };
  zepto_producer *producer = producer_of(ZEPTO_PRODUCER_TICKETS);
  zepto_producer_options wrong = { .struct_size = sizeof wrong, .window = 100 };
  zepto_producer *none;
  zepto_account account = { .struct_size = sizeof account };
  zepto_query query = { .struct_size = sizeof query, .symbol = str("abi:ONE"), .limit = 3000 };
  zepto_aggregate all = { .struct_size = sizeof all };
  zepto_tick tick, batch[BATCH], last;
  zepto_ticks *page = NULL, *next = NULL;
  zepto_bars *bars = NULL;
  zepto_text *text = NULL;
  uint64_t count = 0, seen = 0;
  uint32_t symbol = 0, reason = 7;
  size_t taken = 0;

  GIVES(ZEPTO_E_INVALID, zepto_producer_open(client, &wrong, &none, &error));
  wrong.window = 0;
  wrong.durability = 9;
  GIVES(ZEPTO_E_INVALID, zepto_producer_open(client, &wrong, &none, &error));
  tick = tick_of(4000000000u, 0);
  EXPECT(zepto_ingest(producer, &tick) == ZEPTO_E_NOT_FOUND);
  GIVES(ZEPTO_OK, zepto_symbol(producer, str("abi:ONE"), 10 * SECOND, &symbol, &error));
  tick = tick_of(symbol, 0);
  tick.kind = 255;
  EXPECT(zepto_ingest(producer, &tick) == ZEPTO_E_INVALID);
  EXPECT(zepto_last_ticket(producer) == 0 && zepto_ingest(producer, NULL) == ZEPTO_E_INVALID);

  for (uint64_t i = 0; i < COUNT; i += BATCH) {
    uint64_t n = COUNT - i < BATCH ? COUNT - i : BATCH;
    for (uint64_t k = 0; k < n; k++) batch[k] = tick_of(symbol, i + k);
    for (size_t done = 0; done < n; done += taken) {
      zepto_status status = zepto_ingest_batch(producer, batch + done, n - done, &taken);
      EXPECT(status == ZEPTO_OK || status == ZEPTO_E_BUSY);
      if (status == ZEPTO_E_BUSY) zepto_poll(producer);
    }
  }
  EXPECT(zepto_last_ticket(producer) == COUNT);
  EXPECT(zepto_flush(producer, 10 * SECOND, &account) == ZEPTO_OK);
  EXPECT(account.accepted == COUNT && account.acknowledged == COUNT && account.refused == 0);
  EXPECT(account.struct_size == sizeof account);
  EXPECT(zepto_outcome(producer, 1, &reason) == ZEPTO_OK && reason == 0);
  EXPECT(zepto_outcome(producer, COUNT, NULL) == ZEPTO_OK);
  EXPECT(zepto_outcome(producer, COUNT + 1, NULL) == ZEPTO_E_NOT_FOUND);
  EXPECT(zepto_refusal_text(9).len > 0 && zepto_refusal_text(99999).len > 0);
  /* What one producer asked for, all know of. */
  {
    zepto_producer *before = producer_of(0);
    uint32_t fresh = 0;
    GIVES(ZEPTO_OK, zepto_symbol(producer, str("abi:FRESH"), 10 * SECOND, &fresh, &error));
    tick = tick_of(fresh, 0);
    EXPECT(zepto_ingest(before, &tick) == ZEPTO_OK && zepto_flush(before, SECOND, NULL) == ZEPTO_OK);
    EXPECT(zepto_producer_free(before) == ZEPTO_OK);
  }

  GIVES(ZEPTO_OK, zepto_count(client, &query, &count, &error));
  EXPECT(count == COUNT / 2);
  query.kinds[0] = 1u << ZEPTO_KIND_TRADE | 1u << ZEPTO_KIND_BID;
  GIVES(ZEPTO_OK, zepto_aggregate_get(client, &query, &all, &error));
  EXPECT(all.count == COUNT && all.has_vwap && all.open == 0 && all.close == (COUNT - 1) * 1000);
  EXPECT(all.vwap == (COUNT - 1) * 500 && all.size_low == COUNT * SECOND && all.size_high == 0);
  GIVES(ZEPTO_OK, zepto_last(client, &query, &last, &error));
  EXPECT(last.user[0] == COUNT - 1 && last.user[1] == ~(uint64_t)(COUNT - 1));
  do {
    GIVES(ZEPTO_OK, zepto_range(client, &query, page, &next, &error));
    for (size_t i = 0; i < zepto_ticks_count(next); i++) {
      zepto_tick want = tick_of(symbol, seen++), got = zepto_ticks_data(next)[i];
      want.sequence = got.sequence;
      EXPECT(memcmp(&want, &got, sizeof got) == 0);
    }
    zepto_ticks_free(page);
    page = next;
  } while (zepto_ticks_more(page));
  EXPECT(seen == COUNT);
  GIVES(ZEPTO_E_NOT_FOUND, zepto_range(client, &query, page, &next, &error));
  as_arrow(page, symbol);
  zepto_ticks_free(page);
  GIVES(ZEPTO_OK, zepto_ohlcv(client, &query, 1000, &bars, &error));
  EXPECT(zepto_bars_count(bars) == 10 && zepto_bars_next_ns(bars) == 0);
  GIVES(ZEPTO_E_INVALID, zepto_ohlcv(client, &query, 0, &(zepto_bars *){ 0 }, &error));
  EXPECT(zepto_bars_at(bars, 10, &all) == ZEPTO_E_NOT_FOUND);
  EXPECT(zepto_bars_at(bars, 9, &all) == ZEPTO_OK && all.count == 1000);
  all.struct_size = 4;
  EXPECT(zepto_bars_at(bars, 9, &all) == ZEPTO_E_INVALID);
  zepto_bars_free(bars);
  query.reserved = 1;
  GIVES(ZEPTO_E_UNSUPPORTED, zepto_count(client, &query, &count, &error));
  query.reserved = 0;
  query.limit = 4;
  GIVES(ZEPTO_OK, zepto_ohlcv(client, &query, 1000, &bars, &error));
  EXPECT(zepto_bars_count(bars) == 4 && zepto_bars_next_ns(bars) == 1723075200 * SECOND + 4000);
  zepto_bars_free(bars);
  {
    struct {
      zepto_route known;
      uint64_t future;
    } later = { { .struct_size = sizeof later }, ~0ull };
    zepto_members *members = NULL;
    GIVES(ZEPTO_OK, zepto_members_get(client, &members, &error));
    EXPECT(zepto_members_route(members, 0, symbol, &later.known) == ZEPTO_OK);
    EXPECT(later.known.struct_size == sizeof later.known && later.future == 0);
    zepto_members_free(members);
  }
  query.symbol = str("abi:NONE");
  GIVES(ZEPTO_E_NOT_FOUND, zepto_last(client, &query, &last, &error));
  GIVES(ZEPTO_OK, zepto_status_json(client, str(""), 5 * SECOND, &text, &error));
  EXPECT(zepto_text_str(text).len > 100 && zepto_text_str(text).ptr[0] == '{');
  zepto_text_free(text);

  EXPECT(zepto_producer_close(producer) == ZEPTO_OK);
  tick = tick_of(symbol, 0);
  EXPECT(zepto_ingest(producer, &tick) == ZEPTO_E_BAD_STATE);
  EXPECT(zepto_flush(producer, 0, NULL) == ZEPTO_E_BAD_STATE);
  EXPECT(zepto_producer_free(producer) == ZEPTO_OK);
}

static void members_and_routes(void) {
  zepto_members *members = NULL;
  zepto_member member = { .struct_size = sizeof member };
  zepto_route route = { .struct_size = sizeof route };
  GIVES(ZEPTO_OK, zepto_members_get(client, &members, &error));
  EXPECT(zepto_members_count(members) == 1 && zepto_members_index(members) > 0);
  EXPECT(zepto_members_at(members, 0, &member) == ZEPTO_OK);
  EXPECT(member.name.len == 3 && memcmp(member.name.ptr, "abi", 3) == 0);
  EXPECT(member.state == ZEPTO_MEMBER_ACTIVE && member.partitions > 0);
  EXPECT(zepto_members_at(members, 1, &member) == ZEPTO_E_NOT_FOUND);
  EXPECT(zepto_members_route(members, 0, 0, &route) == ZEPTO_OK);
  EXPECT(route.node == member.node && route.online && route.epoch > 0);
  zepto_members_free(members);
  GIVES(ZEPTO_E_TIMEOUT,
        zepto_members_wait(client, UINT64_MAX, SECOND / 10, &members, &error));
}

/* Threads: one owns a producer; the others are told so, until it lets go. */

static zepto_producer *shared;
static zepto_tick shared_tick;

static void *use_it(void *unused) {
  (void)unused;
  return (void *)(intptr_t)zepto_ingest(shared, &shared_tick);
}

static zepto_status from_another_thread(void) {
  pthread_t thread;
  void *status;
  EXPECT(pthread_create(&thread, NULL, use_it, NULL) == 0 && pthread_join(thread, &status) == 0);
  return (zepto_status)(intptr_t)status;
}

static void one_thread_owns_a_producer(void) {
  uint32_t symbol = 0;
  shared = producer_of(0);
  GIVES(ZEPTO_OK, zepto_symbol(shared, str("abi:ONE"), 10 * SECOND, &symbol, &error));
  shared_tick = tick_of(symbol, 0);
  EXPECT(zepto_ingest(shared, &shared_tick) == ZEPTO_OK);
  EXPECT(from_another_thread() == ZEPTO_E_BAD_STATE);
  EXPECT(zepto_producer_detach(shared) == ZEPTO_OK);
  EXPECT(from_another_thread() == ZEPTO_OK);
  EXPECT(zepto_ingest(shared, &shared_tick) == ZEPTO_E_BAD_STATE);
  EXPECT(zepto_flush(shared, SECOND, NULL) == ZEPTO_E_BAD_STATE);
  EXPECT(zepto_producer_free(shared) == ZEPTO_OK);
}

/* Callbacks: what would wait for itself is refused. */

static struct {
  pthread_mutex_t lock;
  int calls, drops;
  zepto_watch *watch;
  zepto_status frees[3];
} told = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void changed(void *user, uint64_t index);
static void changed(void *user, uint64_t index) {
  zepto_query query = { .struct_size = sizeof query, .symbol = str("abi:ONE") };
  zepto_members *members = NULL;
  uint64_t count;
  EXPECT(user == &told && index > 0);
  GIVES(ZEPTO_OK, zepto_members_get(client, &members, &error));
  zepto_members_free(members);
  GIVES(ZEPTO_E_REENTRANT, zepto_count(client, &query, &count, &error));
  GIVES(ZEPTO_E_REENTRANT, zepto_node_stop(node, &error));
  GIVES(ZEPTO_E_REENTRANT, zepto_node_client(node, &(zepto_client *){ 0 }, &error));
  GIVES(ZEPTO_E_REENTRANT, zepto_producer_open(client, NULL, &(zepto_producer *){ 0 }, &error));
  GIVES(ZEPTO_E_REENTRANT,
        zepto_watch_open(client, changed, &told, NULL, &(zepto_watch *){ 0 }, &error));
  GIVES(ZEPTO_E_REENTRANT, zepto_members_wait(client, 0, 0, &members, &error));
  GIVES(ZEPTO_E_REENTRANT, zepto_status_json(client, str(""), 0, &(zepto_text *){ 0 }, &error));
  pthread_mutex_lock(&told.lock);
  told.frees[0] = zepto_client_free(client);
  told.frees[1] = told.watch ? zepto_watch_free(told.watch) : ZEPTO_E_REENTRANT;
  told.frees[2] = zepto_node_free(node);
  told.calls++;
  pthread_mutex_unlock(&told.lock);
}

static void dropped(void *user) {
  EXPECT(user == &told);
  told.drops++;
}

static int calls(void) {
  int calls;
  pthread_mutex_lock(&told.lock);
  calls = told.calls;
  pthread_mutex_unlock(&told.lock);
  return calls;
}

static void callbacks_cannot_wait_for_themselves(void) {
  zepto_watch *watch = NULL;
  GIVES(ZEPTO_E_INVALID, zepto_watch_open(client, NULL, NULL, dropped, &watch, &error));
  EXPECT(told.drops == 0);
  GIVES(ZEPTO_OK, zepto_watch_open(client, changed, &told, dropped, &watch, &error));
  pthread_mutex_lock(&told.lock);
  told.watch = watch;
  pthread_mutex_unlock(&told.lock);
  for (int i = 0; i < 1000 && calls() == 0; i++) usleep(10000);
  EXPECT(calls() > 0);
  for (int i = 0; i < 3; i++) EXPECT(told.frees[i] == ZEPTO_E_REENTRANT);
  EXPECT(zepto_watch_free(watch) == ZEPTO_OK && told.drops == 1);
}

/* New ticks of a symbol come to a callback, each once and in order, and no others. */

static struct {
  pthread_mutex_t lock;
  uint64_t seen;
  int drops;
} taken_by = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void take(void *user, const zepto_tick *ticks, size_t count) {
  EXPECT(user == &taken_by && count > 0);
  pthread_mutex_lock(&taken_by.lock);
  for (size_t i = 0; i < count; i++) EXPECT(ticks[i].user[0] == 1000 + taken_by.seen++);
  pthread_mutex_unlock(&taken_by.lock);
}

static void drop_taker(void *user) {
  EXPECT(user == &taken_by);
  taken_by.drops++;
}

static uint64_t taken_so_far(void) {
  uint64_t seen;
  pthread_mutex_lock(&taken_by.lock);
  seen = taken_by.seen;
  pthread_mutex_unlock(&taken_by.lock);
  return seen;
}

static void new_ticks_come_to_a_callback(void) {
  enum { OLD = 1000, NEW = 50000 };
  zepto_producer *producer = producer_of(0);
  zepto_query query = { .struct_size = sizeof query, .symbol = str("abi:NEW") };
  zepto_subscription *subscription = NULL;
  uint32_t symbol = 0, other = 0;

  GIVES(ZEPTO_OK, zepto_symbol(producer, str("abi:NEW"), 10 * SECOND, &symbol, &error));
  GIVES(ZEPTO_OK, zepto_symbol(producer, str("abi:OTHER"), 10 * SECOND, &other, &error));
  for (uint64_t i = 0; i < OLD + NEW; i++) {
    zepto_tick tick = tick_of(symbol, i), noise = tick_of(other, i);
    if (i == OLD) {
      EXPECT(zepto_flush(producer, 10 * SECOND, NULL) == ZEPTO_OK);
      GIVES(ZEPTO_E_INVALID,
            zepto_subscribe(client, &query, NULL, NULL, drop_taker, &subscription, &error));
      GIVES(ZEPTO_OK, zepto_subscribe(client, &query, take, &taken_by, drop_taker, &subscription,
                                      &error));
    }
    /* In any order of time. */
    tick.event_time_ns -= i % 7 * SECOND;
    EXPECT(zepto_ingest_wait(producer, &tick, 10 * SECOND) == ZEPTO_OK);
    EXPECT(zepto_ingest_wait(producer, &noise, 10 * SECOND) == ZEPTO_OK);
  }
  EXPECT(zepto_flush(producer, 10 * SECOND, NULL) == ZEPTO_OK);
  for (int i = 0; i < 1000 && taken_so_far() < NEW; i++) usleep(10000);
  EXPECT(taken_so_far() == NEW && taken_by.drops == 0);
  EXPECT(zepto_subscription_free(subscription) == ZEPTO_OK && taken_by.drops == 1);
  EXPECT(zepto_subscription_free(NULL) == ZEPTO_OK);
  EXPECT(zepto_producer_free(producer) == ZEPTO_OK);
}

static void nothing(void *user, uint64_t index) {
  (void)user;
  (void)index;
}

static void a_child_gets_a_status(void) {
  zepto_producer *producer = producer_of(0);
  zepto_watch *watch = NULL;
  int status;
  GIVES(ZEPTO_OK, zepto_watch_open(client, nothing, NULL, NULL, &watch, &error));
  pid_t child = fork();
  EXPECT(child >= 0);
  if (child == 0) {
    zepto_query query = { .struct_size = sizeof query, .symbol = str("abi:ONE") };
    uint64_t count;
    zepto_tick tick = tick_of(0, 0);
    if (zepto_count(client, &query, &count, NULL) != ZEPTO_E_BAD_STATE) _exit(2);
    if (zepto_ingest(producer, &tick) != ZEPTO_E_BAD_STATE) _exit(3);
    if (zepto_node_stop(node, NULL) != ZEPTO_E_BAD_STATE) _exit(4);
    if (zepto_producer_free(producer) != ZEPTO_OK || zepto_client_free(client) != ZEPTO_OK) _exit(5);
    if (zepto_node_free(node) != ZEPTO_OK) _exit(6);
    if (zepto_watch_free(watch) != ZEPTO_OK) _exit(7);
    _exit(0);
  }
  EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT(zepto_watch_free(watch) == ZEPTO_OK);
  EXPECT(zepto_producer_free(producer) == ZEPTO_OK);
}

/* What the program had set is as it was. */
static void handler(int signal) { (void)signal; }

static void signals_are_the_programs(const struct sigaction *before) {
  for (int signal = 1; signal < 32; signal++) {
    struct sigaction now;
    if (sigaction(signal, NULL, &now) != 0) continue;
    EXPECT(now.sa_handler == before[signal].sa_handler);
  }
}

static long resident_kib(void) {
  char line[256];
  long kib = -1;
  FILE *status = fopen("/proc/self/status", "r");
  EXPECT(status != NULL);
  while (fgets(line, sizeof line, status))
    if (sscanf(line, "VmRSS: %ld", &kib) == 1) break;
  fclose(status);
  return kib;
}

static void cycles(long count) {
  long after_half = 0;
  uint32_t symbol = 0;
  for (long i = 0; i < count; i++) {
    /* Small lanes: some are still open when the memory is looked at. */
    zepto_producer_options options_of_it = { .struct_size = sizeof options_of_it, .window = 64 };
    zepto_producer *producer = NULL;
    zepto_members *members = NULL;
    zepto_error *error = NULL;
    EXPECT(zepto_producer_open(client, &options_of_it, &producer, &error) == ZEPTO_OK);
    EXPECT(zepto_members_get(client, &members, &error) == ZEPTO_OK);
    zepto_members_free(members);
    if (i % 10 == 0) {
      /* With a lane, and a watch. */
      zepto_watch *watch = NULL;
      zepto_tick tick;
      EXPECT(zepto_symbol(producer, str("abi:ONE"), 10 * SECOND, &symbol, &error) == ZEPTO_OK);
      tick = tick_of(symbol, 0);
      EXPECT(zepto_ingest_wait(producer, &tick, 10 * SECOND) == ZEPTO_OK);
      EXPECT(zepto_flush(producer, 10 * SECOND, NULL) == ZEPTO_OK);
      EXPECT(zepto_watch_open(client, nothing, NULL, NULL, &watch, &error) == ZEPTO_OK);
      EXPECT(zepto_watch_free(watch) == ZEPTO_OK);
    }
    EXPECT(zepto_producer_free(producer) == ZEPTO_OK);
    if (i % 10 == 0) {
      zepto_str seed;
      zepto_client_options options = options_of(&seed);
      zepto_client *other = NULL;
      EXPECT(zepto_client_open(&options, &other, &error) == ZEPTO_OK);
      EXPECT(zepto_client_free(other) == ZEPTO_OK);
    }
    if (i == count / 2) after_half = resident_kib();
  }
  printf("%ld cycles: %ld KiB after half of them, %ld KiB after all\n", count, after_half,
         resident_kib());
  EXPECT(resident_kib() < after_half + 8192);
}

int main(int argc, char **argv) {
  struct sigaction before[32];
  signal(SIGUSR1, handler);
  signal(SIGSEGV, handler);
  for (int i = 1; i < 32; i++) sigaction(i, NULL, &before[i]);
  lines_come_to_a_callback();
  const int is_cycles = argc == 4 && strcmp(argv[2], "cycles") == 0;
  EXPECT(is_cycles || argc == 3);
  open_node(argv[1], is_cycles ? NULL : argv[2]);
  lines_come_no_more();
  if (is_cycles) {
    cycles(strtol(argv[3], NULL, 10));
  } else {
    a_plugin_is_loaded(argv[2]);
    wrong_arguments();
    nothing_is_fine();
    ticks_there_and_back();
    members_and_routes();
    one_thread_owns_a_producer();
    callbacks_cannot_wait_for_themselves();
    new_ticks_come_to_a_callback();
    a_child_gets_a_status();
    a_node_is_polled(argv[1]);
  }
  signals_are_the_programs(before);
  EXPECT(zepto_client_free(client) == ZEPTO_OK);
  GIVES(ZEPTO_OK, zepto_node_stop(node, &error));
  GIVES(ZEPTO_E_BAD_STATE, zepto_node_stop(node, &error));
  EXPECT(zepto_node_free(node) == ZEPTO_OK);
  printf("all is as the header says\n");
  return 0;
}
