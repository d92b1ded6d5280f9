/* SPDX-License-Identifier: MIT
 * patience.c — how long a request may take to arrive.  libmicrohttpd's own time-out begins anew
 * with each byte, so that a client which sends one now and then would keep its connection for ever
 * (slow loris).  Every connection notes what it owes:
 *
 *   WAITING ─ request line ─▶ HEAD ─ headers ─▶ BODY ─ all of it ─▶ SERVED ─ reply sent ─▶ WAITING
 *
 * and the watch thread looks twice a second.  What is late in HEAD or BODY is answered 408 over the
 * socket itself (libmicrohttpd takes no reply in the middle of a request, and sends nothing then),
 * and shut down, which libmicrohttpd sees as the client's end.  So is a connection whose client
 * left in WAITING, HEAD or BODY: libmicrohttpd's epoll is edge-triggered and takes a short read for
 * an empty socket, so that an end which comes with the last bytes escapes it until its time-out. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "http/http_int.h"
#include "os/clock.h"

#define IDLE_GRACE_S 5u /* libmicrohttpd's own time-out is for those that are merely idle */
#define PATH_BYTES   128u
#define LEFT_GRACE_S 0.4 /* an end is seen for so long: bytes before it have been worked off */

enum owes { OWES_WAITING, OWES_HEAD, OWES_BODY, OWES_NOTHING, OWES_CUT };

struct http_line {
    struct http_line *next, *previous;
    int fd; /* open as long as it is in the list */
    enum owes owes;
    uint64_t since_ns; /* of the request line, or of the end of the last reply */
    uint64_t left_ns;  /* when the client's end was first seen with nothing before it; 0: not yet */
    uint64_t n_received;
    char path[PATH_BYTES];
};

/* Loop thread.  libmicrohttpd tells of a connection's end before it closes the socket. */
void patience_notify(void *arg, struct MHD_Connection *connection, void **memory,
                     enum MHD_ConnectionNotificationCode what)
{
    struct http_server *s = arg;
    struct http_line *l = *memory;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (!l)
            return;
        pthread_mutex_lock(&s->lines_mutex);
        *(l->previous ? &l->previous->next : &s->lines) = l->next;
        if (l->next)
            l->next->previous = l->previous;
        pthread_mutex_unlock(&s->lines_mutex);
        mem_free(l);
        *memory = NULL;
        return;
    }
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    l = mem_try_new(1, sizeof *l); /* without one nobody hurries it: the idle time-out remains */
    if (!l || !i) {
        mem_free(l);
        return;
    }
    *l = (struct http_line){.fd = i->connect_fd, .since_ns = clock_now_ns()};
    *memory = l;
    pthread_mutex_lock(&s->lines_mutex);
    l->next = s->lines;
    if (l->next)
        l->next->previous = l;
    s->lines = l;
    pthread_mutex_unlock(&s->lines_mutex);
}

static struct http_line *line_of(struct http_exchange *x)
{
    const union MHD_ConnectionInfo *i =
        x->connection ? MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
                      : NULL;
    return i ? i->socket_context : NULL;
}

static void set(struct http_exchange *x, enum owes owes, bool begins)
{
    struct http_server *s = x->server;
    struct http_line *l = line_of(x);
    if (!l)
        return;
    pthread_mutex_lock(&s->lines_mutex);
    if (l->owes != OWES_CUT)
        l->owes = owes;
    if (begins) {
        l->since_ns = clock_now_ns();
        l->n_received = 0;
        snprintf(l->path, sizeof l->path, SLICE_FMT, SLICE_ARG(x->path));
    }
    pthread_mutex_unlock(&s->lines_mutex);
}

void patience_line(struct http_exchange *x)
{
    set(x, OWES_HEAD, true);
}

void patience_headers(struct http_exchange *x)
{
    set(x, OWES_BODY, false);
}

void patience_body(struct http_exchange *x, size_t n)
{
    struct http_line *l = line_of(x);
    if (!l)
        return;
    pthread_mutex_lock(&x->server->lines_mutex);
    l->n_received += n;
    pthread_mutex_unlock(&x->server->lines_mutex);
}

void patience_complete(struct http_exchange *x)
{
    set(x, OWES_NOTHING, false);
}

void patience_replied(struct http_exchange *x)
{
    set(x, OWES_WAITING, true);
}

static bool is_late(const struct http_options *o, const struct http_line *l, uint64_t now_ns)
{
    double s = (double)(now_ns - l->since_ns) * 1e-9;
    switch (l->owes) {
    case OWES_WAITING:
        return s > o->idle_s + IDLE_GRACE_S;
    case OWES_HEAD:
        return s > o->head_s;
    case OWES_BODY:
        return s > o->head_s + (double)l->n_received / (double)o->body_rate_min;
    case OWES_NOTHING:
    case OWES_CUT:
        break;
    }
    return false;
}

/* Whether the client has long sent its end, and nothing before it waits to be read. */
static bool has_left(struct http_line *l, uint64_t now_ns)
{
    char byte;
    bool owes_more = l->owes == OWES_WAITING || l->owes == OWES_HEAD || l->owes == OWES_BODY;
    ssize_t n = owes_more ? recv(l->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : 1;
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) {
        l->left_ns = 0;
        return false;
    }
    if (l->left_ns == 0)
        l->left_ns = now_ns;
    return now_ns > l->left_ns && (double)(now_ns - l->left_ns) * 1e-9 >= LEFT_GRACE_S;
}

/* What the socket does not take at once is not worth waiting for. */
static void say_why(struct http_server *s, const struct http_line *l)
{
    static const char why[] = "the request did not arrive in time";
    struct buf body, reply;
    uint64_t id[2];
    buf_init(&body, 4096);
    buf_init(&reply, 8192);
    prng_entropy(id, sizeof id);
    exchange_refusal(s, slice_of(l->path), 408, why, &body);
    buf_printf(&reply,
               "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
               "X-Request-Id: req_%016" PRIx64 "%08" PRIx64
               "\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
               id[0], id[1] & 0xFFFFFFFFu, body.len);
    buf_add_slice(&reply, buf_slice(&body));
    if (!reply.failed)
        (void)send(l->fd, reply.ptr, reply.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    atomic_fetch_add_explicit(&s->replies[408 - HTTP_STATUS_FIRST], 1, memory_order_relaxed);
    buf_release(&body);
    buf_release(&reply);
}

void patience_look(struct http_server *s, uint64_t now_ns)
{
    pthread_mutex_lock(&s->lines_mutex);
    for (struct http_line *l = s->lines; l; l = l->next) {
        bool left = has_left(l, now_ns);
        if (!left && (l->since_ns > now_ns || !is_late(&s->options, l, now_ns)))
            continue;
        if (!left && l->owes != OWES_WAITING)
            say_why(s, l);
        l->owes = OWES_CUT;
        (void)shutdown(l->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&s->lines_mutex);
}
