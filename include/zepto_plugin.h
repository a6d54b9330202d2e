/* zepto_plugin.h - the one header of zepto's plugins, native (.so) and WebAssembly (.wasm).
 * ABI 1.0.  C11 and C++17.  Needs <stddef.h> and <stdint.h> only, and no libc on wasm.
 *
 * A plugin is one file that defines zp_plugin_open_v1, zp_plugin_event_v1, zp_plugin_close_v1 and
 * says ZP_PLUGIN(...) once.  The host opens it, then delivers events; the plugin answers with
 * zp_emit (new members) and zp_reply (an answer that an event asks for).  What the host's functions
 * do stands above ZP_HOST_FNS_0.  At the end of this file are helpers that write and read messages;
 * plugins/README.md has two whole plugins.
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
typedef struct zp_span { uint32_t off, len; } zp_span; /* len 0 => absent, off ignored */
/* element i is at off+i*stride */
typedef struct zp_list { uint32_t off, count, stride, reserved; } zp_list;
typedef struct zp_kv { zp_span key, val; } zp_kv;
typedef struct zp_msg {
  uint32_t struct_size; /* fixed part as the SENDER knows it; receiver zero-extends or drops tail */
  uint32_t total_size;  /* whole buffer, <= length passed alongside */
  uint32_t kind;        /* ZP_MSG_* or ZP_EV_* */
  uint32_t flags;       /* 0 in 1.0; unknown bits => ZP_E_UNSUPPORTED */
} zp_msg;

enum { /* message kinds that are not events */
  ZP_MSG_OPEN = 1, ZP_MSG_NODES = 2, ZP_MSG_PLAN = 3, ZP_MSG_HTTP_REQ = 4, ZP_MSG_BYTES = 5
};
enum { /* events.  Host never sends a kind newer than the plugin's abi_minor. */
  ZP_EV_START = 0x100,        /* begin work: after open, and again after STOP when the host goes
                                 back to this instance from a newer one that failed */
  ZP_EV_STOP = 0x101,         /* timers, requests and sockets end with this; reply when done */
  ZP_EV_CONFIG = 0x102,       /* body = new config JSON; reply ZP_OK to accept, error = keep old */
  ZP_EV_EXPORT_STATE = 0x103, /* reply with bytes, at most 1 MiB of them */
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
  ZP_EV_SNAP_BEGIN = 0x140,   /* body = zp_snap; reply ZP_OK / error = veto (if policy allows) */
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
  uint32_t timeout_ms;      /* for all of it, a stream's last part too; 0 = 30 s, at most 1 h */
  uint32_t max_body;        /* bytes of the answer's body; 0 = 1 MiB, at most 8 MiB; see zp_http */
  uint32_t flags;           /* ZP_HTTP_STREAM */
  uint32_t reserved;
} zp_http_req;
typedef struct zp_http_resp {
  zp_msg h;
  uint32_t code;            /* 0 when no response; then event.status says why */
  uint32_t flags;           /* ZP_HTTP_FIRST, ZP_HTTP_LAST, ZP_HTTP_TRUNCATED */
  zp_list headers;          /* zp_kv[], names in lower case; only in the first part */
  zp_span body;             /* with an event.status other than ZP_OK: what went wrong, as text */
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
ZP_STATIC_ASSERT(offsetof(zp_open, granted_caps) == 24 && offsetof(zp_open, config) == 88,
                 "zp_open");
ZP_STATIC_ASSERT(offsetof(zp_node, incarnation) == 24 && offsetof(zp_node, port) == 36, "zp_node");
ZP_STATIC_ASSERT(offsetof(zp_plugin_info, caps) == 32 && offsetof(zp_plugin_info, name) == 64,
                 "zp_plugin_info");

/* ------------------------------------------------------------------ host functions
 * Of all of them holds:
 *  - c is what zp_plugin_open_v1 was given.  (p, n) are n bytes at p, which may be NULL when n is
 *    0; text is UTF-8 and ends without a NUL.  The host has copied them when the call returns.
 *  - The plugin gets ZP_OK, or a negative status and nothing happened.  What was wrong is mostly
 *    told by zp_info(ZP_INFO_LAST_ERROR) then, in words.
 *  - ZP_E_BAD_STATE: called outside zp_plugin_open_v1 and zp_plugin_event_v1 (zp_log may be called
 *    in zp_plugin_close_v1 too), or on another thread than the host's call (native).
 *    ZP_E_BAD_HANDLE: c is not this instance's.  ZP_E_BAD_ADDRESS: the bytes are not all in the
 *    module's memory (wasm), or NULL (native).  ZP_E_TOO_BIG: n is above zp_open.max_msg_bytes.
 *    ZP_E_DENIED: the capability that is named below is not granted.
 *  - What the world sees (timer, cancel, emit, reply, http, udp_bind, udp_send) is done when the
 *    handler has returned, in the order of the calls, and not at all when it traps, panics or takes
 *    too long.  One handler may ask for 1,024 of these, with four times max_msg_bytes in all;
 *    beyond that they are ZP_E_BUSY.
 * Only zp_wake is other: see there.
 *
 * zp_log(c, level, p, n): writes a line of text into the host's log, under the plugin's name.
 *   level is ZP_LOG_*; another one is ZP_E_INVALID.  The first 4,096 bytes are taken; control
 *   characters are escaped.  Beyond 100 lines in a second: ZP_E_BUSY, and the host logs how many
 *   were left out.
 *
 * zp_set_error(c, code, p, n): says why the plugin fails, for the operator and for whoever asked:
 *   call it before a handler returns a negative status, or replies with one.  code is that
 *   zp_status, whose meaning is added to the text.  The first 1,024 bytes are taken.  It stands
 *   until the next call of this or the next call that is refused, at most until the next event.
 *
 * zp_info(c, what, buf, cap, out_len): writes what is asked for into the cap bytes at buf.
 *   ZP_INFO_FEATURES is a uint64_t whose bit i says that the host has function i of this list
 *   (log is 0), ZP_INFO_NODE_ID this node's text id, ZP_INFO_LAST_ERROR the last error since this
 *   event began, maybe empty; another one is ZP_E_NOT_FOUND.  *out_len is how many bytes there are.
 *   When they are more than cap: ZP_E_TOO_BIG, and nothing is in buf.
 *
 * zp_clock(c, id, out_ns): tells the time in ns, which goes on while a handler works.
 *   ZP_CLOCK_MONO never goes back and is the clock of zp_event.mono_ns, ZP_CLOCK_WALL counts from
 *   1970 in UTC; another id is ZP_E_INVALID.  Who uses the event's clocks instead can be replayed.
 *
 * zp_random(c, buf, n): fills n bytes with the system's randomness.  Needs ZP_CAP_RANDOM.
 *   More than 65,536 in one call: ZP_E_TOO_BIG.
 *
 * zp_timer(c, id, delay_ns, period_ns): ZP_EV_TIMER with the token id comes delay_ns after the
 *   handler has returned, then every period_ns; 0 is only once.  Delays below 1 ms are made 1 ms;
 *   0 is zp_cancel(c, id).  A period below 10 ms, or an id with ZP_TOKEN_BIT: ZP_E_INVALID.  An id
 *   that runs already is set anew; a 65th one is ZP_E_BUSY.  A timer that is late does not make up
 *   for what it missed.  One that does not repeat is over before its event comes.
 *
 * zp_cancel(c, token): ends a timer, a request or a socket; no event of it comes any more, not even
 *   one that waits already.  ZP_E_BAD_HANDLE: it is over, or was never this instance's.
 *
 * zp_emit(c, msg, n): tells who is in the cluster.  msg is one zp_nodes of n bytes; the host takes
 *   all of it or nothing, and keeps a copy.  ZP_E_UNSUPPORTED: the plugin is not for discovery, or
 *   flags or a mode of the future.  ZP_E_BAD_STATE: before ZP_EV_START or from ZP_EV_STOP on, such
 *   as in open, or while it is given another version's state.  ZP_E_CONFLICT: revision is not above
 *   the last that was taken since ZP_EV_START, or an id is there twice.  ZP_E_TOO_BIG: more than
 *   zp_open.max_nodes.  ZP_E_INVALID: a malformed message, an id or host that is none, port 0, a
 *   state that is none, meta that is not a JSON object of at most 4,096 bytes, or removed ids in a
 *   full answer.
 *
 * zp_reply(c, token, st, msg, n): answers the event with that token, whose needs_reply is 1, now or
 *   in a later event: within 2 s, ZP_EV_STOP within 5 s, those of a reload (ZP_EV_EXPORT_STATE,
 *   ZP_EV_IMPORT_STATE, ZP_EV_HEALTH) within 1 s together.
 *   st is ZP_OK, or a negative status, which is a no; a handler that returns one has said no too.
 *   msg is what the event asks for, or nothing (NULL, 0).  ZP_E_BAD_HANDLE: there is no such
 *   question, it was answered, or it is too late.
 *
 * zp_http(c, req, n, out_token): has the host make a request; req is one zp_http_req.  Needs
 *   ZP_CAP_HTTP, and a grant for this method and URL.  *out_token names it: its answer is a
 *   ZP_EV_HTTP with that token and a zp_http_resp, whose flags are ZP_HTTP_FIRST and ZP_HTTP_LAST.
 *   A body is cut, and ZP_HTTP_TRUNCATED set, beyond max_body, and where it fills the message
 *   (zp_open.max_msg_bytes, with the headers).  With ZP_HTTP_STREAM there is no max_body: the first
 *   event has the head and no body, each of the following at most 64 KiB of body, and the last
 *   ZP_HTTP_LAST and no body.  A request that fails ends with ZP_HTTP_LAST and an event.status:
 *   ZP_E_TIMEOUT; ZP_E_DENIED when the server's name leads to this machine, the link or a metadata
 *   service; ZP_E_TOO_BIG when a message has no room for the head; else ZP_E_IO.  Redirects are
 *   answers and are not followed.
 *   ZP_E_DENIED: no grant, a secret that is not for this server, or that stands elsewhere than
 *   once in a header's value, or a header that is the host's own (such as Host, Content-Length,
 *   Connection).  ZP_E_INVALID: a malformed message, URL or header.  ZP_E_UNSUPPORTED: unknown
 *   flags.  ZP_E_TOO_BIG: more than 64 headers, or 64 KiB of them.  ZP_E_BUSY: 16 are in flight.
 *
 * zp_udp_bind(c, addr, n, out_sock): has the host bind a socket; addr is the text "ip:port" or
 *   "[ip6]:port", no name.  Needs ZP_CAP_UDP, and a grant for this address.  *out_sock is its
 *   token: each ZP_EV_UDP has it, with a zp_udp_dgram, or with event.status ZP_E_IO when the socket
 *   could not be bound.  Datagrams from others than the granted networks, above 1,400 bytes, or
 *   beyond the 256 that wait are dropped.  ZP_E_INVALID: no address.  ZP_E_DENIED: no grant.
 *   ZP_E_BUSY: the instance has four sockets.
 *
 * zp_udp_send(c, sock, to, to_n, p, n): has the host send a datagram from a socket to the address
 *   to, a text as above.  It may be lost, and nobody is told.  Needs ZP_CAP_UDP.  ZP_E_INVALID: no
 *   address.  ZP_E_BAD_HANDLE: sock is none.  ZP_E_DENIED: to is not in the granted networks.
 *   ZP_E_TOO_BIG: more than 1,400 bytes.  ZP_E_BUSY: more than 10,000 in a second.
 *
 * zp_kv_get(c, k, kn, buf, cap, out_len): writes the value of the key (k, kn) into the cap bytes
 *   at buf.  Needs ZP_CAP_KV.  *out_len is the value's size.  When that is more than cap:
 *   ZP_E_TOO_BIG, and nothing is in buf.  ZP_E_NOT_FOUND: no such key; *out_len is as it was.
 *
 * zp_kv_put(c, k, kn, v, vn): keeps the value (v, vn) under a key of 1 to 256 bytes.  Needs
 *   ZP_CAP_KV.  It belongs to the plugin's name: all its instances and versions find it, also after
 *   a restart of the node.  It is on disk before anything that the handler asked for is done.
 *   ZP_E_INVALID: an empty key.  ZP_E_TOO_BIG: a longer key, or all keys and values, with 8 bytes
 *   for each pair, are more than the grant says (1 MiB when it says nothing).
 *
 * zp_kv_del(c, k, kn): removes a key and its value.  Needs ZP_CAP_KV.  ZP_E_NOT_FOUND: no such key.
 *
 * zp_metric(c, type, name, n, value): a metric of the plugin's own, shown as zepto_plugin_metric.
 *   Needs ZP_CAP_METRIC.  ZP_METRIC_COUNTER adds value, or nothing when it is negative;
 *   ZP_METRIC_GAUGE sets it.  A name has 1 to 64 letters, digits and underscores and does not begin
 *   with a digit.  ZP_E_INVALID: another name or type.  ZP_E_TOO_BIG: a 257th name.
 *
 * zp_wake(c): has the host deliver ZP_EV_WAKE: one event, however often it is called before that
 *   comes.  A native plugin may call it from any thread at any time; it never waits for a handler.
 *   ZP_E_BAD_HANDLE: there is no such instance any more.
 *
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
 * Not part of the ABI: inline, used or not.  Buffers are 8-aligned: declare them as uint64_t[].
 *
 * The readers (zp_open_of, zp_event_of and those of an event's body) take the bytes that a handler
 * was given.  What they give lies in these bytes, so it is gone when the handler returns. */
typedef struct zp_text { const char *p; uint32_t n; } zp_text; /* not NUL-terminated */
static inline zp_text zp_text_of(const char *s) {
  zp_text t = { s, 0 };
  while (s[t.n]) t.n++;
  return t;
}
/* Whether a text is this one. */
static inline int zp_text_is(zp_text t, const char *s) {
  zp_text other = zp_text_of(s);
  if (t.n != other.n) return 0;
  for (uint32_t i = 0; i < t.n; i++)
    if (t.p[i] != s[i]) return 0;
  return 1;
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
/* Whether these bytes hold all of a message whose fixed part has at least so many bytes. */
static inline int zp_msg_fits_(const void *p, uint32_t n, uint32_t fixed) {
  const zp_msg *m = (const zp_msg *)p;
  return m && n >= fixed && ((uintptr_t)p & 7u) == 0 && m->struct_size >= fixed &&
         m->struct_size <= m->total_size && m->total_size <= n;
}
/* The bytes of a span of a message that a reader gave: zp_span_of(&open->h, open->config). */
static inline zp_text zp_span_of(const zp_msg *m, zp_span s) {
  return zp_span_text(m, m->total_size, s);
}
/* Element i of a list of a message that a reader gave, of at least so many bytes; NULL behind the
 * last one, or when it does not fit. */
static inline const void *zp_list_at(const zp_msg *m, zp_list l, uint32_t i, uint32_t size) {
  uint64_t at = l.off + (uint64_t)i * l.stride;
  if (i >= l.count || l.stride < size || at + size > m->total_size || at % 8 != 0) return 0;
  return (const unsigned char *)m + at;
}
/* What zp_plugin_open_v1 was given, or NULL when these bytes are something else. */
static inline const zp_open *zp_open_of(const void *p, uint32_t n) {
  const zp_open *o = (const zp_open *)p;
  return zp_msg_fits_(p, n, sizeof(zp_open)) && o->h.kind == ZP_MSG_OPEN ? o : (const zp_open *)0;
}
/* The event, or NULL when these bytes are none. */
static inline const zp_event *zp_event_of(const void *p, uint32_t n) {
  return zp_msg_fits_(p, n, sizeof(zp_event)) ? (const zp_event *)p : (const zp_event *)0;
}
/* The message in the body of an event whose kind is from first to last, or NULL. */
static inline const void *zp_body_of_(const void *p, uint32_t n, uint32_t first, uint32_t last,
                                      uint32_t kind, uint32_t fixed) {
  const zp_event *e = zp_event_of(p, n);
  zp_text t;
  if (!e || e->h.kind < first || e->h.kind > last) return 0;
  t = zp_span_of(&e->h, e->body);
  if (!zp_msg_fits_(t.p, t.n, fixed) || ((const zp_msg *)(const void *)t.p)->kind != kind) return 0;
  return t.p;
}
/* The answer that a ZP_EV_HTTP brings, or NULL when these bytes are something else. */
static inline const zp_http_resp *zp_http_resp_of(const void *p, uint32_t n) {
  return (const zp_http_resp *)zp_body_of_(p, n, ZP_EV_HTTP, ZP_EV_HTTP, ZP_MSG_BYTES,
                                           sizeof(zp_http_resp));
}
/* The datagram that a ZP_EV_UDP brings; NULL too when it says that the socket is gone. */
static inline const zp_udp_dgram *zp_udp_dgram_of(const void *p, uint32_t n) {
  return (const zp_udp_dgram *)zp_body_of_(p, n, ZP_EV_UDP, ZP_EV_UDP, ZP_MSG_BYTES,
                                           sizeof(zp_udp_dgram));
}
/* What a ZP_EV_MIG_PLAN asks for, or NULL. */
static inline const zp_plan_req *zp_plan_req_of(const void *p, uint32_t n) {
  return (const zp_plan_req *)zp_body_of_(p, n, ZP_EV_MIG_PLAN, ZP_EV_MIG_PLAN, ZP_MSG_PLAN,
                                          sizeof(zp_plan_req));
}
/* The snapshot that a ZP_EV_SNAP_* is about, or NULL. */
static inline const zp_snap *zp_snap_of(const void *p, uint32_t n) {
  return (const zp_snap *)zp_body_of_(p, n, ZP_EV_SNAP_BEGIN, ZP_EV_SNAP_RESTORE, ZP_MSG_BYTES,
                                      sizeof(zp_snap));
}
/* The value of an answer's first header of that name, in lower case; empty when there is none. */
static inline zp_text zp_http_header(const zp_http_resp *r, const char *name) {
  zp_text none = { "", 0 };
  for (uint32_t i = 0;; i++) {
    const zp_kv *kv = (const zp_kv *)zp_list_at(&r->h, r->headers, i, sizeof(zp_kv));
    if (!kv) return none;
    if (zp_text_is(zp_span_of(&r->h, kv->key), name)) return zp_span_of(&r->h, kv->val);
  }
}
/* Has the host GET a URL of at most 1,024 bytes, without headers; a longer one is ZP_E_TOO_BIG.
 * The answer comes as ZP_EV_HTTP with *out_token, whole; timeout_ms 0 is the host's default.  For
 * anything else lay a zp_http_req out and call zp_http, which says what the statuses mean. */
static inline int32_t zp_http_get(zp_ctx c, const char *url, uint32_t url_len, uint32_t timeout_ms,
                                  uint64_t *out_token) {
  struct { zp_http_req req; char get[8], url[1024]; uint64_t aligns; } m;
  unsigned char *head = (unsigned char *)&m;
  if (url_len > sizeof m.url) return ZP_E_TOO_BIG;
  for (uint32_t i = 0; i < sizeof m.req + sizeof m.get; i++) head[i] = 0;
  m.get[0] = 'G';
  m.get[1] = 'E';
  m.get[2] = 'T';
  for (uint32_t i = 0; i < url_len; i++) m.url[i] = url[i];
  m.req.method.off = sizeof m.req;
  m.req.method.len = 3;
  m.req.url.off = sizeof m.req + sizeof m.get;
  m.req.url.len = url_len;
  m.req.timeout_ms = timeout_ms;
  m.req.h.struct_size = sizeof m.req;
  m.req.h.total_size = m.req.url.off + url_len;
  m.req.h.kind = ZP_MSG_HTTP_REQ;
  return zp_http(c, &m, m.req.h.total_size, out_token);
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
  for (uint32_t i = 0; i < w->used; i++) w->buf[i] = 0;
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
