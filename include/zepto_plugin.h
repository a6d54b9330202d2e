/* zepto_plugin.h - the one header of zepto's plugins, native (.so) and WebAssembly (.wasm).
 * ABI 1.0.  C11 and C++17.  Needs <stddef.h> and <stdint.h> only, and no libc on wasm.
 *
 * A plugin is one file that defines zp_plugin_open_v1, zp_plugin_event_v1, zp_plugin_close_v1 and
 * says ZP_PLUGIN(...) once.  The host opens it, then delivers events; the plugin answers with
 * zp_emit (new members) and zp_reply (an answer that an event asks for).  At the end of this file
 * are helpers that write and read messages; plugins/README.md has a whole plugin in 30 lines.
 *
 * Rules that never change inside major 1:
 *  R1 Every message is ONE flat little-endian buffer, 8-aligned.  Inside a buffer there are no
 *     pointers: only zp_span/zp_list = offsets from the buffer's first byte.  A message inside a
 *     message (the body of an event) counts from its own first byte.
 *  R2 Only these C types cross the boundary as arguments: int32/uint32/int64/uint64 and
 *     (pointer,uint32 length) pairs.  The callee copies before it returns; nobody frees the
 *     other side's memory.
 *  R3 Every host function returns int32_t: ZP_OK or a negative zp_status.  A function the host
 *     does not have behaves as if it returned ZP_E_UNSUPPORTED (on BOTH targets).
 *  R4 The host calls one instance from one thread at a time, never re-entrantly.  A plugin may
 *     call the host only while the host is calling it (exception: zp_wake, any thread, native).
 *  R5 A handler never blocks.  Long work = zp_timer/zp_http/zp_udp + a later event.
 *  R6 Append only: new functions at the end of ZP_HOST_FNS, new fields at the end of a struct,
 *     new enum values at the end.  Nothing released is renamed, reordered, resized or re-meant.
 */
#ifndef ZEPTO_PLUGIN_H
#define ZEPTO_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define ZP_ABI_MAJOR 1
#define ZP_ABI_MINOR 0
/* Lowest host minor this plugin must be able to load on; the header hides anything newer. */
#ifndef ZP_TARGET_MINOR
#define ZP_TARGET_MINOR ZP_ABI_MINOR
#endif
#if ZP_TARGET_MINOR > ZP_ABI_MINOR
#error "ZP_TARGET_MINOR is newer than this header"
#endif

#if defined(__wasm__)
#define ZP_WASM 1
#define ZP_IMPORT(fn) __attribute__((import_module("zepto_host_v1"), import_name(#fn)))
#define ZP_EXPORT(fn) __attribute__((export_name(#fn), used, visibility("default")))
#elif defined(_WIN32)
#define ZP_WASM 0
#define ZP_EXPORT(fn) __declspec(dllexport)
#else
#define ZP_WASM 0
#define ZP_EXPORT(fn) __attribute__((visibility("default"), used))
#endif

#ifdef __cplusplus
#define ZP_STATIC_ASSERT(c, m) static_assert(c, m)
#define ZP_NOEXCEPT noexcept
extern "C" {
#else
#define ZP_STATIC_ASSERT(c, m) _Static_assert(c, m)
#define ZP_NOEXCEPT
#endif

/* ------------------------------------------------------------------ scalars, status, enums */
typedef uint64_t zp_ctx;   /* the host's handle of one instance, never 0 */
/* Tokens of the host (requests, sockets, replies) have the top bit set; ids of timers are the
 * plugin's own and have it clear, so that zp_cancel takes both. */
#define ZP_TOKEN_BIT (1ull << 63)
typedef int32_t zp_status; /* one of these */
enum {
  ZP_OK = 0,
  ZP_E_INVALID = -1,      /* bad argument, malformed message */
  ZP_E_UNSUPPORTED = -2,  /* function / event / flag unknown to the other side */
  ZP_E_DENIED = -3,       /* capability not granted */
  ZP_E_NOT_FOUND = -4,
  ZP_E_TOO_BIG = -5,      /* over a limit, or buffer too small (needed size was written) */
  ZP_E_NO_MEMORY = -6,
  ZP_E_BUSY = -7,         /* queue or rate limit; retry after a timer */
  ZP_E_TIMEOUT = -8,
  ZP_E_CANCELED = -9,
  ZP_E_BAD_STATE = -10,   /* e.g. host called outside a handler, re-entrancy */
  ZP_E_BAD_HANDLE = -11,  /* stale or foreign ctx / token / socket */
  ZP_E_BAD_ADDRESS = -12, /* pointer range outside linear memory (wasm) or NULL (native) */
  ZP_E_IO = -13,
  ZP_E_INTERNAL = -14,
  ZP_E_PANIC = -15,       /* caught panic / exception at the boundary */
  ZP_E_VERSION = -16,
  ZP_E_CONFLICT = -17     /* stale revision/epoch */
};
enum { ZP_LOG_TRACE, ZP_LOG_DEBUG, ZP_LOG_INFO, ZP_LOG_WARN, ZP_LOG_ERROR };
enum { ZP_CLOCK_MONO = 1, ZP_CLOCK_WALL = 2 };

/* plugin kinds: bit numbers in zp_plugin_info.kinds */
enum { ZP_KIND_DISCOVERY = 0, ZP_KIND_MIGRATION = 1, ZP_KIND_SNAPSHOT = 2 };

/* capabilities: bits in zp_plugin_info.caps/optional_caps and zp_open.granted_caps.
 * log, clock, timer, cancel, emit, reply, set_error, info and wake need no grant. */
#define ZP_CAP_RANDOM (1ull << 0)
#define ZP_CAP_HTTP   (1ull << 1)
#define ZP_CAP_UDP    (1ull << 2)
#define ZP_CAP_KV     (1ull << 3)
#define ZP_CAP_METRIC (1ull << 4)

/* states of a node; a discovery plugin may leave 0 */
enum { ZP_NODE_UNKNOWN, ZP_NODE_JOINING, ZP_NODE_ACTIVE, ZP_NODE_SUSPECT, ZP_NODE_LEAVING,
       ZP_NODE_DEAD };
/* zp_nodes.mode */
enum { ZP_NODES_FULL = 0, ZP_NODES_DELTA = 1 };
/* zp_http_req.flags and zp_http_resp.flags */
enum { ZP_HTTP_STREAM = 1 }; /* parts arrive as several ZP_EV_HTTP, such as a Kubernetes watch */
enum { ZP_HTTP_FIRST = 1, ZP_HTTP_LAST = 2, ZP_HTTP_TRUNCATED = 4 };
/* zp_partition.flags, zp_plan_req.reason */
enum { ZP_PARTITION_PINNED = 1, ZP_PARTITION_COPYING = 2 };
enum { ZP_REASON_ASKED = 1, ZP_REASON_JOINED = 2, ZP_REASON_LEAVING = 3, ZP_REASON_LOAD = 4 };
/* what zp_info tells */
enum { ZP_INFO_FEATURES = 1, ZP_INFO_NODE_ID = 2, ZP_INFO_LAST_ERROR = 3 };
/* zp_metric types */
enum { ZP_METRIC_COUNTER = 1, ZP_METRIC_GAUGE = 2 };

/* ------------------------------------------------------------------ flat message pieces */
typedef struct zp_span { uint32_t off, len; } zp_span;              /* len 0 => absent, off ignored */
typedef struct zp_list { uint32_t off, count, stride, reserved; } zp_list; /* element i at off+i*stride */
typedef struct zp_kv { zp_span key, val; } zp_kv;
typedef struct zp_msg {
  uint32_t struct_size; /* fixed part as the SENDER knows it; receiver zero-extends or ignores tail */
  uint32_t total_size;  /* whole buffer, <= length passed alongside */
  uint32_t kind;        /* ZP_MSG_* or ZP_EV_* */
  uint32_t flags;       /* 0 in 1.0; unknown bits => ZP_E_UNSUPPORTED */
} zp_msg;

enum { /* message kinds that are not events */
  ZP_MSG_OPEN = 1, ZP_MSG_NODES = 2, ZP_MSG_PLAN = 3, ZP_MSG_HTTP_REQ = 4, ZP_MSG_BYTES = 5
};
enum { /* events.  Host never sends a kind newer than the plugin's abi_minor. */
  ZP_EV_START = 0x100,        /* begin work: after open, and again after STOP when the host goes back
                                 to this instance from a newer one that failed */
  ZP_EV_STOP = 0x101,         /* timers, requests and sockets are gone after this; reply when done */
  ZP_EV_CONFIG = 0x102,       /* body = new config JSON; reply ZP_OK to accept, error = keep old */
  ZP_EV_EXPORT_STATE = 0x103, /* reply with bytes (<= state limit) */
  ZP_EV_IMPORT_STATE = 0x104, /* body = what the instance before exported, status = its
                                 state_version; reply ZP_OK, or an error to begin without */
  ZP_EV_HEALTH = 0x105,       /* reply ZP_OK = healthy (canary / liveness probe) */
  ZP_EV_TIMER = 0x110,        /* token = timer id */
  ZP_EV_HTTP = 0x111,         /* token = request; body = zp_http_resp (may be a stream part) */
  ZP_EV_UDP = 0x112,          /* token = socket; body = zp_udp_dgram, or status = why it is gone */
  ZP_EV_WAKE = 0x113,
  ZP_EV_DISC_RESYNC = 0x120,  /* host wants a full ZP_MSG_NODES snapshot soon */
  ZP_EV_MIG_PLAN = 0x130,     /* body = zp_plan_req; reply with ZP_MSG_PLAN */
  ZP_EV_MIG_RESULT = 0x131,   /* a move finished: token = partition, status */
  ZP_EV_SNAP_BEGIN = 0x140,   /* body = zp_snap; reply ZP_OK / error = veto (if policy allows veto) */
  ZP_EV_SNAP_COMMIT = 0x141,  /* notification */
  ZP_EV_SNAP_ABORT = 0x142,   /* notification, status = why */
  ZP_EV_SNAP_RESTORE = 0x143  /* before a restore; reply ZP_OK / veto */
};

typedef struct zp_event {
  zp_msg h;
  uint64_t seq;         /* 1,2,3… per instance: gaps never happen, replayable */
  uint64_t token;
  uint64_t mono_ns;     /* clocks travel WITH the event: handlers are deterministic */
  uint64_t wall_ns;
  uint64_t deadline_ns; /* monotonic; return before it */
  int32_t status;
  uint32_t needs_reply; /* 1: exactly one zp_reply(token) is expected before the reply deadline */
  zp_span body;         /* 8-aligned offset */
} zp_event;

typedef struct zp_open {
  zp_msg h;
  uint32_t host_major, host_minor;
  uint64_t granted_caps;
  uint64_t mem_limit_bytes;
  uint64_t event_budget_ns;
  uint32_t max_msg_bytes, max_nodes;
  uint64_t incarnation; /* of this node: higher wins */
  zp_span instance;     /* "k8s" of --plugin k8s=FILE */
  zp_span node_id;      /* this node's text id */
  zp_span address;      /* host:port that others reach this node at */
  zp_span config;       /* UTF-8 JSON, may be empty */
  zp_list seeds;        /* zp_span[]: the host:port of every --seed */
} zp_open;

typedef struct zp_node {
  zp_span id;   /* 1..128 bytes UTF-8, unique in the message */
  zp_span host; /* IP literal or DNS name, 1..253 bytes */
  zp_span meta; /* JSON object, or absent */
  uint64_t incarnation; /* higher wins for the same id; 0 when not known */
  uint32_t weight;      /* 100 is ordinary; 0 when not known */
  uint16_t port;
  uint8_t state;  /* ZP_NODE_* */
  uint8_t flags;  /* 0 */
} zp_node;

typedef struct zp_nodes {
  zp_msg h;
  uint64_t revision; /* strictly increasing per instance, else ZP_E_CONFLICT */
  uint32_t mode;     /* ZP_NODES_* */
  uint32_t reserved;
  zp_list nodes;     /* zp_node[] */
  zp_list removed;   /* zp_span[] of ids, delta only */
} zp_nodes;

typedef struct zp_node_load {
  zp_span id, zone;
  uint64_t used_bytes, capacity_bytes;
  uint64_t cpu_micro;       /* 1000000 = one core busy */
  uint32_t state;           /* ZP_NODE_* */
  uint32_t weight;          /* 100 is ordinary */
} zp_node_load;
typedef struct zp_partition {
  uint64_t id, bytes, ticks_per_s;
  uint32_t owner;           /* index into nodes */
  uint32_t flags;           /* ZP_PARTITION_* */
} zp_partition;
typedef struct zp_plan_req {
  zp_msg h;
  uint64_t index;           /* of the topology this describes; the plan repeats it */
  uint32_t reason;          /* ZP_REASON_* */
  uint32_t max_moves;
  zp_list nodes;            /* zp_node_load[] */
  zp_list partitions;       /* zp_partition[] */
} zp_plan_req;
typedef struct zp_move {
  uint64_t partition;
  uint32_t from, to;        /* indexes into the request's nodes */
  uint32_t priority;        /* higher goes first */
  uint32_t flags;           /* 0 */
} zp_move;
typedef struct zp_plan {
  zp_msg h;
  uint64_t index;           /* the request's, else the plan is stale and refused */
  zp_list moves;            /* zp_move[] */
} zp_plan;

typedef struct zp_snap {
  zp_msg h;
  uint64_t snapshot_id;
  uint64_t index;           /* of the topology that the cut belongs to */
  uint64_t ticks, bytes;    /* what it holds; 0 while that is not known */
  zp_span uri, label;
} zp_snap;

typedef struct zp_http_req {
  zp_msg h;
  zp_span method, url;      /* absolute https:// or http:// URL; no userinfo */
  zp_list headers;          /* zp_kv[]; a value "${secret:NAME}" is filled in by the host */
  zp_span body;
  uint32_t timeout_ms;
  uint32_t max_body;
  uint32_t flags;           /* ZP_HTTP_STREAM */
  uint32_t reserved;
} zp_http_req;
typedef struct zp_http_resp {
  zp_msg h;
  uint32_t code;            /* 0 when no response; then event.status says why */
  uint32_t flags;           /* ZP_HTTP_FIRST, ZP_HTTP_LAST, ZP_HTTP_TRUNCATED */
  zp_list headers;          /* only in the first part */
  zp_span body;
} zp_http_resp;
typedef struct zp_udp_dgram {
  zp_msg h;
  zp_span from;             /* "ip:port" / "[ip6]:port" */
  zp_span data;
} zp_udp_dgram;

/* The descriptor.  No pointers, 256 bytes, identical bytes in ELF and wasm. */
typedef struct zp_plugin_info {
  uint8_t magic[8];         /* "ZEPTOPLG" */
  uint32_t struct_size;     /* 256 */
  uint16_t abi_major, abi_minor;
  uint16_t min_host_minor;
  uint16_t ptr_bits;        /* 32 wasm32, 64 native */
  uint32_t kinds;           /* 1<<ZP_KIND_* */
  uint32_t flags;           /* 0 */
  uint64_t caps;            /* refused at load if not granted */
  uint64_t optional_caps;
  uint32_t state_version, min_state_version; /* hot reload: what it exports / oldest it imports */
  uint32_t mem_hint_kib, reserved0;
  char name[48], version[32], vendor[48];    /* NUL-padded UTF-8 */
  uint8_t reserved[64];
} zp_plugin_info;

/* ------------------------------------------------------------------ the layout is the contract */
#define ZP_LAYOUT(T, n) ZP_STATIC_ASSERT(sizeof(T) == (n), #T " size changed")
ZP_LAYOUT(zp_span, 8);       ZP_LAYOUT(zp_list, 16);     ZP_LAYOUT(zp_kv, 16);
ZP_LAYOUT(zp_msg, 16);       ZP_LAYOUT(zp_event, 72);    ZP_LAYOUT(zp_open, 112);
ZP_LAYOUT(zp_node, 40);      ZP_LAYOUT(zp_nodes, 64);    ZP_LAYOUT(zp_node_load, 48);
ZP_LAYOUT(zp_partition, 32); ZP_LAYOUT(zp_plan_req, 64); ZP_LAYOUT(zp_move, 24);
ZP_LAYOUT(zp_plan, 40);      ZP_LAYOUT(zp_snap, 64);     ZP_LAYOUT(zp_http_req, 72);
ZP_LAYOUT(zp_http_resp, 48); ZP_LAYOUT(zp_udp_dgram, 32);ZP_LAYOUT(zp_plugin_info, 256);
ZP_STATIC_ASSERT(offsetof(zp_event, token) == 24 && offsetof(zp_event, status) == 56 &&
                 offsetof(zp_event, body) == 64, "zp_event");
ZP_STATIC_ASSERT(offsetof(zp_open, granted_caps) == 24 && offsetof(zp_open, config) == 88, "zp_open");
ZP_STATIC_ASSERT(offsetof(zp_node, incarnation) == 24 && offsetof(zp_node, port) == 36, "zp_node");
ZP_STATIC_ASSERT(offsetof(zp_plugin_info, caps) == 32 && offsetof(zp_plugin_info, name) == 64,
                 "zp_plugin_info");

/* ------------------------------------------------------------------ host functions
 * X(name, (parameters), (arguments)).  One macro per released minor ("band"), never edited after
 * release; ZP_TARGET_MINOR cuts the list, so a plugin sees (and links) only what it may use. */
#define ZP_HOST_FNS_0(X) /* band 1.0: 17 functions, frozen */                                     \
  X(log, (zp_ctx c, uint32_t level, const void *p, uint32_t n), (c, level, p, n))              \
  X(set_error, (zp_ctx c, int32_t code, const void *p, uint32_t n), (c, code, p, n))           \
  X(info, (zp_ctx c, uint32_t what, void *buf, uint32_t cap, uint32_t *out_len),               \
    (c, what, buf, cap, out_len))                                                                 \
  X(clock, (zp_ctx c, uint32_t id, uint64_t *out_ns), (c, id, out_ns))                         \
  X(random, (zp_ctx c, void *buf, uint32_t n), (c, buf, n))                                    \
  X(timer, (zp_ctx c, uint64_t id, uint64_t delay_ns, uint64_t period_ns),                     \
    (c, id, delay_ns, period_ns))                                                                 \
  X(cancel, (zp_ctx c, uint64_t token), (c, token))                                            \
  X(emit, (zp_ctx c, const void *msg, uint32_t n), (c, msg, n))                                \
  X(reply, (zp_ctx c, uint64_t token, int32_t st, const void *msg, uint32_t n),                \
    (c, token, st, msg, n))                                                                       \
  X(http, (zp_ctx c, const void *req, uint32_t n, uint64_t *out_token), (c, req, n, out_token))\
  X(udp_bind, (zp_ctx c, const void *addr, uint32_t n, uint64_t *out_sock),                    \
    (c, addr, n, out_sock))                                                                       \
  X(udp_send, (zp_ctx c, uint64_t sock, const void *to, uint32_t to_n, const void *p,          \
    uint32_t n), (c, sock, to, to_n, p, n))                                                       \
  X(kv_get, (zp_ctx c, const void *k, uint32_t kn, void *buf, uint32_t cap, uint32_t *out_len),\
    (c, k, kn, buf, cap, out_len))                                                                \
  X(kv_put, (zp_ctx c, const void *k, uint32_t kn, const void *v, uint32_t vn),                \
    (c, k, kn, v, vn))                                                                            \
  X(kv_del, (zp_ctx c, const void *k, uint32_t kn), (c, k, kn))                                \
  X(metric, (zp_ctx c, uint32_t type, const void *name, uint32_t n, int64_t value),            \
    (c, type, name, n, value))                                                                    \
  X(wake, (zp_ctx c), (c))
/* band 1.1 goes here:   #if ZP_TARGET_MINOR >= 1
 *                       #define ZP_HOST_FNS_1(X) X(…)      and is appended to ZP_HOST_FNS below. */
#define ZP_HOST_FNS(X) ZP_HOST_FNS_0(X)

#if !ZP_WASM
typedef struct zp_host_api {
  uint32_t struct_size; /* sizeof as the HOST knows it */
  uint16_t major, minor;
#define ZP_X_FIELD(name, params, args) int32_t(*name) params;
  ZP_HOST_FNS(ZP_X_FIELD)
#undef ZP_X_FIELD
} zp_host_api;
ZP_STATIC_ASSERT(sizeof(void *) == 8, "native plugins are 64-bit only");
ZP_STATIC_ASSERT(offsetof(zp_host_api, log) == 8 && offsetof(zp_host_api, wake) == 8 + 16 * 8 &&
                 sizeof(zp_host_api) == 8 + 17 * 8, "zp_host_api is append-only");
extern const zp_host_api *zp_host__ __attribute__((visibility("hidden"))); /* set by bind */
#define ZP_X_FN(name, params, args)                                                        \
  static inline int32_t zp_##name params {                                                        \
    if (!zp_host__ || zp_host__->struct_size < offsetof(zp_host_api, name) + sizeof(void *) ||    \
        !zp_host__->name)                                                                         \
      return ZP_E_UNSUPPORTED;                                                                    \
    return zp_host__->name args;                                                                  \
  }
#else
#define ZP_X_FN(name, params, args) ZP_IMPORT(name) int32_t zp_##name params;
#endif
ZP_HOST_FNS(ZP_X_FN)
#undef ZP_X_FN

/* ------------------------------------------------------------------ what a plugin exports
 * (define the three zp_plugin_* bodies yourself; ZP_PLUGIN() adds the rest, in exactly one TU) */
const zp_plugin_info *zp_plugin_info_v1(void);
/* >= 0: instance handle chosen by the plugin; < 0: zp_status (call zp_set_error first) */
ZP_EXPORT(zp_plugin_open_v1)
int64_t zp_plugin_open_v1(zp_ctx ctx, const void *open_msg, uint32_t len) ZP_NOEXCEPT;
ZP_EXPORT(zp_plugin_event_v1)
int32_t zp_plugin_event_v1(int64_t inst, const void *event, uint32_t len) ZP_NOEXCEPT;
/* may call nothing of the host but zp_log */
ZP_EXPORT(zp_plugin_close_v1)
int32_t zp_plugin_close_v1(int64_t inst) ZP_NOEXCEPT;
#if ZP_WASM
void *zp_alloc_v1(uint32_t size);          /* 16-aligned; host keeps ONE inbox and reuses it */
void zp_free_v1(void *p, uint32_t size);
#else
int32_t zp_plugin_bind_v1(const zp_host_api *host); /* native only, once per dlopen, before info */
#endif

#define ZP_PLUGIN_INFO_INIT(KINDS, CAPS, OPTCAPS, STATEV, MINSTATEV, NAME, VER, VENDOR)           \
  { {'Z','E','P','T','O','P','L','G'}, 256, ZP_ABI_MAJOR, ZP_ABI_MINOR, ZP_TARGET_MINOR,          \
    (uint16_t)(sizeof(void *) * 8), (KINDS), 0, (CAPS), (OPTCAPS), (STATEV), (MINSTATEV), 0, 0,   \
    NAME, VER, VENDOR, {0} }

#if ZP_WASM
#define ZP_PLUGIN_GLUE_                                                                           \
  ZP_EXPORT(zp_alloc_v1) void *zp_alloc_v1(uint32_t n) { return ZP_ALLOC(n); }                    \
  ZP_EXPORT(zp_free_v1) void zp_free_v1(void *p, uint32_t n) { ZP_FREE(p, n); }
#define ZP_SECTION_
#ifndef ZP_ALLOC /* default: whole pages from memory.grow; fine for one long-lived inbox */
static inline void *zp_grow__(uint32_t n) {
  __SIZE_TYPE__ pages = ((__SIZE_TYPE__)n + 65535u) / 65536u;
  __SIZE_TYPE__ at = __builtin_wasm_memory_grow(0, pages);
  return at == (__SIZE_TYPE__)-1 ? (void *)0 : (void *)(at * 65536u);
}
#define ZP_ALLOC(n) zp_grow__(n)
#define ZP_FREE(p, n) ((void)(p), (void)(n))
#endif
#else
/* Readable from the FILE, before dlopen runs any constructor. */
#define ZP_SECTION_ __attribute__((section("zepto_plugin"), used, aligned(8)))
#define ZP_PLUGIN_GLUE_                                                                           \
  const zp_host_api *zp_host__;                                                                   \
  ZP_EXPORT(zp_plugin_bind_v1) int32_t zp_plugin_bind_v1(const zp_host_api *h) {                  \
    if (!h || h->major != ZP_ABI_MAJOR || h->minor < ZP_TARGET_MINOR) return ZP_E_VERSION;        \
    zp_host__ = h;                                                                                \
    return ZP_OK;                                                                                 \
  }
#endif

#ifdef __cplusplus
#define ZP_C_BEGIN_ extern "C" {
#define ZP_C_END_ }
#else
#define ZP_C_BEGIN_
#define ZP_C_END_
#endif

#define ZP_PLUGIN(KINDS, CAPS, OPTCAPS, STATEV, MINSTATEV, NAME, VER, VENDOR)                     \
  ZP_C_BEGIN_                                                                                     \
  ZP_SECTION_ static const zp_plugin_info zp_info__ =                                             \
      ZP_PLUGIN_INFO_INIT(KINDS, CAPS, OPTCAPS, STATEV, MINSTATEV, NAME, VER, VENDOR);            \
  ZP_EXPORT(zp_plugin_info_v1) const zp_plugin_info *zp_plugin_info_v1(void) {                    \
    return &zp_info__;                                                                            \
  }                                                                                               \
  ZP_PLUGIN_GLUE_                                                                                 \
  ZP_C_END_                                                                                       \
  ZP_STATIC_ASSERT(sizeof(NAME) <= 48 && sizeof(VER) <= 32 && sizeof(VENDOR) <= 48, "too long")

/* ------------------------------------------------------------------ helpers for authors
 * Not part of the ABI: inline, used or not.  Buffers are 8-aligned: declare them as uint64_t[]. */
typedef struct zp_text { const char *p; uint32_t n; } zp_text; /* not NUL-terminated */
static inline zp_text zp_text_of(const char *s) {
  zp_text t = { s, 0 };
  while (s[t.n]) t.n++;
  return t;
}
/* The bytes of a span of a message; empty when it is absent or does not fit. */
static inline zp_text zp_span_text(const void *msg, uint32_t len, zp_span s) {
  zp_text t = { "", 0 };
  if (s.len != 0 && s.off <= len && s.len <= len - s.off) {
    t.p = (const char *)msg + s.off;
    t.n = s.len;
  }
  return t;
}
/* The event, or NULL when these bytes are none. */
static inline const zp_event *zp_event_of(const void *p, uint32_t n) {
  const zp_event *e = (const zp_event *)p;
  return n >= sizeof(zp_event) && e->h.struct_size >= sizeof(zp_event) ? e : (const zp_event *)0;
}
static inline int32_t zp_log_text(zp_ctx c, uint32_t level, const char *text) {
  return zp_log(c, level, text, zp_text_of(text).n);
}

/* Writes ZP_MSG_NODES into the author's buffer: begin, add each node, emit. */
typedef struct zp_nodes_writer {
  unsigned char *buf;
  uint32_t cap, used, room;
  int32_t status; /* the first thing that went wrong; zp_nodes_emit returns it */
} zp_nodes_writer;
static inline void zp_nodes_begin(zp_nodes_writer *w, uint64_t *buf, uint32_t cap,
                                  uint64_t revision, uint32_t nodes_max) {
  uint64_t fixed = sizeof(zp_nodes) + (uint64_t)nodes_max * sizeof(zp_node);
  zp_nodes *m = (zp_nodes *)(void *)buf;
  w->buf = (unsigned char *)buf;
  w->cap = cap;
  w->room = nodes_max;
  w->used = (uint32_t)fixed;
  w->status = fixed <= cap ? ZP_OK : ZP_E_TOO_BIG;
  if (w->status != ZP_OK) return;
  for (uint64_t i = 0; i < fixed / 8; i++) buf[i] = 0;
  m->h.struct_size = sizeof(zp_nodes);
  m->h.kind = ZP_MSG_NODES;
  m->revision = revision;
  m->nodes.off = sizeof(zp_nodes);
  m->nodes.stride = sizeof(zp_node);
}
static inline zp_span zp_nodes_text_(zp_nodes_writer *w, zp_text t) {
  zp_span s = { w->used, t.n };
  if (w->status == ZP_OK && t.n > w->cap - w->used) w->status = ZP_E_TOO_BIG;
  if (w->status != ZP_OK) return s;
  for (uint32_t i = 0; i < t.n; i++) w->buf[w->used + i] = (unsigned char)t.p[i];
  w->used += t.n;
  return s;
}
/* The node that was added, for its other fields; NULL when there was no room. */
static inline zp_node *zp_nodes_add(zp_nodes_writer *w, zp_text id, zp_text host, uint16_t port) {
  zp_nodes *m = (zp_nodes *)(void *)w->buf;
  zp_node *n;
  if (w->status == ZP_OK && m->nodes.count >= w->room) w->status = ZP_E_TOO_BIG;
  if (w->status != ZP_OK) return (zp_node *)0;
  n = (zp_node *)(void *)(w->buf + sizeof(zp_nodes)) + m->nodes.count++;
  n->id = zp_nodes_text_(w, id);
  n->host = zp_nodes_text_(w, host);
  n->port = port;
  return n;
}
static inline int32_t zp_nodes_emit(zp_nodes_writer *w, zp_ctx c) {
  if (w->status != ZP_OK) return w->status;
  ((zp_nodes *)(void *)w->buf)->h.total_size = w->used;
  return zp_emit(c, w->buf, w->used);
}

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* ZEPTO_PLUGIN_H */
