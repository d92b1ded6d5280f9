/* SPDX-License-Identifier: MIT
 * swarm.c — libcurl's socket interface over epoll: the cost of a step is that of the sockets that
 * have something to say, so that a thousand idle streams don't delay the one whose byte arrived. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/client_int.h"
#include "os/clock.h"

#define EVENTS_MAX  256
#define WAIT_MS_MAX 1000

struct member {
    struct transfer transfer;
    curl_socket_t watched;
    void (*done)(void *arg, enum status st, const struct err *e);
    void *arg;
    struct member *next, *previous;
};

struct http_swarm {
    CURLM *multi;
    int epoll;
    uint32_t n;
    struct member *members;
    uint64_t timer_ns; /* when libcurl wants to be called; 0: not */
};

static int on_socket(CURL *curl, curl_socket_t fd, int what, void *arg, void *known)
{
    struct http_swarm *s = arg;
    struct epoll_event event = {0};
    char *private = NULL;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
        curl_multi_assign(s->multi, fd, NULL);
        return 0;
    }
    if (curl_easy_getinfo(curl, CURLINFO_PRIVATE, &private) != CURLE_OK || !private)
        return -1;
    struct member *m = (struct member *)(void *)private;
    m->watched = fd;
    event.data.ptr = m;
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    if (epoll_ctl(s->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0)
        return -1;
    curl_multi_assign(s->multi, fd, s);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    struct http_swarm *s = arg;
    (void)multi;
    s->timer_ns = ms < 0 ? 0 : clock_now_ns() + (uint64_t)ms * 1000000u + 1;
    return 0;
}

enum status http_swarm_new(struct http_swarm **out, struct err *e)
{
    client_once();
    struct http_swarm *s = mem_try_new(1, sizeof *s);
    if (!s)
        return err_set(e, E_NOMEM, "HTTP swarm");
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->multi = curl_multi_init();
    if (s->epoll < 0 || !s->multi) {
        enum status st = err_sys(e, errno, "HTTP swarm");
        http_swarm_free(s);
        return st;
    }
    curl_multi_setopt(s->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(s->multi, CURLMOPT_SOCKETDATA, s);
    curl_multi_setopt(s->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(s->multi, CURLMOPT_TIMERDATA, s);
    curl_multi_setopt(s->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    *out = s;
    return OK;
}

static void remove_member(struct http_swarm *s, struct member *m)
{
    curl_multi_remove_handle(s->multi, m->transfer.curl);
    if (m->next)
        m->next->previous = m->previous;
    if (m->previous)
        m->previous->next = m->next;
    else
        s->members = m->next;
    s->n--;
}

static void free_member(struct member *m)
{
    curl_slist_free_all(m->transfer.headers);
    curl_easy_cleanup(m->transfer.curl);
    mem_free(m);
}

void http_swarm_free(struct http_swarm *s)
{
    if (!s)
        return;
    while (s->members) {
        struct member *m = s->members;
        remove_member(s, m);
        free_member(m);
    }
    if (s->multi)
        curl_multi_cleanup(s->multi);
    if (s->epoll >= 0)
        close(s->epoll);
    mem_free(s);
}

uint32_t http_swarm_count(const struct http_swarm *s)
{
    return s->n;
}

enum status http_swarm_start(struct http_swarm *s, const struct http_call *call,
                             struct http_answer *answer,
                             void (*done)(void *arg, enum status st, const struct err *e),
                             void *arg, struct err *e)
{
    if (s->n >= HTTP_SWARM_MAX)
        return err_set(e, E_LIMIT, "more than %u calls at once", HTTP_SWARM_MAX);
    struct member *m = mem_try_new(1, sizeof *m);
    if (m)
        m->transfer.curl = curl_easy_init();
    if (!m || !m->transfer.curl) {
        mem_free(m);
        return err_set(e, E_NOMEM, "HTTP call");
    }
    m->transfer.fd = CURL_SOCKET_BAD;
    m->done = done;
    m->arg = arg;
    enum status st = transfer_begin(&m->transfer, call, answer, e);
    if (st != OK) {
        free_member(m);
        return st;
    }
    curl_easy_setopt(m->transfer.curl, CURLOPT_PRIVATE, (char *)m);
    curl_easy_setopt(m->transfer.curl, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(m->transfer.curl, CURLOPT_FORBID_REUSE, 1L);
    m->next = s->members;
    if (s->members)
        s->members->previous = m;
    s->members = m;
    s->n++;
    if (curl_multi_add_handle(s->multi, m->transfer.curl) != CURLM_OK) {
        remove_member(s, m);
        free_member(m);
        return err_set(e, E_IO, "%s: libcurl refused the call", call->url);
    }
    return OK;
}

static void tell_ends(struct http_swarm *s)
{
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(s->multi, &left)) != NULL;) {
        char *private = NULL;
        struct err e = {0};
        CURLcode rc = message->data.result; /* the message dies with the handle */
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        struct member *m = (struct member *)(void *)private;
        remove_member(s, m);
        enum status st = transfer_end(&m->transfer, rc, &e);
        void (*done)(void *arg, enum status, const struct err *) = m->done;
        void *arg = m->arg;
        free_member(m);
        done(arg, st, &e);
    }
}

static int wait_ms(const struct http_swarm *s, uint64_t until_ns)
{
    uint64_t now = clock_now_ns(), next = until_ns;
    if (s->timer_ns && s->timer_ns < next)
        next = s->timer_ns;
    if (next <= now)
        return 0;
    uint64_t ms = (next - now) / 1000000u;
    return ms > WAIT_MS_MAX ? WAIT_MS_MAX : (int)ms; /* the last part of a millisecond is polled */
}

void http_swarm_run(struct http_swarm *s, uint64_t until_ns)
{
    do {
        struct epoll_event events[EVENTS_MAX];
        int running;
        int n = epoll_wait(s->epoll, events, EVENTS_MAX, wait_ms(s, until_ns));
        for (int i = 0; i < n; i++) {
            int what = (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
                       (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                       (events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0);
            struct member *m = events[i].data.ptr; /* alive: only tell_ends() frees */
            transfer_look(&m->transfer);
            curl_multi_socket_action(s->multi, m->watched, what, &running);
        }
        if (s->timer_ns && clock_now_ns() >= s->timer_ns) {
            s->timer_ns = 0;
            curl_multi_socket_action(s->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        tell_ends(s);
    } while (s->n && clock_now_ns() < until_ns);
}
