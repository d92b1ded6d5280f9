/* SPDX-License-Identifier: MIT
 * exchange.c — one request and its answer.  What the loop thread, the owner of the answer and the
 * watch thread do to it meets here, under x->mutex. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "http/http_int.h"
#include "os/clock.h"

/* Headers twice (libmicrohttpd's and ours), target, bookkeeping. */
#define EXCHANGE_ARENA_BYTES (64u << 10)
#define STREAM_BLOCK_BYTES   16384u
#define STREAM_COMPACT_BYTES (64u << 10)

static const char PING[] = ": waiting\n\n";

struct http_exchange *exchange_new(struct http_server *s)
{
    struct http_exchange *x = mem_try_new(1, sizeof *x);
    if (!x)
        return NULL;
    atomic_init(&x->refs, 1);
    x->server = s;
    x->slot = HTTP_NO_SLOT;
    arena_init(&x->arena, EXCHANGE_ARENA_BYTES);
    pthread_mutex_init(&x->mutex, NULL);
    buf_init(&x->body, s->options.body_bytes_max);
    buf_init(&x->out, s->options.stream_bytes_max);
    return x;
}

void exchange_ref(struct http_exchange *x)
{
    atomic_fetch_add(&x->refs, 1);
}

void exchange_unref(struct http_exchange *x)
{
    if (atomic_fetch_sub(&x->refs, 1) != 1)
        return;
    if (x->on_free)
        x->on_free(x->user);
    buf_release(&x->out);
    buf_release(&x->body);
    pthread_mutex_destroy(&x->mutex);
    arena_release(&x->arena);
    mem_free(x);
}

/* ---- the request ---- */
struct slice http_method(const struct http_exchange *x)
{
    return slice_is(x->method, "HEAD") ? SLICE_LIT("GET") : x->method;
}

struct slice http_path(const struct http_exchange *x)
{
    return x->path;
}

struct slice http_query(const struct http_exchange *x)
{
    return x->query;
}

struct slice http_header(const struct http_exchange *x, const char *name)
{
    size_t len = strlen(name);
    for (uint32_t i = 0; i < x->n_headers; i++)
        if (x->headers[i].name.len == len && strncasecmp(x->headers[i].name.ptr, name, len) == 0)
            return x->headers[i].value;
    return (struct slice){NULL, 0};
}

struct slice http_body(const struct http_exchange *x)
{
    return buf_slice(&x->body);
}

const char *http_request_id(const struct http_exchange *x)
{
    return x->id;
}

void exchange_name(struct http_exchange *x)
{
    struct slice given = http_header(x, "x-request-id");
    bool is_good = given.len > 0 && given.len < sizeof x->id;
    for (size_t i = 0; i < given.len && is_good; i++) {
        char c = given.ptr[i];
        is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  (c && strchr("-_.:@/+=~", c));
    }
    if (is_good) {
        snprintf(x->id, sizeof x->id, SLICE_FMT, SLICE_ARG(given));
    } else {
        uint64_t r[2];
        prng_entropy(r, sizeof r);
        snprintf(x->id, sizeof x->id, "req_%016" PRIx64 "%08" PRIx64, r[0], r[1] & 0xFFFFFFFFu);
    }
    x->reply_headers[x->n_reply_headers++] =
        (struct http_pair){SLICE_LIT("X-Request-Id"), slice_of(x->id)};
}

static void drop_body(struct http_exchange *x)
{
    buf_release(&x->body);
    if (x->connection && x->body_counted)
        atomic_fetch_sub(&x->server->bodies_bytes, x->body_counted);
    x->body_counted = 0;
}

void http_body_drop(struct http_exchange *x)
{
    pthread_mutex_lock(&x->mutex);
    drop_body(x);
    pthread_mutex_unlock(&x->mutex);
}

/* ---- hanging up ---- */
void http_attach(struct http_exchange *x, void *user, void (*on_gone)(void *user),
                 void (*on_free)(void *user))
{
    pthread_mutex_lock(&x->mutex);
    CHECK(!x->user);
    x->user = user;
    x->on_gone = on_gone;
    x->on_free = on_free;
    bool tell = x->is_gone;
    pthread_mutex_unlock(&x->mutex);
    if (tell)
        on_gone(user);
}

void exchange_gone(struct http_exchange *x)
{
    pthread_mutex_lock(&x->mutex);
    bool tell = !x->is_gone && !x->is_answered && x->on_gone;
    x->is_gone = true;
    exchange_resume(x);
    pthread_mutex_unlock(&x->mutex);
    if (tell) /* outside the lock: it may want locks that a writer holds */
        x->on_gone(x->user);
}

void exchange_cut(struct http_exchange *x)
{
    pthread_mutex_lock(&x->mutex);
    bool is_due = x->is_overfull && !x->is_gone && x->connection;
    if (is_due) /* libmicrohttpd waits for a writable socket; this is the only way to wake it */
        (void)shutdown(x->socket, SHUT_RDWR);
    pthread_mutex_unlock(&x->mutex);
    if (is_due)
        exchange_gone(x);
}

bool exchange_suspend(struct http_exchange *x)
{
    DCHECK(!x->is_suspended);
    if (atomic_load(&x->server->is_stopping))
        return false;
    x->is_suspended = true;
    MHD_suspend_connection(x->connection);
    return true;
}

void exchange_resume(struct http_exchange *x)
{
    if (!x->is_suspended || !x->connection)
        return;
    x->is_suspended = false;
    MHD_resume_connection(x->connection);
}

/* ---- the answer ---- */
void http_add_header(struct http_exchange *x, const char *name, const char *value)
{
    pthread_mutex_lock(&x->mutex);
    CHECK(x->n_reply_headers < HTTP_REPLY_HEADERS_MAX);
    CHECK(x->phase <= PHASE_HANDLING);
    char *n = arena_text(&x->arena, name, strlen(name));
    char *v = arena_text(&x->arena, value, strlen(value));
    if (n && v) /* a request that filled the arena goes without */
        x->reply_headers[x->n_reply_headers++] = (struct http_pair){slice_of(n), slice_of(v)};
    pthread_mutex_unlock(&x->mutex);
}

static void set_reply(struct http_exchange *x, int status, const char *type, struct buf *body)
{
    drop_body(x);
    buf_release(&x->out);
    x->out = *body;
    *body = (struct buf){0};
    if (x->out.failed) {
        buf_release(&x->out);
        x->out = (struct buf){0};
        status = 500;
        type = "text/plain";
    }
    x->status = status;
    x->type = type;
    x->phase = PHASE_REPLYING;
}

void http_reply(struct http_exchange *x, int status, const char *type, struct buf *body)
{
    pthread_mutex_lock(&x->mutex);
    CHECK(x->phase == PHASE_HANDLING && !x->is_answered);
    set_reply(x, status, type, body);
    x->is_answered = true;
    exchange_resume(x);
    pthread_mutex_unlock(&x->mutex);
    exchange_unref(x);
}

void exchange_refusal(struct http_server *s, struct slice path, int status, const char *message,
                      struct buf *out)
{
    const struct http_options *o = &s->options;
    if (o->refuse)
        o->refuse(o->arg, path, status, message, out);
    else
        buf_printf(
            out, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":null}}\n",
            message, status == 503 ? "server_error" : "invalid_request_error");
}

void exchange_refuse(struct http_exchange *x, int status, const char *message)
{
    struct buf body;
    buf_init(&body, 4096);
    exchange_refusal(x->server, x->path.ptr ? x->path : SLICE_LIT(""), status, message, &body);
    set_reply(x, status, "application/json", &body);
    x->is_answered = true; /* nobody else will */
    x->reply_headers[x->n_reply_headers++] =
        (struct http_pair){SLICE_LIT("Connection"), SLICE_LIT("close")};
    if (status == 503)
        x->reply_headers[x->n_reply_headers++] =
            (struct http_pair){SLICE_LIT("Retry-After"), SLICE_LIT("1")};
}

void http_stream_begin(struct http_exchange *x, int status, const char *type)
{
    pthread_mutex_lock(&x->mutex);
    CHECK(x->phase == PHASE_HANDLING && !x->is_answered);
    drop_body(x);
    x->status = status;
    x->type = type;
    x->is_event_stream = strcmp(type, "text/event-stream") == 0;
    x->phase = PHASE_STREAMING;
    x->last_write_ns = clock_now_ns();
    exchange_resume(x);
    pthread_mutex_unlock(&x->mutex);
}

static enum status append(struct http_exchange *x, struct slice bytes)
{
    if (x->is_gone || !x->connection)
        return E_CANCELLED;
    if (x->is_overfull)
        return E_LIMIT;
    if (x->out_at == x->out.len || x->out_at > STREAM_COMPACT_BYTES) {
        buf_consume(&x->out, x->out_at);
        x->out_at = 0;
    }
    buf_add_slice(&x->out, bytes);
    if (x->out
            .failed) { /* the client is too slow, or no memory: the stream can't go on either way */
        x->is_overfull = true;
        return E_LIMIT;
    }
    x->last_write_ns = clock_now_ns();
    exchange_resume(x);
    return OK;
}

enum status http_stream_write(struct http_exchange *x, struct slice bytes)
{
    pthread_mutex_lock(&x->mutex);
    CHECK(x->phase == PHASE_STREAMING && !x->is_answered);
    bool was_overfull = x->is_overfull;
    enum status st = append(x, bytes);
    /* Telling on_gone from here would call the writer back inside its own call. */
    if (x->is_overfull && !was_overfull && x->connection)
        watch_wake(x->server);
    pthread_mutex_unlock(&x->mutex);
    return st;
}

void http_stream_end(struct http_exchange *x)
{
    pthread_mutex_lock(&x->mutex);
    CHECK(x->phase == PHASE_STREAMING && !x->is_answered);
    x->is_answered = true;
    exchange_resume(x);
    pthread_mutex_unlock(&x->mutex);
    exchange_unref(x);
}

void exchange_ping(struct http_exchange *x, uint64_t now_ns)
{
    pthread_mutex_lock(&x->mutex);
    uint64_t idle_ns = now_ns - x->last_write_ns;
    if (x->phase == PHASE_STREAMING && x->is_event_stream && !x->is_answered &&
        now_ns > x->last_write_ns && idle_ns >= x->server->options.ping_ms * 1000000ull &&
        x->out_at == x->out.len) /* a client that takes nothing needs no more bytes */
        (void)append(x, (struct slice){PING, sizeof PING - 1});
    pthread_mutex_unlock(&x->mutex);
}

/* ---- handing over to libmicrohttpd, on the loop thread ---- */
/* A stream that breaks off.  libmicrohttpd 0.9.75 takes END_WITH_ERROR from a reader, but then
 * looks at the connection again only when its idle time-out has passed, and keeps the socket until
 * then; a write that fails ends it at once.  So the socket is shut, and the client sees no last
 * chunk. */
static ssize_t break_off(struct http_exchange *x)
{
    (void)shutdown(x->socket, SHUT_RDWR);
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static ssize_t read_stream(void *arg, uint64_t at, char *to, size_t max)
{
    struct http_exchange *x = arg;
    (void)at;
    pthread_mutex_lock(&x->mutex);
    ssize_t n = 0;
    size_t have = x->out.len - x->out_at;
    if (x->is_gone || x->is_overfull || atomic_load(&x->server->is_stopping)) {
        n = break_off(x);
    } else if (have > 0) {
        n = (ssize_t)(have < max ? have : max);
        memcpy(to, x->out.ptr + x->out_at, (size_t)n);
        x->out_at += (size_t)n;
    } else if (x->is_answered) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (!exchange_suspend(x)) {
        n = break_off(x);
    }
    pthread_mutex_unlock(&x->mutex);
    return n;
}

static struct MHD_Response *whole_response(struct http_exchange *x)
{
    size_t len = 0;
    char *bytes = buf_take(&x->out, &len);
    if (!bytes || len == 0) {
        mem_free(bytes);
        return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    }
    struct MHD_Response *r =
        MHD_create_response_from_buffer_with_free_callback(len, bytes, mem_free);
    if (!r)
        mem_free(bytes);
    return r;
}

static struct MHD_Response *make_response(struct http_exchange *x)
{
    if (x->phase == PHASE_REPLYING)
        return whole_response(x);
    if (x->phase == PHASE_UPGRADING)
        return socket_response(x->socket_of);
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, x,
                                             NULL);
}

enum MHD_Result exchange_queue(struct http_exchange *x)
{
    bool is_upgrade = x->phase == PHASE_UPGRADING;
    struct MHD_Response *r = make_response(x);
    if (!r)
        return MHD_NO;
    if (!is_upgrade)
        (void)MHD_add_response_header(r, "Content-Type", x->type);
    if (atomic_load(&x->server->is_handing_over) && !is_upgrade) /* the next is the successor's */
        (void)MHD_add_response_header(r, "Connection", "close");
    if (x->phase == PHASE_STREAMING)
        (void)MHD_add_response_header(r, "Cache-Control", "no-cache");
    for (uint32_t i = 0; i < x->n_reply_headers; i++)
        (void)MHD_add_response_header(r, x->reply_headers[i].name.ptr,
                                      x->reply_headers[i].value.ptr);
    if (x->status >= (int)HTTP_STATUS_FIRST && x->status < (int)HTTP_STATUS_END)
        atomic_fetch_add_explicit(&x->server->replies[x->status - (int)HTTP_STATUS_FIRST], 1,
                                  memory_order_relaxed);
    enum MHD_Result result = MHD_queue_response(x->connection, (unsigned)x->status, r);
    MHD_destroy_response(r);
    return result;
}
