/* SPDX-License-Identifier: MIT
 * socket.c — the socket thread, and what others ask of it.
 *
 *   handle(x) ─ http_socket_open ─▶ 101 ─ upgraded() [loop thread] ─▶ the socket thread's epoll
 *     bytes ─ frame.c ─▶ message: is_busy, to a worker ─ user->message ─▶ not busy: read on
 *     http_socket_send ─▶ out ─ flush ─▶ bytes
 *   closing: our close frame is in out; then the peer's, its end, or CLOSE_LINGER_MS ─▶ finish()
 *
 * Only the socket thread touches the descriptor, so that finish() can give it back to libmicrohttpd
 * at any time.  Others set what they want under s->mutex and put the socket on the list of those to
 * look at.  The peer is watched edge-triggered; a socket that was busy is simply read on. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/http_int.h"
#include "os/clock.h"

#define SOCKET_EVENTS    64
#define SOCKET_TICK_MS   500
#define SOCKET_READS_MAX 16u /* of one socket before the others have their turn */
#define CLOSE_LINGER_MS  1000u
#define IDLE_TIMES_MAX   3u
#define COMPACT_BYTES    (64u << 10)

enum socket_state { SOCKET_CONNECTING, SOCKET_OPEN, SOCKET_CLOSED };

struct http_socket {
    atomic_uint refs;           /* connection, list of due ones, worker, the user's */
    struct http_exchange *x;    /* held */
    struct http_server *server; /* not to be used once closed */
    struct http_socket_user user;

    /* Of the socket thread, from upgraded() on. */
    int fd;
    struct MHD_UpgradeResponseHandle *upgrade;
    struct http_socket *next, *previous; /* open ones */
    struct frame_reader reader;
    bool is_listed;
    char in[HTTP_CONNECTION_MEMORY_BYTES]; /* the first may be what libmicrohttpd had read */
    size_t in_at, in_len;
    uint64_t heard_ns, pinged_ns, linger_ns; /* linger_ns: when closing began, or 0 */
    bool has_peer_closed, is_shut;           /* is_shut: nothing is sent any more */
    uint64_t counted;                        /* of server->bodies_bytes */

    pthread_mutex_t mutex; /* guards all below, but for the last two */
    enum socket_state state;
    bool is_busy;    /* a worker has a message */
    bool is_closing; /* a close frame is in out: nothing comes behind it */
    bool is_cut;     /* overfull */
    bool is_told;    /* of being gone */
    uint64_t deadline_ns;
    struct buf out;
    size_t out_at;
    struct slice message; /* in reader */

    struct http_socket *next_due; /* under sockets.mutex */
    bool is_due;
};

struct sockets {
    struct os_thread *thread;
    int epoll, wake;
    struct http_socket *open; /* of the socket thread */

    pthread_mutex_t mutex; /* guards all below; no other lock is taken under it */
    struct http_socket *first_due, *last_due;
    uint32_t n_due;
    bool is_stopping, is_going_away;
};

/* ---- any thread ---- */
static bool has_token(struct slice list, const char *token)
{
    size_t len = strlen(token);
    while (list.len > 0) {
        const char *comma = memchr(list.ptr, ',', list.len);
        size_t n = comma ? (size_t)(comma - list.ptr) : list.len;
        struct slice item = {list.ptr, n};
        while (item.len && (item.ptr[0] == ' ' || item.ptr[0] == '\t'))
            item = (struct slice){item.ptr + 1, item.len - 1};
        while (item.len && (item.ptr[item.len - 1] == ' ' || item.ptr[item.len - 1] == '\t'))
            item.len--;
        if (item.len == len && strncasecmp(item.ptr, token, len) == 0)
            return true;
        n += comma ? 1 : 0;
        list = (struct slice){list.ptr + n, list.len - n};
    }
    return false;
}

int http_socket_refusal(const struct http_exchange *x, const char **reason)
{
    char accept[FRAME_ACCEPT_BYTES];
    struct slice version = http_header(x, "Sec-WebSocket-Version");
    struct slice key = http_header(x, "Sec-WebSocket-Key");
    *reason = "a WebSocket is served here: Upgrade: websocket, Connection: Upgrade";
    if (!has_token(http_header(x, "Upgrade"), "websocket") ||
        !has_token(http_header(x, "Connection"), "upgrade"))
        return 426;
    *reason = "only Sec-WebSocket-Version: 13 is understood";
    if (!slice_is(version, "13"))
        return 426;
    *reason = "malformed Sec-WebSocket-Key";
    return frame_accept(key, accept) ? 0 : 400;
}

void http_socket_ref(struct http_socket *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void http_socket_unref(struct http_socket *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    s->user.free(s->user.user);
    frame_reader_release(&s->reader);
    buf_release(&s->out);
    exchange_unref(s->x);
    pthread_mutex_destroy(&s->mutex);
    mem_free(s);
}

/* The socket thread has work with it.  False: that thread is ending.  Only while it is not closed;
 * s->mutex may be held. */
static bool set_due(struct sockets *all, struct http_socket *s)
{
    pthread_mutex_lock(&all->mutex);
    bool is_taken = !all->is_stopping, is_new = is_taken && !s->is_due;
    if (is_new) {
        http_socket_ref(s);
        s->is_due = true;
        s->next_due = NULL;
        if (all->last_due)
            all->last_due->next_due = s;
        else
            all->first_due = s;
        all->last_due = s;
        all->n_due++;
    }
    pthread_mutex_unlock(&all->mutex);
    if (is_new)
        (void)eventfd_write(all->wake, 1);
    return is_taken;
}

/* The caller's; NULL: none. */
static struct http_socket *next_due(struct sockets *all)
{
    pthread_mutex_lock(&all->mutex);
    struct http_socket *s = all->first_due;
    if (s) {
        all->first_due = s->next_due;
        if (!all->first_due)
            all->last_due = NULL;
        all->n_due--;
        s->is_due = false;
    }
    pthread_mutex_unlock(&all->mutex);
    return s;
}

enum status http_socket_open(struct http_exchange *x, const struct http_socket_user *user,
                             struct http_socket **out, struct err *e)
{
    char accept[FRAME_ACCEPT_BYTES];
    bool is_key = frame_accept(http_header(x, "Sec-WebSocket-Key"), accept);
    CHECK(is_key); /* http_socket_refusal said so */
    struct http_socket *s = mem_try_new(1, sizeof *s);
    if (!s)
        return err_set(e, E_NOMEM, "WebSocket");
    atomic_init(&s->refs, 1);
    s->x = x;
    s->server = x->server;
    s->user = *user;
    s->deadline_ns = user->deadline_ms ? clock_now_ns() + user->deadline_ms * 1000000ull : 0;
    s->fd = -1;
    frame_reader_init(&s->reader, x->server->options.body_bytes_max);
    buf_init(&s->out, x->server->options.stream_bytes_max + HTTP_SOCKET_MESSAGE_MAX);
    pthread_mutex_init(&s->mutex, NULL);
    http_add_header(x, "Upgrade", "websocket");
    http_add_header(x, "Sec-WebSocket-Accept", accept);
    *out = s;
    pthread_mutex_lock(&x->mutex);
    CHECK(x->phase == PHASE_HANDLING && !x->is_answered);
    x->phase = PHASE_UPGRADING;
    x->socket_of = s;
    x->status = 101;
    x->is_answered = true;         /* the answer is the socket; it tells its user by itself */
    bool is_late = !x->connection; /* the client has left already */
    exchange_resume(x);
    pthread_mutex_unlock(&x->mutex);
    if (is_late)
        socket_abandon(s);
    return OK;
}

/* s->mutex held. */
static void begin_close(struct http_socket *s, uint16_t code, const char *reason)
{
    if (s->is_closing || s->state == SOCKET_CLOSED)
        return;
    frame_write_close(&s->out, code, reason);
    s->is_closing = true;
}

/* s->mutex held. */
static void look_at_soon(struct http_socket *s)
{
    if (s->state == SOCKET_OPEN) /* that thread sees to the rest when it is ending */
        (void)set_due(s->server->sockets, s);
}

static bool is_alive(const struct http_socket *s)
{
    return s->state != SOCKET_CLOSED && !s->is_closing && !s->is_cut;
}

/* s->mutex held.  May something be added to out?  What waits there is bounded, not the one message
 * that comes to it. */
static bool make_room(struct http_socket *s)
{
    if (s->out_at == s->out.len || s->out_at > COMPACT_BYTES) {
        buf_consume(&s->out, s->out_at);
        s->out_at = 0;
    }
    s->is_cut = s->is_cut || s->out.len - s->out_at > s->server->options.stream_bytes_max;
    return !s->is_cut;
}

/* s->mutex held. */
static enum status append(struct http_socket *s, struct slice text)
{
    if (make_room(s))
        frame_write_text(&s->out, text);
    s->is_cut = s->is_cut || s->out.failed;
    return s->is_cut ? E_LIMIT : OK;
}

enum status http_socket_send(struct http_socket *s, struct slice text)
{
    enum status st = E_CANCELLED;
    pthread_mutex_lock(&s->mutex);
    if (is_alive(s)) {
        st = append(s, text);
        look_at_soon(s);
    }
    pthread_mutex_unlock(&s->mutex);
    return st;
}

void http_socket_close(struct http_socket *s, uint16_t code, const char *reason)
{
    pthread_mutex_lock(&s->mutex);
    begin_close(s, code, reason);
    look_at_soon(s);
    pthread_mutex_unlock(&s->mutex);
}

void http_socket_deadline(struct http_socket *s, uint32_t ms)
{
    pthread_mutex_lock(&s->mutex);
    s->deadline_ns = ms ? clock_now_ns() + ms * 1000000ull : 0;
    pthread_mutex_unlock(&s->mutex);
}

/* On a worker. */
void socket_work(struct http_socket *s)
{
    s->user.message(s->user.user, s->message);
    pthread_mutex_lock(&s->mutex);
    s->is_busy = false;
    look_at_soon(s);
    pthread_mutex_unlock(&s->mutex);
    http_socket_unref(s);
}

/* ---- the end of a socket ---- */
static void tell_gone(struct http_socket *s)
{
    pthread_mutex_lock(&s->mutex);
    bool tell = !s->is_told;
    s->is_told = true;
    pthread_mutex_unlock(&s->mutex);
    if (tell)
        s->user.gone(s->user.user);
}

static void set_closed(struct http_socket *s)
{
    pthread_mutex_lock(&s->mutex);
    s->state = SOCKET_CLOSED;
    pthread_mutex_unlock(&s->mutex);
    tell_gone(s);
}

/* The connection ended, and is not upgraded any more. */
void socket_abandon(struct http_socket *s)
{
    set_closed(s);
    http_socket_unref(s);
}

static void count(struct http_socket *s, uint64_t now)
{
    if (now > s->counted)
        atomic_fetch_add(&s->server->bodies_bytes, now - s->counted);
    else
        atomic_fetch_sub(&s->server->bodies_bytes, s->counted - now);
    s->counted = now;
}

/* Socket thread: gives the descriptor back. */
static void finish(struct sockets *all, struct http_socket *s)
{
    (void)epoll_ctl(all->epoll, EPOLL_CTL_DEL, s->fd, NULL);
    if (s->previous)
        s->previous->next = s->next;
    else
        all->open = s->next;
    if (s->next)
        s->next->previous = s->previous;
    count(s, 0);
    set_closed(s);
    s->fd = -1;
    (void)MHD_upgrade_action(s->upgrade, MHD_UPGRADE_ACTION_CLOSE);
    http_socket_unref(s);
}

/* ---- the socket thread ---- */

/* False: the connection is broken. */
static bool flush(struct http_socket *s)
{
    bool ok = true;
    pthread_mutex_lock(&s->mutex);
    while (ok && !s->is_cut && s->out_at < s->out.len) {
        ssize_t n = send(s->fd, s->out.ptr + s->out_at, s->out.len - s->out_at,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0 && errno != EINTR)
            ok = false;
        s->out_at += n > 0 ? (size_t)n : 0;
    }
    ok = ok && !s->is_cut;
    if (ok && s->out_at == s->out.len && s->out.cap > COMPACT_BYTES) {
        buf_release(&s->out); /* what a large message took */
        s->out_at = 0;
    }
    pthread_mutex_unlock(&s->mutex);
    return ok;
}

static void answer_ping(struct http_socket *s, struct slice payload)
{
    pthread_mutex_lock(&s->mutex);
    if (is_alive(s) && make_room(s)) {
        frame_write_pong(&s->out, payload);
        s->is_cut = s->out.failed;
    }
    pthread_mutex_unlock(&s->mutex);
}

static void close_with(struct http_socket *s, uint16_t code, const char *reason)
{
    pthread_mutex_lock(&s->mutex);
    begin_close(s, code, reason);
    pthread_mutex_unlock(&s->mutex);
}

/* To a worker.  The ring has a place for each connection, and this one has no request in it. */
static void hand_out(struct http_socket *s, struct slice text)
{
    pthread_mutex_lock(&s->mutex);
    bool is_wanted = is_alive(s);
    s->is_busy = is_wanted;
    s->message = text;
    pthread_mutex_unlock(&s->mutex);
    if (!is_wanted)
        return;
    http_socket_ref(s);
    enum status st = ring_try_push(s->server->requests, s->x);
    if (st == OK)
        return;
    pthread_mutex_lock(&s->mutex);
    s->is_busy = false;
    pthread_mutex_unlock(&s->mutex);
    http_socket_unref(s);
    close_with(s, CLOSE_GOING_AWAY, "the server is stopping");
}

static void on_frame(struct http_socket *s, const struct frame_event *ev)
{
    switch (ev->kind) {
    case FRAME_TEXT:
        hand_out(s, ev->payload);
        break;
    case FRAME_PING:
        answer_ping(s, ev->payload);
        break;
    case FRAME_CLOSE:
        s->has_peer_closed = true;
        close_with(s, ev->code == CLOSE_NONE ? CLOSE_NORMAL : ev->code, "");
        break;
    case FRAME_BROKEN:
        close_with(s, ev->code,
                   ev->code == CLOSE_TOO_BIG ? "the message is too large" : "malformed frame");
        break;
    case FRAME_PONG:
    case FRAME_NOTHING:
        break;
    }
}

/* A socket that is closing is read to nowhere, so that the peer need not be reset. */
static bool takes_frames(struct http_socket *s)
{
    pthread_mutex_lock(&s->mutex);
    bool yes = is_alive(s);
    pthread_mutex_unlock(&s->mutex);
    return yes;
}

static bool is_busy(struct http_socket *s)
{
    pthread_mutex_lock(&s->mutex);
    bool yes = s->is_busy;
    pthread_mutex_unlock(&s->mutex);
    return yes;
}

static void read_frames(struct http_socket *s)
{
    if (!is_busy(s))
        frame_reader_rest(&s->reader);
    while (s->in_at < s->in_len && !is_busy(s)) {
        struct slice rest = {s->in + s->in_at, s->in_len - s->in_at};
        if (s->has_peer_closed || !takes_frames(s)) {
            s->in_at = s->in_len;
            return;
        }
        struct frame_event ev = frame_read(&s->reader, &rest);
        s->in_at = s->in_len - rest.len;
        on_frame(s, &ev);
    }
    count(s, s->reader.message.cap);
    if (atomic_load(&s->server->bodies_bytes) > s->server->options.bodies_bytes_max)
        close_with(s, CLOSE_TOO_BIG, "too many large requests at once");
}

enum reading { READ_ALL, READ_MORE, READ_END };

/* Until nothing is there, or a worker has a message. */
static enum reading read_socket(struct http_socket *s)
{
    for (uint32_t i = 0; i < SOCKET_READS_MAX; i++) {
        read_frames(s);
        if (is_busy(s))
            return READ_ALL; /* socket_work wakes us */
        ssize_t n = recv(s->fd, s->in, sizeof s->in, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return READ_ALL;
        if (n == 0 || (n < 0 && errno != EINTR))
            return READ_END;
        s->in_at = 0;
        s->in_len = n > 0 ? (size_t)n : 0;
        s->heard_ns = clock_now_ns();
    }
    return READ_MORE;
}

/* Nothing of ours is left to send; our close frame was the last. */
static bool is_said(struct http_socket *s)
{
    pthread_mutex_lock(&s->mutex);
    bool yes = s->is_closing && s->out_at == s->out.len;
    bool is_closing = s->is_closing;
    pthread_mutex_unlock(&s->mutex);
    if (is_closing && s->linger_ns == 0) {
        s->linger_ns = clock_now_ns();
        tell_gone(s);
    }
    if (yes && !s->is_shut) { /* the peer sees the end of it, and ends too */
        (void)shutdown(s->fd, SHUT_WR);
        s->is_shut = true;
    }
    return yes;
}

/* All that can be done now.  The socket may be gone afterwards. */
static void look_at(struct sockets *all, struct http_socket *s, bool is_hung_up)
{
    if (s->fd < 0)
        return; /* closed */
    if (is_hung_up && is_busy(s))
        tell_gone(s); /* what its message starts is for nobody */
    enum reading r = read_socket(s);
    bool is_sound = flush(s);
    bool is_over = is_said(s) && s->has_peer_closed;
    if (r == READ_END || !is_sound || is_over) {
        finish(all, s);
    } else if (r == READ_MORE) {
        (void)set_due(all, s);
    }
}

static void adopt(struct sockets *all, struct http_socket *s)
{
    struct epoll_event want = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
    if (s->is_listed)
        return;
    s->is_listed = true;
    s->next = all->open;
    if (s->next)
        s->next->previous = s;
    all->open = s;
    if (epoll_ctl(all->epoll, EPOLL_CTL_ADD, s->fd, &want) != 0)
        finish(all, s);
}

/* Those that are due now; who becomes due meanwhile waits for the next turn. */
static void look_at_due(struct sockets *all)
{
    pthread_mutex_lock(&all->mutex);
    uint32_t n = all->n_due;
    pthread_mutex_unlock(&all->mutex);
    for (; n > 0; n--) {
        struct http_socket *s = next_due(all);
        adopt(all, s);
        look_at(all, s, false);
        http_socket_unref(s);
    }
}

static bool is_past(uint64_t since_ns, uint64_t ms, uint64_t now_ns)
{
    return since_ns && now_ns > since_ns && now_ns - since_ns >= ms * 1000000u;
}

/* Time-outs and pings.  False: it is over. */
static bool look_after(struct http_socket *s, bool is_going_away, uint64_t now_ns)
{
    uint64_t idle_ms = s->server->options.idle_s * 1000ull;
    pthread_mutex_lock(&s->mutex);
    if (s->deadline_ns && now_ns > s->deadline_ns)
        begin_close(s, CLOSE_POLICY, "nothing was said in time");
    if (is_going_away)
        begin_close(s, CLOSE_GOING_AWAY, "the server is stopping");
    bool is_ping_due = is_alive(s) && is_past(s->heard_ns, idle_ms, now_ns) &&
                       is_past(s->pinged_ns, idle_ms, now_ns);
    if (is_ping_due) {
        frame_write_ping(&s->out);
        s->pinged_ns = now_ns;
    }
    pthread_mutex_unlock(&s->mutex);
    return !is_past(s->linger_ns, CLOSE_LINGER_MS, now_ns) &&
           !is_past(s->heard_ns, idle_ms * IDLE_TIMES_MAX, now_ns);
}

static void look_after_all(struct sockets *all, bool is_going_away)
{
    uint64_t now_ns = clock_now_ns();
    for (struct http_socket *s = all->open, *next; s; s = next) {
        next = s->next;
        http_socket_ref(s);
        if (look_after(s, is_going_away, now_ns)) {
            look_at(all, s, false);
        } else {
            finish(all, s);
        }
        http_socket_unref(s);
    }
}

static void serve_events(struct sockets *all, const struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++) {
        struct http_socket *s = events[i].data.ptr;
        eventfd_t count;
        if (s)
            look_at(all, s, events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
        else
            (void)eventfd_read(all->wake, &count);
    }
}

static void serve(void *arg)
{
    struct sockets *all = arg;
    struct epoll_event events[SOCKET_EVENTS];
    uint64_t looked_ns = clock_now_ns();
    for (bool is_stopping = false; !is_stopping;) {
        int n = epoll_wait(all->epoll, events, SOCKET_EVENTS, SOCKET_TICK_MS);
        /* Sockets that end while others of this batch are served stay until the batch is done. */
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                http_socket_ref(events[i].data.ptr);
        serve_events(all, events, n);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                http_socket_unref(events[i].data.ptr);
        look_at_due(all);
        pthread_mutex_lock(&all->mutex);
        bool is_going_away = all->is_going_away;
        is_stopping = all->is_stopping;
        pthread_mutex_unlock(&all->mutex);
        if (is_going_away || clock_ms_since(looked_ns) >= SOCKET_TICK_MS) {
            look_after_all(all, is_going_away);
            looked_ns = clock_now_ns();
        }
    }
    for (struct http_socket *s; (s = next_due(all)); http_socket_unref(s))
        adopt(all, s);
    while (all->open)
        finish(all, all->open);
}

/* ---- from libmicrohttpd, on the loop thread ---- */
static void upgraded(void *arg, struct MHD_Connection *connection, void *memory, const char *extra,
                     size_t n_extra, MHD_socket fd, struct MHD_UpgradeResponseHandle *upgrade)
{
    struct http_socket *s = arg;
    int on = 1, off = 0;
    (void)connection, (void)memory;
    CHECK(n_extra <= sizeof s->in);
    watch_forget(s->x); /* the socket thread watches it from now on */
    s->x->is_upgraded = true;
    pthread_mutex_lock(&s->x->mutex);
    s->x->connection = NULL;
    pthread_mutex_unlock(&s->x->mutex);
    s->fd = fd;
    s->upgrade = upgrade;
    s->in_len = n_extra;
    if (n_extra)
        memcpy(s->in, extra, n_extra);
    s->heard_ns = s->pinged_ns = clock_now_ns();
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    pthread_mutex_lock(&s->mutex);
    s->state = SOCKET_OPEN;
    bool is_taken = set_due(s->server->sockets, s);
    pthread_mutex_unlock(&s->mutex);
    if (is_taken)
        return;
    s->fd = -1;
    set_closed(s);
    (void)MHD_upgrade_action(upgrade, MHD_UPGRADE_ACTION_CLOSE);
    http_socket_unref(s);
}

struct MHD_Response *socket_response(struct http_socket *s)
{
    return MHD_create_response_for_upgrade(upgraded, s);
}

/* ---- start and stop ---- */
enum status sockets_start(struct http_server *server, struct err *e)
{
    struct sockets *all = server->sockets = mem_try_new(1, sizeof *all);
    if (!all)
        return err_set(e, E_NOMEM, "WebSockets");
    pthread_mutex_init(&all->mutex, NULL);
    all->epoll = epoll_create1(EPOLL_CLOEXEC);
    all->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (all->epoll < 0 || all->wake < 0)
        return err_sys(e, errno, "epoll");
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(all->epoll, EPOLL_CTL_ADD, all->wake, &want) != 0)
        return err_sys(e, errno, "epoll");
    return thread_start("http-socket", serve, all, &all->thread, e);
}

static void set_ending(struct sockets *all, bool is_stopping)
{
    pthread_mutex_lock(&all->mutex);
    all->is_going_away = true;
    all->is_stopping = is_stopping;
    pthread_mutex_unlock(&all->mutex);
    (void)eventfd_write(all->wake, 1);
}

void sockets_go_away(struct http_server *server)
{
    set_ending(server->sockets, false);
}

void sockets_stop(struct http_server *server)
{
    struct sockets *all = server->sockets;
    if (!all || !all->thread)
        return;
    set_ending(all, true);
    thread_join(all->thread);
    all->thread = NULL;
}

void sockets_free(struct http_server *server)
{
    struct sockets *all = server->sockets;
    if (!all)
        return;
    if (all->epoll >= 0)
        close(all->epoll);
    if (all->wake >= 0)
        close(all->wake);
    pthread_mutex_destroy(&all->mutex);
    mem_free(all);
    server->sockets = NULL;
}
