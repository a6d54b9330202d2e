/* Discovery that always says the same two nodes: the smallest plugin there is.  plugins/README.md says
 * how it is built natively and for wasm32, and what the rules are. */
#include "zepto_plugin.h"

/* kinds; capabilities it needs, and uses if granted; version of its state, oldest it imports */
ZP_PLUGIN(1u << ZP_KIND_DISCOVERY, 0, 0, 1, 1, "c-two-nodes", "1.0", "me");

static zp_ctx ctx;
static uint64_t revision, buffer[512];

int64_t zp_plugin_open_v1(zp_ctx c, const void *message, uint32_t len) ZP_NOEXCEPT {
  (void)message; (void)len;
  ctx = c;
  return 1; /* a handle of ours, or a negative status */
}

int32_t zp_plugin_event_v1(int64_t handle, const void *message, uint32_t len) ZP_NOEXCEPT {
  const zp_event *event = zp_event_of(message, len);
  zp_nodes_writer nodes;
  (void)handle;
  if (!event) return ZP_E_INVALID;
  switch (event->h.kind) {
    case ZP_EV_STOP:
    case ZP_EV_HEALTH: return zp_reply(ctx, event->token, ZP_OK, 0, 0);
    case ZP_EV_START:
    case ZP_EV_DISC_RESYNC:
      zp_nodes_begin(&nodes, buffer, sizeof buffer, ++revision, 2);
      zp_nodes_add(&nodes, zp_text_of("a"), zp_text_of("127.0.0.1"), 9000);
      zp_nodes_add(&nodes, zp_text_of("b"), zp_text_of("127.0.0.1"), 9001);
      return zp_nodes_emit(&nodes, ctx);
    default: return ZP_E_UNSUPPORTED;
  }
}

int32_t zp_plugin_close_v1(int64_t handle) ZP_NOEXCEPT { (void)handle; return ZP_OK; }
