/* SPDX-License-Identifier: MIT
 * server.c — libmicrohttpd's daemon, its callbacks (all on the loop thread), and the workers.
 *
 *   uri_seen → on_request (headers) → on_request (body)* → on_request (complete): suspend, queue
 *     worker: handle(x) … answer: resume → on_request: queue the response → (read_stream)*
 *   → on_completed, whatever happened. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/http_int.h"
#include "os/clock.h"

/* A client that is still sending when the line is closed gets a reset and never sees why: what is
 * too much is read to nowhere and answered at its end, up to here. */
#define BODY_EXCESS_BYTES_MAX (1u << 30)
#define WORKERS_MAX           64u
#define DRAIN_POLL_MS         2u

struct http_options http_defaults(void)
{
    return (struct http_options){
        .host = "127.0.0.1",
        .port = 8080,
        .connections_max = 4096,
        .connections_per_ip_max = 2048,
        .idle_s = 60,
        .head_s = 10,
        .body_rate_min = 4096,
        .ping_ms = 10000,
        .n_workers = 4,
        .body_bytes_max = 32u << 20,
        .bodies_bytes_max = 512u << 20,
        .stream_bytes_max = 4u << 20,
    };
}

static void quiet(void *arg, const char *fmt, va_list ap)
{
    (void)arg;
    char line[256];
    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    log_debug("http", "%s", line); /* what clients do wrong is their affair */
}

/* The first callback of a request: its result is what on_request finds in *memory. */
static void *uri_seen(void *arg, const char *uri, struct MHD_Connection *connection)
{
    struct http_exchange *x = exchange_new(arg);
    if (!x)
        return NULL;
    x->connection = connection;
    x->is_bad_uri = !guard_uri(x, uri);
    patience_line(x);
    return x;
}

/* What on_request does once it has let go of x->mutex.  The reply is queued outside: libmicrohttpd
 * takes a lock of the response then, and holds the same one when it calls read_stream. */
enum next { NEXT_GO_ON, NEXT_CLOSE, NEXT_QUEUE };

static enum next refuse(struct http_exchange *x, int status, const char *message)
{
    exchange_refuse(x, status, message);
    return NEXT_QUEUE;
}

/* Room for n more bytes among all bodies. */
static bool count_body(struct http_exchange *x, size_t n)
{
    struct http_server *s = x->server;
    if (atomic_fetch_add(&s->bodies_bytes, n) + n > s->options.bodies_bytes_max) {
        atomic_fetch_sub(&s->bodies_bytes, n);
        return false;
    }
    x->body_counted += n;
    return true;
}

static enum next on_headers(struct http_exchange *x, const char *method, const char *version)
{
    struct http_server *s = x->server;
    const char *reason = NULL;
    watch_add(x);
    patience_headers(x);
    char *name = arena_text(&x->arena, method, strlen(method));
    x->method = slice_of(name ? name : "");
    int status = guard_headers(x, version, &reason);
    exchange_name(x);
    if (status)
        return refuse(x, status, reason);
    struct slice length = http_header(x, "content-length");
    /* Digits only, by the guard; NUL-terminated, by the arena. */
    uint64_t n = !length.ptr ? 0 : length.len > 18 ? UINT64_MAX : strtoull(length.ptr, NULL, 10);
    uint64_t max = s->options.body_bytes_max;
    bool is_waiting = http_header(x, "expect").ptr; /* 100-continue: it has not begun to send */
    if (n > max + BODY_EXCESS_BYTES_MAX || (n > max && is_waiting))
        return refuse(x, 413, "the request's body is too large");
    x->body.failed = n > s->options.body_bytes_max;
    x->phase = PHASE_READING;
    return NEXT_GO_ON;
}

static enum next on_body(struct http_exchange *x, const char *bytes, size_t *n)
{
    uint64_t max = x->server->options.body_bytes_max;
    patience_body(x, *n);
    if (x->body.failed || x->body.len + *n > max) {
        x->body.failed = true;
        x->excess_bytes += *n;
        if (x->excess_bytes > max + BODY_EXCESS_BYTES_MAX)
            return NEXT_CLOSE;
    } else if (!count_body(x, *n)) { /* a response can't be queued in the middle of a body */
        x->body.failed = x->is_crowded = true;
    } else {
        buf_add(&x->body, bytes, *n);
    }
    *n = 0;
    return NEXT_GO_ON;
}

static enum next on_complete(struct http_exchange *x)
{
    struct http_server *s = x->server;
    patience_complete(x);
    if (x->body.failed && x->is_crowded)
        return refuse(x, 503, "too many large requests at once");
    if (x->body.failed)
        return refuse(x, 413, "the request's body is too large");
    x->phase = PHASE_HANDLING;
    if (!exchange_suspend(x))
        return NEXT_CLOSE;
    exchange_ref(x); /* the owner's */
    if (ring_try_push(s->requests, x) == OK)
        return NEXT_GO_ON;
    exchange_unref(x);
    exchange_refuse(x, 503, "too many requests at once");
    exchange_resume(x);
    return NEXT_GO_ON;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *n_bytes, void **memory)
{
    struct http_exchange *x = *memory;
    (void)arg, (void)connection, (void)url;
    if (!x)
        return MHD_NO; /* out of memory in uri_seen */
    enum next next = NEXT_CLOSE;
    pthread_mutex_lock(&x->mutex);
    if (atomic_load(&x->server->is_stopping))
        next = NEXT_CLOSE;
    else if (x->phase == PHASE_NEW)
        next = on_headers(x, method, version);
    else if (*n_bytes > 0)
        next = on_body(x, bytes, n_bytes);
    else if (x->phase == PHASE_READING)
        next = on_complete(x);
    else if (x->is_gone)
        next = NEXT_CLOSE;
    else if (x->phase == PHASE_HANDLING)
        next = exchange_suspend(x) ? NEXT_GO_ON : NEXT_CLOSE; /* woken without a reason */
    else if (!x->is_queued)
        next = NEXT_QUEUE;
    x->is_queued |= next == NEXT_QUEUE;
    pthread_mutex_unlock(&x->mutex);
    return next == NEXT_QUEUE ? exchange_queue(x) : next == NEXT_GO_ON ? MHD_YES : MHD_NO;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **memory,
                         enum MHD_RequestTerminationCode why)
{
    struct http_exchange *x = *memory;
    (void)arg, (void)connection, (void)why;
    if (!x)
        return;
    *memory = NULL;
    patience_replied(x);
    watch_remove(x);
    if (x->is_upgraded) { /* libmicrohttpd holds a lock of its own here: none of ours under it */
        exchange_unref(x);
        return;
    }
    pthread_mutex_lock(&x->mutex);
    if (x->body_counted)
        atomic_fetch_sub(&x->server->bodies_bytes, x->body_counted);
    x->body_counted = 0;
    x->is_suspended = false;
    x->connection = NULL;
    struct http_socket *abandoned = x->socket_of;
    pthread_mutex_unlock(&x->mutex);
    exchange_gone(x);
    if (abandoned)
        socket_abandon(abandoned);
    exchange_unref(x);
}

static void work(void *arg)
{
    struct http_server *s = arg;
    for (;;) {
        struct http_exchange *x = ring_pop(s->requests, -1);
        if (!x)
            return;
        if (x->socket_of)
            socket_work(x->socket_of);
        else
            s->options.handle(s->options.arg, x);
    }
}

static enum status start_daemon(struct http_server *s, int fd, struct err *e)
{
    const struct http_options *o = &s->options;
    s->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                                     MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG,
                                 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, quiet,
                                 NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                 o->connections_max, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                                 o->connections_per_ip_max, MHD_OPTION_CONNECTION_TIMEOUT,
                                 o->idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t)HTTP_CONNECTION_MEMORY_BYTES, MHD_OPTION_URI_LOG_CALLBACK,
                                 uri_seen, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                                 MHD_OPTION_NOTIFY_CONNECTION, patience_notify, s, MHD_OPTION_END);
    return s->daemon ? OK : err_set(e, E_IO, "the HTTP daemon does not start");
}

static enum status start_workers(struct http_server *s, struct err *e)
{
    s->requests = ring_new(s->options.connections_max);
    if (!s->requests)
        return err_set(e, E_NOMEM, "HTTP workers");
    for (uint32_t i = 0; i < s->options.n_workers; i++) {
        enum status st = thread_start("http-worker", work, s, &s->workers[i], e);
        if (st != OK)
            return st;
        s->n_workers++;
    }
    return OK;
}

static void stop_workers(struct http_server *s)
{
    if (s->requests)
        ring_close(s->requests);
    for (uint32_t i = 0; i < s->n_workers; i++)
        thread_join(s->workers[i]);
    s->n_workers = 0;
}

static void server_free(struct http_server *s)
{
    sockets_free(s);
    ring_free(s->requests);
    if (s->watch_epoll >= 0)
        close(s->watch_epoll);
    if (s->watch_wake >= 0)
        close(s->watch_wake);
    pthread_mutex_destroy(&s->table_mutex);
    pthread_mutex_destroy(&s->lines_mutex);
    mem_free(s->workers);
    mem_free(s->generations);
    mem_free(s->slots);
    mem_free(s);
}

static struct http_server *server_new(const struct http_options *options)
{
    struct http_server *s = mem_try_new(1, sizeof *s);
    if (!s)
        return NULL;
    s->options = *options;
    s->watch_epoll = s->watch_wake = s->quiet_fd = -1;
    pthread_mutex_init(&s->table_mutex, NULL);
    pthread_mutex_init(&s->lines_mutex, NULL);
    s->slots = mem_try_new(options->connections_max, sizeof *s->slots);
    s->generations = mem_try_new(options->connections_max, sizeof *s->generations);
    s->workers = mem_try_new(options->n_workers, sizeof *s->workers);
    if (s->slots && s->generations && s->workers)
        return s;
    server_free(s);
    return NULL;
}

enum status http_server_start(const struct http_options *options, struct http_server **out,
                              struct err *e)
{
    CHECK(options->handle);
    CHECK(options->n_workers > 0 && options->n_workers <= WORKERS_MAX);
    CHECK(options->body_rate_min > 0);
    CHECK(options->connections_max > 0 && options->connections_max <= HTTP_CONNECTIONS_MAX);
    int fd = -1;
    struct http_server *s = server_new(options);
    if (!s)
        return err_set(e, E_NOMEM, "HTTP server");
    enum status st = OK;
    if (options->listen_fd > 0)
        fd = options->listen_fd;
    else
        st = listen_open(options->host, options->port, &fd, e);
    if (st == OK)
        st = listen_name(s, fd, e);
    if (st == OK)
        st = start_workers(s, e);
    if (st == OK)
        st = watch_start(s, e);
    if (st == OK)
        st = sockets_start(s, e);
    if (st == OK) {
        *out = s; /* before the first request may come */
        st = start_daemon(s, fd, e);
    }
    if (st == OK)
        return OK;
    *out = NULL;
    atomic_store(&s->is_stopping, true);
    watch_stop(s);
    stop_workers(s);
    sockets_stop(s);
    if (fd >= 0)
        close(fd);
    server_free(s);
    return st;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

const char *http_server_host(const struct http_server *s)
{
    return s->host;
}

bool http_server_is_loopback(const struct http_server *s)
{
    return s->is_loopback;
}

void http_server_counts(const struct http_server *s, struct http_counts *out)
{
    for (size_t i = 0; i < ARRAY_COUNT(out->replies); i++)
        out->replies[i] = atomic_load_explicit(&s->replies[i], memory_order_relaxed);
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    out->n_connections = info ? info->num_connections : 0;
}

static void quiesce(struct http_server *s)
{
    if (s->quiet_fd < 0)
        s->quiet_fd = MHD_quiesce_daemon(s->daemon);
}

enum status http_server_hand_over(struct http_server *s, int *fd, struct err *e)
{
    quiesce(s);
    atomic_store(&s->is_handing_over, true);
    *fd = s->quiet_fd >= 0 ? fcntl(s->quiet_fd, F_DUPFD_CLOEXEC, 3) : -1;
    return *fd >= 0 ? OK : err_sys(e, errno, "the listening socket cannot be handed over");
}

void http_server_drain(struct http_server *s, uint32_t ms)
{
    uint64_t start_ns = clock_now_ns();
    struct http_exchange **list = mem_new(s->options.connections_max, sizeof *list);
    uint32_t n;
    quiesce(s);
    sockets_go_away(s);
    do {
        n = watch_list(s, list);
        for (uint32_t i = 0; i < n; i++)
            exchange_unref(list[i]);
        if (n > 0)
            clock_sleep_ms(DRAIN_POLL_MS);
    } while (n > 0 && clock_ms_since(start_ns) < ms);
    mem_free(list);
}

void http_server_stop(struct http_server *s)
{
    if (!s)
        return;
    quiesce(s);
    atomic_store(&s->is_stopping, true); /* no new requests or suspensions on the old ones */
    watch_stop(s);
    stop_workers(s);
    sockets_stop(s);
    struct http_exchange **list = mem_new(s->options.connections_max, sizeof *list);
    uint32_t n = watch_list(s, list);
    for (uint32_t i = 0; i < n; i++) { /* MHD_stop_daemon wants none suspended */
        exchange_gone(list[i]);
        exchange_unref(list[i]);
    }
    mem_free(list);
    MHD_stop_daemon(s->daemon);
    if (s->quiet_fd >= 0)
        close(s->quiet_fd);
    server_free(s);
}
