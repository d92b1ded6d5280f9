/* SPDX-License-Identifier: MIT
 * watch.c — sees what a suspended connection can't: that its client hung up (libmicrohttpd notices
 * at the next resume only: seconds of prefill for nobody).  An epoll of our own holds the sockets
 * of all live exchanges, edge-triggered, for EPOLLRDHUP alone.  A client that shuts down its
 * sending side counts as gone: none of the known ones does so and waits. An event names slot and
 * generation, not a pointer: the exchange may have ended meanwhile. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "http/http_int.h"
#include "os/clock.h"

#define WATCH_EVENTS  64
#define WATCH_TICK_MS 500
#define WATCH_WAKE    UINT64_MAX

static int socket_of(struct http_exchange *x)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return i ? i->connect_fd : -1;
}

void watch_add(struct http_exchange *x)
{
    struct http_server *s = x->server;
    pthread_mutex_lock(&s->table_mutex);
    uint32_t slot = s->first_free;
    /* libmicrohttpd refuses connections beyond this count, and each has one request at a time. */
    CHECK(slot < s->options.connections_max);
    s->slots[slot] = x;
    uint32_t generation = ++s->generations[slot];
    while (s->first_free < s->options.connections_max && s->slots[s->first_free])
        s->first_free++;
    pthread_mutex_unlock(&s->table_mutex);
    x->slot = slot;
    struct epoll_event want = {.events = EPOLLRDHUP | EPOLLET,
                               .data.u64 = (uint64_t)generation << 32 | slot};
    /* Should it fail, a hang-up is noticed when something is written. */
    x->socket = socket_of(x);
    (void)epoll_ctl(s->watch_epoll, EPOLL_CTL_ADD, x->socket, &want);
}

void watch_remove(struct http_exchange *x)
{
    struct http_server *s = x->server;
    if (x->slot == HTTP_NO_SLOT)
        return;
    (void)epoll_ctl(s->watch_epoll, EPOLL_CTL_DEL, x->socket, NULL);
    pthread_mutex_lock(&s->table_mutex);
    s->slots[x->slot] = NULL;
    if (x->slot < s->first_free)
        s->first_free = x->slot;
    pthread_mutex_unlock(&s->table_mutex);
    x->slot = HTTP_NO_SLOT;
}

void watch_forget(struct http_exchange *x)
{
    (void)epoll_ctl(x->server->watch_epoll, EPOLL_CTL_DEL, x->socket, NULL);
}

static struct http_exchange *find(struct http_server *s, uint64_t name)
{
    uint32_t slot = (uint32_t)name;
    struct http_exchange *x = NULL;
    pthread_mutex_lock(&s->table_mutex);
    if (slot < s->options.connections_max && s->generations[slot] == (uint32_t)(name >> 32))
        x = s->slots[slot];
    if (x)
        exchange_ref(x);
    pthread_mutex_unlock(&s->table_mutex);
    return x;
}

uint32_t watch_list(struct http_server *s, struct http_exchange **list)
{
    uint32_t n = 0;
    pthread_mutex_lock(&s->table_mutex);
    for (uint32_t i = 0; i < s->options.connections_max; i++) {
        if (!s->slots[i])
            continue;
        list[n++] = s->slots[i];
        exchange_ref(s->slots[i]);
    }
    pthread_mutex_unlock(&s->table_mutex);
    return n;
}

/* Comments for idle streams; the end of those whose client takes nothing. */
static void look_after(struct http_server *s, struct http_exchange **list)
{
    uint64_t now_ns = clock_now_ns();
    uint32_t n = watch_list(s, list);
    for (uint32_t i = 0; i < n; i++) {
        exchange_cut(list[i]);
        exchange_ping(list[i], now_ns);
        exchange_unref(list[i]);
    }
}

static void watch(void *arg)
{
    struct http_server *s = arg;
    struct http_exchange **list = mem_new(s->options.connections_max, sizeof(void *));
    struct epoll_event events[WATCH_EVENTS];
    uint64_t looked_ns = clock_now_ns();
    while (!atomic_load(&s->is_stopping)) {
        int n = epoll_wait(s->watch_epoll, events, WATCH_EVENTS, WATCH_TICK_MS);
        bool is_woken = false;
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == WATCH_WAKE) {
                eventfd_t count;
                (void)eventfd_read(s->watch_wake, &count);
                is_woken = true;
                continue;
            }
            struct http_exchange *x = find(s, events[i].data.u64);
            if (x) {
                exchange_gone(x);
                exchange_unref(x);
            }
        }
        if (is_woken || clock_ms_since(looked_ns) >= WATCH_TICK_MS) {
            look_after(s, list);
            patience_look(s, clock_now_ns());
            looked_ns = clock_now_ns();
        }
    }
    mem_free(list);
}

void watch_wake(struct http_server *s)
{
    (void)eventfd_write(s->watch_wake, 1);
}

enum status watch_start(struct http_server *s, struct err *e)
{
    s->watch_epoll = epoll_create1(EPOLL_CLOEXEC);
    s->watch_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->watch_epoll < 0 || s->watch_wake < 0)
        return err_sys(e, errno, "epoll");
    struct epoll_event want = {.events = EPOLLIN, .data.u64 = WATCH_WAKE};
    if (epoll_ctl(s->watch_epoll, EPOLL_CTL_ADD, s->watch_wake, &want) != 0)
        return err_sys(e, errno, "epoll");
    return thread_start("http-watch", watch, s, &s->watcher, e);
}

void watch_stop(struct http_server *s)
{
    if (s->watcher) {
        watch_wake(s);
        thread_join(s->watcher);
        s->watcher = NULL;
    }
}
