/* What the benches call: WAKE does nothing, START tells of 2 nodes, DISC_RESYNC of 10,000. */
#include "zepto_plugin.h"

ZP_PLUGIN(1u << ZP_KIND_DISCOVERY, 0, 0, 1, 1, "bench", "0.1.0", "zepto");

enum { MANY = 10000 };

static zp_ctx ctx;
static uint64_t revision;
static uint64_t buffer[(sizeof(zp_nodes) + MANY * (sizeof(zp_node) + 16)) / 8 + 1];

static int32_t tell(uint32_t count) {
  zp_nodes_writer w;
  char id[6] = "n00000";
  zp_nodes_begin(&w, buffer, sizeof buffer, ++revision, count);
  for (uint32_t i = 0; i < count; i++) {
    zp_text text = { id, 6 };
    uint32_t rest = i;
    for (int at = 5; at > 0; at--, rest /= 10) id[at] = (char)('0' + rest % 10);
    zp_nodes_add(&w, text, zp_text_of("10.0.0.1"), 9000);
  }
  return zp_nodes_emit(&w, ctx);
}

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
    case ZP_EV_WAKE: return ZP_OK;
    case ZP_EV_START: return tell(2);
    case ZP_EV_DISC_RESYNC: return tell(MANY);
    default: return ZP_E_UNSUPPORTED;
  }
}

int32_t zp_plugin_close_v1(int64_t h) ZP_NOEXCEPT { (void)h; return ZP_OK; }
