/* What the helpers of zepto_plugin.h find in messages, and what they lay out.  Checks them against
 * messages that are good, cut and bent, and exits with 1 when one of the checks fails. */
#include "zepto_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ZP_PLUGIN(1u << ZP_KIND_DISCOVERY, ZP_CAP_HTTP, 0, 1, 1, "helpers", "1.0", "zepto tests");

static int failures;
#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      failures++;                                                     \
    }                                                                 \
  } while (0)

/* A message that is written: a fixed part, then what its spans and lists point at. */
typedef struct writer {
  uint64_t buf[512];
  uint32_t used;
} writer;

static void begin(writer *w, uint32_t kind, uint32_t fixed) {
  zp_msg h = { fixed, fixed, kind, 0 };
  memset(w->buf, 0, sizeof w->buf);
  memcpy(w->buf, &h, sizeof h);
  w->used = fixed;
}

static void put(writer *w, size_t at, const void *bytes, size_t n) {
  memcpy((char *)w->buf + at, bytes, n);
}

static uint32_t append(writer *w, const void *bytes, uint32_t n, uint32_t align) {
  uint32_t at = (w->used + align - 1) / align * align;
  uint32_t total;
  put(w, at, bytes, n);
  total = w->used = at + n;
  put(w, offsetof(zp_msg, total_size), &total, sizeof total);
  return at;
}

static zp_span span(writer *w, const char *text) {
  zp_span s = { 0, (uint32_t)strlen(text) };
  s.off = append(w, text, s.len, 1);
  return s;
}

/* An event of a kind around a message. */
static void wrap(writer *w, uint32_t kind, const writer *body) {
  zp_span s = { 0, body->used };
  begin(w, kind, sizeof(zp_event));
  s.off = append(w, body->buf, body->used, 8);
  put(w, offsetof(zp_event, body), &s, sizeof s);
}

/* The sender of a message knows less of its fixed part than this header does. */
static void shorter(writer *w, uint32_t fixed) {
  fixed -= 8;
  put(w, 0, &fixed, sizeof fixed);
}

/* Reads each byte that a text has, so that a sanitizer sees one that is not there. */
static unsigned sum(zp_text t) {
  unsigned all = 0;
  for (uint32_t i = 0; i < t.n; i++) all += (unsigned char)t.p[i];
  return all;
}

/* Uses everything that the readers give for these bytes, whatever they are. */
static unsigned read_all(const void *p, uint32_t n) {
  const zp_event *event = zp_event_of(p, n);
  const zp_open *open = zp_open_of(p, n);
  const zp_http_resp *answer = zp_http_resp_of(p, n);
  const zp_udp_dgram *datagram = zp_udp_dgram_of(p, n);
  const zp_plan_req *plan = zp_plan_req_of(p, n);
  const zp_snap *snap = zp_snap_of(p, n);
  unsigned all = 0;
  if (event) all += sum(zp_span_of(&event->h, event->body));
  if (open) {
    const zp_span *seed;
    all += sum(zp_span_of(&open->h, open->config));
    for (uint32_t i = 0;; i++) {
      seed = (const zp_span *)zp_list_at(&open->h, open->seeds, i, sizeof(zp_span));
      if (!seed) break;
      all += sum(zp_span_of(&open->h, *seed));
    }
  }
  if (answer) {
    all += sum(zp_span_of(&answer->h, answer->body));
    all += sum(zp_http_header(answer, "content-type"));
  }
  if (datagram) all += sum(zp_span_of(&datagram->h, datagram->data));
  if (plan) {
    const zp_node_load *load;
    load = (const zp_node_load *)zp_list_at(&plan->h, plan->nodes, 0, sizeof(zp_node_load));
    if (load) all += load->weight + sum(zp_span_of(&plan->h, load->id));
  }
  if (snap) all += sum(zp_span_of(&snap->h, snap->label));
  return all;
}

static volatile unsigned seen;

/* The same for each beginning of a message, and with each word of it bent, each time in memory of
 * exactly that size. */
static void torture(const writer *w) {
  static const uint32_t bent[] = { 0, 1, 4, 7, 8, 16, 0x7fffffffu, 0xfffffff8u, 0xffffffffu };
  for (uint32_t n = 0; n <= w->used; n++) {
    void *copy = malloc(n ? n : 1);
    memcpy(copy, w->buf, n);
    seen += read_all(copy, n);
    free(copy);
  }
  for (uint32_t at = 0; at + 4 <= w->used; at += 4)
    for (size_t i = 0; i < sizeof bent / sizeof *bent; i++) {
      char *copy = (char *)malloc(w->used);
      memcpy(copy, w->buf, w->used);
      memcpy(copy + at, &bent[i], sizeof bent[i]);
      seen += read_all(copy, w->used);
      free(copy);
    }
}

static void texts(void) {
  zp_text t = { "config", 4 };
  CHECK(zp_text_is(t, "conf") && !zp_text_is(t, "con") && !zp_text_is(t, "config"));
  t.n = 0;
  CHECK(zp_text_is(t, "") && !zp_text_is(t, "c"));
}

static void opening(void) {
  writer w;
  zp_span seeds[2], config;
  zp_list list = { 0, 2, sizeof(zp_span), 0 };
  const zp_open *o;
  const zp_span *seed;
  begin(&w, ZP_MSG_OPEN, sizeof(zp_open));
  config = span(&w, "{}");
  seeds[0] = span(&w, "a:1");
  seeds[1] = span(&w, "b:22");
  list.off = append(&w, seeds, sizeof seeds, 8);
  put(&w, offsetof(zp_open, config), &config, sizeof config);
  put(&w, offsetof(zp_open, seeds), &list, sizeof list);

  o = zp_open_of(w.buf, w.used);
  CHECK(o && zp_text_is(zp_span_of(&o->h, o->config), "{}"));
  CHECK(o && zp_span_of(&o->h, o->node_id).n == 0);
  seed = (const zp_span *)zp_list_at(&o->h, o->seeds, 1, sizeof(zp_span));
  CHECK(seed && zp_text_is(zp_span_of(&o->h, *seed), "b:22"));
  CHECK(!zp_list_at(&o->h, o->seeds, 2, sizeof(zp_span)));
  CHECK(!zp_list_at(&o->h, o->seeds, 0, sizeof(zp_span) + 1));
  list.stride = 12; /* elements where none may begin */
  CHECK(zp_list_at(&o->h, list, 0, 8) && !zp_list_at(&o->h, list, 1, 8));
  list.off = list.count = list.stride = 0xffffffffu;
  CHECK(!zp_list_at(&o->h, list, 0xfffffffeu, 0xffffffffu));

  CHECK(!zp_open_of(w.buf, sizeof(zp_open) - 1) && !zp_open_of(w.buf, w.used - 1));
  CHECK(!zp_open_of((const char *)w.buf + 4, w.used - 4) && !zp_open_of(0, w.used));
  CHECK(zp_event_of(w.buf, w.used) && !zp_http_resp_of(w.buf, w.used));
  torture(&w);
  shorter(&w, sizeof(zp_open));
  CHECK(!zp_open_of(w.buf, w.used));
  begin(&w, ZP_MSG_BYTES, sizeof(zp_open));
  CHECK(!zp_open_of(w.buf, w.used));
}

static void answers(void) {
  writer w, event;
  zp_kv headers[2];
  zp_list list = { 0, 2, sizeof(zp_kv), 0 };
  zp_span body;
  uint32_t code = 200;
  const zp_http_resp *r;
  begin(&w, ZP_MSG_BYTES, sizeof(zp_http_resp));
  headers[0].key = span(&w, "content-length");
  headers[0].val = span(&w, "4");
  headers[1].key = span(&w, "content-type");
  headers[1].val = span(&w, "text/plain");
  list.off = append(&w, headers, sizeof headers, 8);
  body = span(&w, "body");
  put(&w, offsetof(zp_http_resp, code), &code, sizeof code);
  put(&w, offsetof(zp_http_resp, headers), &list, sizeof list);
  put(&w, offsetof(zp_http_resp, body), &body, sizeof body);

  wrap(&event, ZP_EV_HTTP, &w);
  r = zp_http_resp_of(event.buf, event.used);
  CHECK(r && r->code == 200 && zp_text_is(zp_span_of(&r->h, r->body), "body"));
  CHECK(r && zp_text_is(zp_http_header(r, "content-type"), "text/plain"));
  CHECK(r && zp_http_header(r, "content").n == 0);
  CHECK(!zp_udp_dgram_of(event.buf, event.used) && !zp_open_of(event.buf, event.used));
  torture(&event);
  wrap(&event, ZP_EV_UDP, &w);
  CHECK(!zp_http_resp_of(event.buf, event.used));
  begin(&event, ZP_EV_HTTP, sizeof(zp_event)); /* without a body */
  CHECK(zp_event_of(event.buf, event.used) && !zp_http_resp_of(event.buf, event.used));
  shorter(&event, sizeof(zp_event));
  CHECK(!zp_event_of(event.buf, event.used));
  begin(&w, ZP_MSG_NODES, sizeof(zp_http_resp));
  wrap(&event, ZP_EV_HTTP, &w);
  CHECK(!zp_http_resp_of(event.buf, event.used));
}

static void other_bodies(void) {
  writer w, event;
  zp_span text;
  zp_node_load load;
  zp_list list = { 0, 1, sizeof(zp_node_load), 0 };
  const zp_udp_dgram *d;
  const zp_plan_req *q;
  const zp_snap *s;

  begin(&w, ZP_MSG_BYTES, sizeof(zp_udp_dgram));
  text = span(&w, "10.0.0.1:7946");
  put(&w, offsetof(zp_udp_dgram, from), &text, sizeof text);
  wrap(&event, ZP_EV_UDP, &w);
  d = zp_udp_dgram_of(event.buf, event.used);
  CHECK(d && zp_text_is(zp_span_of(&d->h, d->from), "10.0.0.1:7946"));
  torture(&event);
  wrap(&event, ZP_EV_HTTP, &w); /* too short for an answer */
  CHECK(!zp_http_resp_of(event.buf, event.used));

  begin(&w, ZP_MSG_PLAN, sizeof(zp_plan_req));
  memset(&load, 0, sizeof load);
  load.id = span(&w, "a");
  list.off = append(&w, &load, sizeof load, 8);
  put(&w, offsetof(zp_plan_req, nodes), &list, sizeof list);
  wrap(&event, ZP_EV_MIG_PLAN, &w);
  q = zp_plan_req_of(event.buf, event.used);
  CHECK(q && zp_list_at(&q->h, q->nodes, 0, sizeof(zp_node_load)));
  torture(&event);

  begin(&w, ZP_MSG_BYTES, sizeof(zp_snap));
  text = span(&w, "hourly");
  put(&w, offsetof(zp_snap, label), &text, sizeof text);
  for (uint32_t kind = ZP_EV_SNAP_BEGIN - 1; kind <= ZP_EV_SNAP_RESTORE + 1u; kind++) {
    wrap(&event, kind, &w);
    s = zp_snap_of(event.buf, event.used);
    if (kind < ZP_EV_SNAP_BEGIN || kind > ZP_EV_SNAP_RESTORE) CHECK(!s);
    else CHECK(s && zp_text_is(zp_span_of(&s->h, s->label), "hourly"));
  }
  torture(&event);
}

/* What the host is handed. */
static unsigned char sent[2048];
static uint32_t sent_n;

static int32_t host_http(zp_ctx c, const void *req, uint32_t n, uint64_t *out_token) {
  CHECK(c == 7 && n <= sizeof sent && ((uintptr_t)req & 7) == 0);
  memcpy(sent, req, n);
  sent_n = n;
  *out_token = ZP_TOKEN_BIT | 1;
  return ZP_OK;
}

static void requests(void) {
  static zp_host_api api;
  static char url[1025];
  uint64_t token = 0;
  zp_http_req req;
  zp_text text;
  api.struct_size = sizeof api;
  api.major = ZP_ABI_MAJOR;
  api.minor = ZP_ABI_MINOR;
  api.http = host_http;
  CHECK(zp_plugin_bind_v1(&api) == ZP_OK);

  CHECK(zp_http_get(7, "http://a/b", 10, 1500, &token) == ZP_OK);
  CHECK(token == (ZP_TOKEN_BIT | 1));
  memcpy(&req, sent, sizeof req);
  CHECK(req.h.struct_size == sizeof req && req.h.total_size == sent_n);
  CHECK(req.h.kind == ZP_MSG_HTTP_REQ && req.h.flags == 0 && req.flags == 0);
  CHECK(req.timeout_ms == 1500 && req.max_body == 0 && req.reserved == 0);
  CHECK(req.headers.count == 0 && req.body.len == 0);
  text = zp_span_text(sent, sent_n, req.method);
  CHECK(zp_text_is(text, "GET"));
  text = zp_span_text(sent, sent_n, req.url);
  CHECK(zp_text_is(text, "http://a/b"));

  memset(url, 'u', sizeof url);
  CHECK(zp_http_get(7, url, 1024, 0, &token) == ZP_OK);
  memcpy(&req, sent, sizeof req);
  text = zp_span_text(sent, sent_n, req.url);
  CHECK(text.n == 1024 && memcmp(text.p, url, 1024) == 0);
  sent_n = 0;
  CHECK(zp_http_get(7, url, 1025, 0, &token) == ZP_E_TOO_BIG && sent_n == 0);
}

int main(void) {
  texts();
  opening();
  answers();
  other_bodies();
  requests();
  return failures != 0;
}
