/* A migration strategy that never returns from its first timer: benches/misbehaving.sh puts it
 * beside ticks. */
#include "zepto_plugin.h"

ZP_PLUGIN(1u << ZP_KIND_MIGRATION, 0, 0, 1, 1, "endless", "0.1.0", "zepto");

static zp_ctx ctx;
static volatile uint32_t turns;

int64_t zp_plugin_open_v1(zp_ctx c, const void *m, uint32_t n) ZP_NOEXCEPT {
  (void)m; (void)n;
  ctx = c;
  return 1;
}

int32_t zp_plugin_event_v1(int64_t h, const void *m, uint32_t n) ZP_NOEXCEPT {
  const zp_event *e = zp_event_of(m, n);
  (void)h;
  if (!e) return ZP_E_INVALID;
  switch (e->h.kind) {
    case ZP_EV_START: return zp_timer(ctx, 1, 1000000, 0);
    case ZP_EV_TIMER: for (;;) turns++;
    default: return ZP_E_UNSUPPORTED;
  }
}

int32_t zp_plugin_close_v1(int64_t h) ZP_NOEXCEPT { (void)h; return ZP_OK; }
