/* SPDX-License-Identifier: MIT
 * server.c — start, drain, stop; the signals of `kvasir serve`. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "server/server_int.h"

#define DRAIN_MS_DEFAULT   10000u
#define FLUSH_MS_MAX       2000u /* for clients to take the last bytes */
#define SIGNAL_POLL_MS     50u
#define HAND_OVER_QUIET_MS 100u /* without a request: whoever is connected is idle */
#define OPEN_FILES_WANTED  65536u

struct server_options server_defaults(void)
{
    return (struct server_options){.host = "127.0.0.1", .port = 8080, .drain_ms = DRAIN_MS_DEFAULT};
}

static void server_free(struct server *s)
{
    keys_release(&s->keys);
    pthread_cond_destroy(&s->ended);
    pthread_mutex_destroy(&s->mutex);
    pthread_mutex_destroy(&s->pull_mutex);
    mem_free(s->hub_url);
    mem_free(s->hub_authorization);
    mem_free(s->allow_origin);
    if (s->owns_fleet)
        fleet_close(s->fleet);
    mem_free(s);
}

static struct server *server_new(const struct server_options *options, struct engine *g)
{
    struct server *s = mem_try_new(1, sizeof *s);
    if (!s)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->ended, &attr);
    pthread_condattr_destroy(&attr);
    keys_init(&s->keys);
    s->engine = g;
    s->info = engine_info(g);
    s->keeps_nonces = options->keeps_nonces;
    s->fleet = options->fleet;
    pthread_mutex_init(&s->pull_mutex, NULL);
    if (options->hub_url)
        s->hub_url = mem_text(options->hub_url, strlen(options->hub_url));
    if (options->hub_authorization)
        s->hub_authorization =
            mem_text(options->hub_authorization, strlen(options->hub_authorization));
    if (options->allow_origin)
        s->allow_origin = mem_text(options->allow_origin, strlen(options->allow_origin));
    return s;
}

enum status server_start(const struct server_options *options, struct engine *g,
                         struct server **out, struct err *e)
{
    if (options->max_connections > HTTP_CONNECTIONS_MAX)
        return err_set(e, E_INVALID, "at most %u connections", HTTP_CONNECTIONS_MAX);
    struct server *s = server_new(options, g);
    if (!s)
        return err_set(e, E_NOMEM, "server");
    enum status st = s->fleet ? OK : fleet_of_engine(g, options->alias, &s->fleet, e);
    s->owns_fleet = !options->fleet && st == OK;
    struct http_options o = http_defaults();
    o.host = options->host ? options->host : "127.0.0.1";
    o.port = options->port;
    o.listen_fd = options->listen_fd;
    if (options->max_body_bytes)
        o.body_bytes_max = options->max_body_bytes;
    if (o.bodies_bytes_max < o.body_bytes_max)
        o.bodies_bytes_max = o.body_bytes_max;
    if (options->max_connections)
        o.connections_max = options->max_connections;
    o.handle = route_handle;
    o.refuse = route_refuse;
    o.arg = s;
    snprintf(s->bind_host, sizeof s->bind_host, "%s", o.host);
    if (st == OK)
        st = server_reload(s, options, e);
    s->keys.is_needed = s->keys.n > 0;
    if (st == OK)
        st = http_server_start(&o, &s->http, e);
    if (st != OK) {
        server_free(s);
        return st;
    }
    snprintf(s->url, sizeof s->url, "http://%s:%u", http_server_host(s->http),
             http_server_port(s->http));
    if (!http_server_is_loopback(s->http) && !s->keys.is_needed)
        log_warn("server", "open to the network without an API key url=%s", s->url);
    *out = s;
    return OK;
}

enum status server_reload(struct server *s, const struct server_options *options, struct err *e)
{
    return keys_load(&s->keys, options, engine_sessions(s->engine), e);
}

const char *server_url(const struct server *s)
{
    return s->url;
}

/* True when nothing runs any more. */
static bool wait_idle(struct server *s, uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    int rc = 0;
    pthread_mutex_lock(&s->mutex);
    while (s->n_running > 0 && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&s->ended, &s->mutex, &until);
    bool is_idle = s->n_running == 0;
    pthread_mutex_unlock(&s->mutex);
    return is_idle;
}

void server_stop(struct server *s, uint32_t drain_ms)
{
    if (!s)
        return;
    atomic_store(&s->is_draining, true);
    if (!wait_idle(s, drain_ms)) {
        /* A request that is just being submitted shows up a moment later: ask again. */
        fleet_refuse(s->fleet);
        atomic_store(&s->ends_pulls, true);
        do
            generate_cancel_all(s);
        while (!wait_idle(s, SIGNAL_POLL_MS));
    }
    pulls_end(s);
    http_server_drain(s->http, FLUSH_MS_MAX);
    http_server_stop(s->http);
    server_free(s);
}

/* ---- kvasir serve ---- */
static void raise_open_files(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur >= OPEN_FILES_WANTED)
        return;
    l.rlim_cur = l.rlim_max < OPEN_FILES_WANTED ? l.rlim_max : OPEN_FILES_WANTED;
    if (setrlimit(RLIMIT_NOFILE, &l) != 0)
        log_warn("server", "open files stay limited limit=%llu", (unsigned long long)l.rlim_cur);
}

/* A successor asks for the socket: it listens from now on, this process ends. */
static enum status on_hand_over(void *arg, int *fd, struct err *e)
{
    struct server *s = arg;
    if (atomic_exchange(&s->is_handing_over, true))
        return err_set(e, E_BUSY, "this server is handing over already");
    enum status st = http_server_hand_over(s->http, fd, e);
    if (st == OK)
        kill(getpid(), SIGTERM); /* the main thread waits for it */
    else
        atomic_store(&s->is_handing_over, false);
    return st;
}

/* Those that were connected are answered, and told to connect anew: until none has asked for a
 * moment. */
static void see_off(struct server *s, uint32_t drain_ms)
{
    uint64_t start_ns = clock_now_ns();
    for (unsigned seen = atomic_load(&s->n_seen), before = seen - 1;
         (seen != before || !wait_idle(s, 0)) && clock_ms_since(start_ns) < drain_ms;
         seen = atomic_load(&s->n_seen)) {
        before = seen;
        clock_sleep_ms(HAND_OVER_QUIET_MS);
    }
}

/* Lets requests end; a second signal, or the time, cuts it short. */
static void drain(struct server *s, const sigset_t *signals, uint32_t drain_ms)
{
    uint64_t start_ns = clock_now_ns();
    const struct timespec tick = {.tv_nsec = SIGNAL_POLL_MS * 1000000L};
    if (atomic_load(&s->is_handing_over))
        see_off(s, drain_ms);
    atomic_store(&s->is_draining, true);
    while (!wait_idle(s, 0) && clock_ms_since(start_ns) < drain_ms)
        if (sigtimedwait(signals, NULL, &tick) > 0)
            break;
}

static void reload(struct server *s, const struct server_options *options)
{
    struct err e = {0};
    if (options->reload)
        options->reload(options->reload_arg);
    if (server_reload(s, options, &e) == OK)
        log_info("server", "reloaded keys=%u", s->keys.n);
    else
        log_error("server", "not reloaded, the old keys stay: %s", e.msg);
}

enum status server_run(const struct server_options *options, struct engine *g, struct err *e)
{
    sigset_t signals;
    struct server *s = NULL;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    /* Blocked before threads are made, so that they arrive in sigwaitinfo alone. */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_open_files();
    enum status st = server_start(options, g, &s, e);
    if (st != OK)
        return st;
    engine_on_hand_over(g, on_hand_over, s);
    printf("kvasir: listening on %s\n", server_url(s));
    fflush(stdout);
    int which;
    do {
        which = sigwaitinfo(&signals, NULL);
        if (which == SIGHUP)
            reload(s, options);
    } while (which == SIGHUP || (which < 0 && errno == EINTR));
    sigdelset(&signals, SIGHUP); /* of no meaning any more */
    log_info("server", "stopping signal=%d drain_ms=%u", which, options->drain_ms);
    engine_on_hand_over(g, NULL, NULL);
    drain(s, &signals, options->drain_ms);
    server_stop(s, 0);
    return OK;
}
