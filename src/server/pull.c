/* SPDX-License-Identifier: MIT
 * pull.c — POST /api/pull: a model from the hub into the folder of models, with lines that tell how
 * far it is.  Each pull has a thread; when its client leaves, or the server stops, it ends within a
 * moment, and what arrived is not fetched again. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "fetch/fetch.h"
#include "os/clock.h"
#include "os/team.h"
#include "server/server_int.h"

#define PULL_CONNECTIONS 4u
#define TELL_MS          200.0

struct pulling {
    struct server *server;
    struct http_exchange *x;
    const struct api_dialect *dialect;
    struct api_pull what;
    atomic_bool *is_over; /* of its slot */
    atomic_bool is_gone;
    atomic_uint refs; /* exchange, thread */
    uint64_t told_ns;
    char told[FETCH_NAME_MAX]; /* the step that was told last */
};

static void unref(void *user)
{
    struct pulling *p = user;
    if (atomic_fetch_sub(&p->refs, 1) == 1)
        mem_free(p);
}

static void on_gone(void *user)
{
    struct pulling *p = user;
    atomic_store(&p->is_gone, true);
}

/* ---- lines ---- */
static void tell(struct pulling *p, struct buf *line)
{
    buf_add_char(line, '\n');
    if (p->what.is_stream && http_stream_write(p->x, buf_slice(line)) != OK)
        atomic_store(&p->is_gone, true);
    buf_release(line);
}

static void tell_status(struct pulling *p, const char *status)
{
    struct buf line;
    buf_init(&line, 65536);
    api_pull_write(&line, status);
    tell(p, &line);
}

static bool on_progress(void *arg, const char *name, const char *what, uint64_t done,
                        uint64_t total)
{
    struct pulling *p = arg;
    struct buf line;
    uint64_t now = clock_now_ns();
    bool is_new = strncmp(p->told, what, sizeof p->told - 1) != 0;
    if (is_new || done == total || (double)(now - p->told_ns) * 1e-6 > TELL_MS) {
        snprintf(p->told, sizeof p->told, "%s", what);
        p->told_ns = now;
        buf_init(&line, 65536);
        api_pull_write_progress(&line, what, name, done, total);
        tell(p, &line);
    }
    return !atomic_load(&p->is_gone) && !atomic_load(&p->server->ends_pulls);
}

static enum status on_check(void *arg, const char *path, struct err *e)
{
    struct engine_card card;
    (void)arg;
    enum status st = engine_card_read(path, &card, e);
    if (st == OK)
        engine_card_release(&card);
    return st;
}

static void on_fetched(void *arg, const char *path, const struct fetch_result *r)
{
    (void)arg;
    log_info("server", "pulled path=%s bytes=%llu fetched=%llu verified=%d", path,
             (unsigned long long)r->bytes, (unsigned long long)r->fetched_bytes, r->is_verified);
}

/* ---- its thread ---- */
static void answer(struct pulling *p, enum status st, const struct err *e)
{
    struct buf out;
    struct api_error error;
    if (st != OK)
        api_error_from(&error, e);
    if (st != OK && !p->what.is_stream) {
        route_error(p->x, p->dialect, &error);
        return;
    }
    buf_init(&out, 65536);
    if (st == OK)
        api_pull_write(&out, "success");
    else
        api_error_write(&out, p->dialect, &error);
    if (p->what.is_stream) {
        tell(p, &out);
        http_stream_end(p->x);
    } else {
        buf_add_char(&out, '\n');
        http_reply(p->x, 200, "application/json", &out);
    }
}

static void run(void *arg)
{
    struct pulling *p = arg;
    struct server *s = p->server;
    struct err e = {.pos = ERR_NO_POS};
    atomic_bool *is_over = p->is_over;
    if (p->what.is_stream)
        http_stream_begin(p->x, 200, "application/x-ndjson");
    tell_status(p, "pulling manifest");
    const struct fetch_model m = {.source = p->what.source,
                                  .base_url = s->hub_url,
                                  .dir = fleet_dir(s->fleet),
                                  .authorization = s->hub_authorization,
                                  .connections = PULL_CONNECTIONS,
                                  .progress = on_progress,
                                  .check = on_check,
                                  .fetched = on_fetched,
                                  .arg = p};
    enum status st = fetch_model(&m, &e);
    if (st != OK)
        log_warn("server", "not pulled model=%s: %s", p->what.source, e.msg);
    answer(p, st, &e);
    unref(p);
    atomic_store(is_over, true);
    server_count_end(s);
}

/* ---- the request ---- */
/* A slot whose thread has ended, or never was; NULL: PULLS_MAX run. */
static struct pull_slot *free_slot(struct server *s)
{
    for (uint32_t i = 0; i < PULLS_MAX; i++) {
        struct pull_slot *slot = &s->pulls[i];
        if (slot->thread && !atomic_load(&slot->is_over))
            continue;
        if (slot->thread)
            thread_join(slot->thread);
        slot->thread = NULL;
        return slot;
    }
    return NULL;
}

static enum status start(const struct visit *v, const struct api_pull *what, struct err *e)
{
    struct server *s = v->server;
    struct pulling *p = mem_try_new(1, sizeof *p);
    if (!p)
        return err_set(e, E_NOMEM, "no memory for a pull");
    pthread_mutex_lock(&s->pull_mutex);
    struct pull_slot *slot = free_slot(s);
    enum status st = slot ? OK : err_set(e, E_BUSY, "%u models are being pulled", PULLS_MAX);
    if (st == OK) {
        *p = (struct pulling){.server = s,
                              .x = v->x,
                              .dialect = v->endpoint->dialect,
                              .what = *what,
                              .is_over = &slot->is_over};
        atomic_init(&p->refs, 2);
        atomic_store(&slot->is_over, false);
        server_count_begin(s);
        http_attach(v->x, p, on_gone, unref);
        st = thread_start("pull", run, p, &slot->thread, e);
        if (st != OK) {
            server_count_end(s);
            unref(p);
        }
    } else {
        mem_free(p);
    }
    pthread_mutex_unlock(&s->pull_mutex);
    return st;
}

void pulls_end(struct server *s)
{
    pthread_mutex_lock(&s->pull_mutex);
    for (uint32_t i = 0; i < PULLS_MAX; i++)
        if (s->pulls[i].thread)
            thread_join(s->pulls[i].thread);
    pthread_mutex_unlock(&s->pull_mutex);
}

void pull_post(const struct visit *v)
{
    struct server *s = v->server;
    struct api_pull what = {0};
    struct api_error error;
    struct err e = {0};
    struct buf out;
    struct api_ask ask = {.fleet = s->fleet,
                          .engine = v->engine,
                          .info = engine_info(v->engine),
                          .context = server_context(v),
                          .body = http_body(v->x),
                          .pull = s->hub_url && fleet_has_many(s->fleet) ? &what : NULL,
                          .is_admin = v->is_admin};
    buf_init(&out, API_REPLY_BYTES_MAX);
    enum status st = api_answer(v->endpoint->dialect, &ask, &out, &error);
    if (st == OK && !what.is_wanted) {
        http_reply(v->x, 200, "application/json", &out);
        return;
    }
    buf_release(&out);
    if (st == OK) {
        st = start(v, &what, &e);
        if (st == OK)
            return;
        api_error_from(&error, &e);
    }
    route_error(v->x, v->endpoint->dialect, &error);
}
