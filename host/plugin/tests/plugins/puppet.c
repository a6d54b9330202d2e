/* A plugin that does what its events say, good or bad: the tests pull the strings.  One source,
 * both targets.  Kind 0x900 + n calls the host's function number n (the order of the header) with
 * the arguments in the body and returns its status; kinds from 0xA00 on misbehave.  What a function
 * gives out is told with zp_set_error, so that a test can read it. */
#if !defined(__wasm__)
#include <pthread.h>
#include <unistd.h>
#endif
#include "zepto_plugin.h"

/* Variants: NODES it tells of at its start, SICK says that it is not well, TRAPS at its start,
 * EAGER tells of nodes before it is started, OTHER_KINDS is for something else. */
#ifndef NODES
#define NODES 2
#endif
#ifdef OTHER_KINDS
#define KINDS 1u << ZP_KIND_SNAPSHOT
#else
#define KINDS 1u << ZP_KIND_DISCOVERY | 1u << ZP_KIND_MIGRATION | 1u << ZP_KIND_SNAPSHOT
#endif

ZP_PLUGIN(KINDS, 0,
          ZP_CAP_RANDOM | ZP_CAP_HTTP | ZP_CAP_UDP | ZP_CAP_KV | ZP_CAP_METRIC, 3, 2, "puppet",
          "0.1.0", "zepto tests");

typedef struct arguments {
  uint64_t a, b, c;
  uint32_t first, second; /* lengths of the two byte strings behind this */
} arguments;

static zp_ctx ctx;
static uint64_t revision, handled, buffer[1024];
static uint64_t out_word;
static uint32_t out_len;
static char out[4096];
static volatile uint32_t sink;
static int busy, heard;

static int32_t publish(uint32_t count) {
  zp_nodes_writer w;
  char id[3] = "n0";
  zp_nodes_begin(&w, buffer, sizeof buffer, ++revision, count);
  for (uint32_t i = 0; i < count; i++) {
    id[1] = (char)('0' + i);
    zp_nodes_add(&w, zp_text_of(id), zp_text_of("10.0.0.1"), 9000);
  }
  return zp_nodes_emit(&w, ctx);
}

int64_t zp_plugin_open_v1(zp_ctx c, const void *m, uint32_t n) ZP_NOEXCEPT {
  const zp_open *o = (const zp_open *)m;
  zp_text config;
  if (n < sizeof(zp_open) || o->h.kind != ZP_MSG_OPEN) return ZP_E_INVALID;
  ctx = c;
  config = zp_span_text(m, n, o->config);
  if (config.n >= 6 && config.p[1] == 'f' && config.p[2] == 'a' && config.p[3] == 'i') {
    zp_set_error(ctx, ZP_E_INVALID, "the configuration says fail", 27);
    return ZP_E_INVALID;
  }
  if (config.n >= 6 && config.p[1] == 'l' && config.p[2] == 'o' && config.p[3] == 'o')
    for (;;) sink++;
  return 1;
}

static int32_t tell(int32_t status, const void *p, uint32_t n) {
  if (status == ZP_OK) zp_set_error(ctx, ZP_OK, p, n);
  return status;
}

static int32_t call_host(uint32_t number, const arguments *x, uint32_t n) {
  const char *p = (const char *)(x + 1);
  const char *q = p + x->first;
  int32_t status;
  if (n < sizeof *x || x->first > n || x->second > n) return ZP_E_INVALID;
  switch (number) {
    case 0: return zp_log(ctx, (uint32_t)x->a, p, x->first);
    case 1: return zp_set_error(ctx, (int32_t)x->a, p, x->first);
    case 2:
      status = zp_info(ctx, (uint32_t)x->a, out, (uint32_t)x->b, &out_len);
      return tell(status, out, out_len);
    case 3: return zp_clock(ctx, (uint32_t)x->a, &out_word);
    case 4: return zp_random(ctx, out, (uint32_t)x->a);
    case 5: return zp_timer(ctx, x->a, x->b, x->c);
    case 6: return zp_cancel(ctx, x->a);
    case 7: return zp_emit(ctx, p, x->first);
    case 8: return zp_reply(ctx, x->a, (int32_t)x->b, p, x->first);
    case 9: return zp_http(ctx, p, x->first, &out_word);
    case 10: return zp_udp_bind(ctx, p, x->first, &out_word);
    case 11: return zp_udp_send(ctx, x->a == 0 ? out_word : x->a, p, x->first, q, x->second);
    case 12:
      status = zp_kv_get(ctx, p, x->first, out, (uint32_t)x->b, &out_len);
      return tell(status, out, out_len);
    case 13: return zp_kv_put(ctx, p, x->first, q, x->second);
    case 14: return zp_kv_del(ctx, p, x->first);
    case 15: return zp_metric(ctx, (uint32_t)x->a, p, x->first, (int64_t)x->b);
    case 16: return zp_wake(ctx);
    default: return ZP_E_UNSUPPORTED;
  }
}

static uint32_t recurse(uint32_t depth) {
  volatile uint32_t frame[64];
  frame[0] = depth;
  sink = frame[0];
  return recurse(depth + 1) + frame[0];
}

#if !ZP_WASM
static int32_t thread_status;
static void *call_from_a_thread(void *unused) {
  (void)unused;
  thread_status = zp_log(ctx, ZP_LOG_INFO, "from a thread", 13);
  zp_wake(ctx); /* the only one that is allowed */
  return 0;
}
#endif

static int32_t misbehave(uint32_t kind, const arguments *x) {
  int32_t status = ZP_OK;
  switch (kind) {
    case 0xA00: for (;;) sink++;
    case 0xA01: __builtin_trap();
    case 0xA02: return (int32_t)recurse(0);
    case 0xA03: /* an address that is not its own */
      return zp_emit(ctx, (const void *)(uintptr_t)x->a, (uint32_t)x->b);
    case 0xA04: return zp_clock(ctx, ZP_CLOCK_MONO, (uint64_t *)(uintptr_t)x->a);
    case 0xA05: return zp_log(ctx + 1, ZP_LOG_INFO, "x", 1); /* another instance's handle */
    case 0xA06: /* as often as it says, until it is refused */
      for (uint64_t i = 0; i < x->a && status == ZP_OK; i++)
        status = zp_log(ctx, ZP_LOG_DEBUG, "flood", 5);
      return status;
    case 0xA07:
      for (uint64_t i = 0; i < x->a && status == ZP_OK; i++) {
        char name[4] = { 'm', (char)('a' + i % 26), (char)('a' + i / 26 % 26), (char)('a' + i / 676) };
        status = zp_metric(ctx, ZP_METRIC_COUNTER, name, 4, 1);
      }
      return status;
    case 0xA08:
      for (uint64_t i = 1; i <= x->a && status == ZP_OK; i++) status = zp_timer(ctx, i, 1000000000, 0);
      return status;
    case 0xA09:
      for (uint64_t i = 0; i < x->a && status == ZP_OK; i++) status = publish(2);
      return status;
#if ZP_WASM
    case 0xA0A:
      for (;;)
        if (__builtin_wasm_memory_grow(0, 16) == (__SIZE_TYPE__)-1) return ZP_E_NO_MEMORY;
    case 0xA0B: return *(volatile int32_t *)(uintptr_t)0xfffffff0u;
#endif
#if !ZP_WASM
    case 0xA0D: for (;;) pause(); /* hangs, without a core of its own */
    case 0xA0E: {
      pthread_t thread;
      if (pthread_create(&thread, 0, call_from_a_thread, 0) != 0) return ZP_E_IO;
      pthread_join(thread, 0);
      return thread_status;
    }
#endif
    case 0xA0F: /* as a panic that was caught */
      zp_set_error(ctx, ZP_OK, "out of wits", 11);
      return ZP_E_PANIC;
    case 0xA10: /* always busy with its timers */
      busy = 1;
      for (uint64_t i = 1; i <= 64 && status == ZP_OK; i++) status = zp_timer(ctx, i, 1, 0);
      return status;
    case 0xA0C: return (int32_t)(100 / (sink * 0 + (uint32_t)x->a));
    default: return ZP_E_UNSUPPORTED;
  }
}

int32_t zp_plugin_event_v1(int64_t inst, const void *p, uint32_t n) ZP_NOEXCEPT {
  const zp_event *e = zp_event_of(p, n);
  zp_text body;
  const arguments *x;
  if (!e || inst != 1) return ZP_E_INVALID;
  handled++;
  body = zp_span_text(p, n, e->body);
  x = (const arguments *)(const void *)body.p;
  if (e->h.kind >= 0xA00) return misbehave(e->h.kind, x);
  if (e->h.kind >= 0x900) return call_host(e->h.kind - 0x900, x, body.n);
  switch (e->h.kind) {
    case ZP_EV_START:
#ifdef TRAPS
      __builtin_trap();
#endif
      return publish(NODES);
    case ZP_EV_DISC_RESYNC: return publish(3);
    case ZP_EV_TIMER:
      if (heard) zp_set_error(ctx, ZP_OK, "heard", 5);
      return busy ? zp_timer(ctx, e->token, 1, 0) : ZP_OK;
    case ZP_EV_WAKE: return tell(ZP_OK, "woken", 5);
    case ZP_EV_EXPORT_STATE: return zp_reply(ctx, e->token, ZP_OK, &handled, sizeof handled);
    case ZP_EV_IMPORT_STATE:
      if (body.n != sizeof handled) return zp_reply(ctx, e->token, ZP_E_VERSION, 0, 0);
      handled = *(const uint64_t *)(const void *)body.p;
#ifdef EAGER
      publish(NODES);
      revision = 0;
#endif
      return zp_reply(ctx, e->token, ZP_OK, 0, 0);
    case ZP_EV_STOP: return zp_reply(ctx, e->token, ZP_OK, 0, 0);
    case ZP_EV_HEALTH:
#ifdef SICK
      zp_set_error(ctx, ZP_E_INTERNAL, "sick", 4);
      return zp_reply(ctx, e->token, ZP_E_INTERNAL, 0, 0);
#else
      return zp_reply(ctx, e->token, ZP_OK, &handled, sizeof handled);
#endif
    case ZP_EV_SNAP_RESTORE: return ZP_OK; /* and never replies */
    case ZP_EV_SNAP_BEGIN: /* a second reply to one question */
      zp_reply(ctx, e->token, ZP_OK, "first", 5);
      return zp_reply(ctx, e->token, ZP_OK, "second", 6);
    case ZP_EV_HTTP: return tell(ZP_OK, body.p, body.n < 1024 ? body.n : 1024);
    case ZP_EV_UDP:
      heard = 1;
      return tell(ZP_OK, body.p, body.n < 1024 ? body.n : 1024);
    default: return ZP_E_UNSUPPORTED;
  }
}

int32_t zp_plugin_close_v1(int64_t inst) ZP_NOEXCEPT {
  (void)inst;
  zp_log(ctx, ZP_LOG_DEBUG, "closing", 7);
  return zp_timer(ctx, 1, 1, 0); /* not allowed any more */
}
