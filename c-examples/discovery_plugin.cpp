// Discovery from a list in the plugin's configuration: "a=10.0.0.1:9000 b=10.0.0.2:9000", as a JSON
// string. Built natively, or with clang++ -fno-exceptions -fno-rtti for wasm32.
#include "zepto_plugin.h"

ZP_PLUGIN(1u << ZP_KIND_DISCOVERY, 0, 0, 1, 1, "cpp-list", "1.0", "me");

namespace {

class text {
 public:
  text(const char *p, uint32_t n) : p_(p), n_(n) {}

  // What stands before a character; it is taken off, together with the character.
  zp_text cut(char at) {
    zp_text head = { p_, 0 };
    while (head.n < n_ && p_[head.n] != at) head.n++;
    const uint32_t taken = head.n < n_ ? head.n + 1 : head.n;
    p_ += taken;
    n_ -= taken;
    return head;
  }
  bool empty() const { return n_ == 0; }

 private:
  const char *p_;
  uint32_t n_;
};

uint16_t port_of(zp_text digits) {
  uint32_t port = 0;
  for (uint32_t i = 0; i < digits.n; i++) {
    if (digits.p[i] < '0' || digits.p[i] > '9' || port > 6553) return 0;
    port = port * 10 + static_cast<uint32_t>(digits.p[i] - '0');
  }
  return port <= 65535 ? static_cast<uint16_t>(port) : 0;
}

// One instance: a plugin of another name in the same node has variables of its own.
class list {
 public:
  void open(zp_ctx ctx, zp_text json) {
    ctx_ = ctx;
    length_ = 0;
    // A JSON string without anything that must be escaped.
    for (uint32_t i = 1; i + 1 < json.n && length_ < sizeof list_; i++) list_[length_++] = json.p[i];
  }

  int32_t tell() {
    zp_nodes_writer writer;
    zp_nodes_begin(&writer, buffer_, sizeof buffer_, ++revision_, 16);
    for (text rest(list_, length_); !rest.empty();) {
      const zp_text entry = rest.cut(' ');
      text parts(entry.p, entry.n);
      const zp_text id = parts.cut('='), host = parts.cut(':'), port = parts.cut(' ');
      zp_nodes_add(&writer, id, host, port_of(port));
    }
    return zp_nodes_emit(&writer, ctx_);
  }

  int32_t reply(uint64_t token) { return zp_reply(ctx_, token, ZP_OK, nullptr, 0); }

 private:
  zp_ctx ctx_ = 0;
  uint64_t revision_ = 0, buffer_[512] = {};
  char list_[1024] = {};
  uint32_t length_ = 0;
};

list instance;

}  // namespace

int64_t zp_plugin_open_v1(zp_ctx ctx, const void *message, uint32_t len) ZP_NOEXCEPT {
  const zp_open *open = zp_open_of(message, len);
  if (!open) return ZP_E_INVALID;
  instance.open(ctx, zp_span_of(&open->h, open->config));
  return 1;
}

int32_t zp_plugin_event_v1(int64_t, const void *message, uint32_t len) ZP_NOEXCEPT {
  const zp_event *event = zp_event_of(message, len);
  if (!event) return ZP_E_INVALID;
  switch (event->h.kind) {
    case ZP_EV_STOP:
    case ZP_EV_HEALTH: return instance.reply(event->token);
    case ZP_EV_START:
    case ZP_EV_DISC_RESYNC: return instance.tell();
    default: return ZP_E_UNSUPPORTED;
  }
}

int32_t zp_plugin_close_v1(int64_t) ZP_NOEXCEPT { return ZP_OK; }
