/* Sends ticks into a running cluster, waits until they are there, and asks for them again.
 *   feed HOST:PORT [SYMBOL] [COUNT] */
#include "zepto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static zepto_str str(const char *text) {
  zepto_str s = { text, strlen(text) };
  return s;
}

/* Says what went wrong, and ends the program if something did. */
static void check(zepto_status status, zepto_error *error, const char *what) {
  if (status == ZEPTO_OK) return;
  zepto_str why = zepto_error_message(error);
  fprintf(stderr, "feed: %s: %.*s (%d)\n", what, (int)why.len, why.ptr ? why.ptr : "", (int)status);
  zepto_error_free(error);
  exit(1);
}

int main(int argc, char **argv) {
  const uint64_t second = 1000000000u;
  const char *seed = argc > 1 ? argv[1] : "127.0.0.1:9000";
  const char *name = argc > 2 ? argv[2] : "demo:ONE";
  const long count = argc > 3 ? strtol(argv[3], NULL, 10) : 100000;
  const zepto_str seeds[] = { str(seed) };
  zepto_client_options options = { .struct_size = sizeof options, .abi_version = ZEPTO_ABI_VERSION };
  zepto_error *error = NULL;
  zepto_client *client = NULL;
  zepto_producer *producer = NULL;
  uint32_t symbol = 0;

  options.seeds = seeds;
  options.seeds_len = 1;
  options.name = str("feed.c");
  check(zepto_client_open(&options, &client, &error), error, "open");
  check(zepto_producer_open(client, NULL, &producer, &error), error, "producer");
  check(zepto_symbol(producer, str(name), 10 * second, &symbol, &error), error, "symbol");

  for (long i = 0; i < count; i++) {
    zepto_tick tick = { .event_time_ns = 1723075200 * second + (uint64_t)i * 1000,
                        .symbol = symbol,
                        .kind = ZEPTO_KIND_TRADE,
                        .price = (100 + i % 10) * (int64_t)second,
                        .size = second,
                        .user = { (uint64_t)i, 0 } };
    check(zepto_ingest_wait(producer, &tick, 10 * second), NULL, "ingest");
  }
  zepto_account account = { .struct_size = sizeof account };
  check(zepto_flush(producer, 10 * second, &account), NULL, "flush");
  printf("accepted %llu, acknowledged %llu, refused %llu\n", (unsigned long long)account.accepted,
         (unsigned long long)account.acknowledged, (unsigned long long)account.refused);

  zepto_query query = { .struct_size = sizeof query, .symbol = str(name) };
  zepto_aggregate all = { .struct_size = sizeof all };
  check(zepto_aggregate_get(client, &query, &all, &error), error, "aggregate");
  printf("%s: %llu trades, vwap %.9f\n", name, (unsigned long long)all.count,
         (double)all.vwap / 1e9);

  zepto_producer_free(producer);
  zepto_client_free(client);
  return 0;
}
