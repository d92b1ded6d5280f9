/* SPDX-License-Identifier: MIT
 * pull.c — POST /api/pull: a model from the hub into the folder of models, with lines that tell how
 * far it is; and LM Studio's downloads, jobs that no client waits for.  Each pull has a thread;
 * when its client leaves, or the server stops, it ends within a moment, and what arrived is not
 * fetched again. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/prng.h"
#include "fetch/fetch.h"
#include "os/clock.h"
#include "os/team.h"
#include "server/server_int.h"

#define PULL_CONNECTIONS 4u
#define TELL_MS          200.0

struct pulling {
    struct server *server;
    struct http_exchange *x; /* NULL: a job */
    struct api_download *job;
    const struct api_dialect *dialect;
    struct api_pull what;
    atomic_bool *is_over; /* of its slot */
    atomic_bool is_gone;
    atomic_uint refs; /* exchange, thread */
    uint64_t told_ns, begun_bytes, bytes;
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

/* ---- jobs ---- */
static void note_progress(struct pulling *p, const char *what, uint64_t done, uint64_t total)
{
    if (strcmp(what, "fetching") != 0)
        return;
    struct api_download *d = p->job;
    pthread_mutex_lock(&p->server->pull_mutex);
    if (!p->told_ns) { /* what an earlier try left counts for no speed */
        p->told_ns = clock_now_ns();
        p->begun_bytes = done;
    }
    double s = clock_ms_since(p->told_ns) * 1e-3;
    d->done_bytes = done;
    d->total_bytes = total;
    d->bytes_per_s = s > 0 ? ((double)done - (double)p->begun_bytes) / s : 0;
    pthread_mutex_unlock(&p->server->pull_mutex);
}

static void end_job(struct pulling *p, enum status st, const struct err *e)
{
    struct api_download *d = p->job;
    pthread_mutex_lock(&p->server->pull_mutex);
    d->ended_ms = clock_unix_ms();
    d->state = st == OK ? API_DOWNLOADED : API_DOWNLOAD_FAILED;
    if (st == OK && !d->total_bytes)
        d->total_bytes = p->bytes;
    if (st == OK)
        d->done_bytes = d->total_bytes;
    else
        snprintf(d->error, sizeof d->error, "%s", e->msg);
    pthread_mutex_unlock(&p->server->pull_mutex);
}

/* Room for a job; NULL: all are running. */
static struct api_download *new_job(struct server *s, const char *source)
{
    struct api_download *d = NULL;
    uint64_t random;
    if (s->n_downloads < DOWNLOADS_MAX)
        d = &s->downloads[s->n_downloads++];
    for (uint32_t i = 0; !d && i < DOWNLOADS_MAX; i++)
        d = s->downloads[i].state != API_DOWNLOADING ? &s->downloads[i] : NULL;
    for (uint32_t i = 0; i < s->n_downloads && d; i++)
        if (s->downloads[i].state != API_DOWNLOADING && s->downloads[i].ended_ms < d->ended_ms)
            d = &s->downloads[i];
    if (!d)
        return NULL;
    *d = (struct api_download){.state = API_DOWNLOADING, .started_ms = clock_unix_ms()};
    prng_entropy(&random, sizeof random);
    snprintf(d->id, sizeof d->id, "job_%010llx", (unsigned long long)(random & 0xFFFFFFFFFFu));
    snprintf(d->source, sizeof d->source, "%s", source);
    return d;
}

static bool on_progress(void *arg, const char *name, const char *what, uint64_t done,
                        uint64_t total)
{
    struct pulling *p = arg;
    struct buf line;
    if (!p->x) {
        note_progress(p, what, done, total);
        return !atomic_load(&p->server->ends_pulls);
    }
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
    struct pulling *p = arg;
    p->bytes += r->bytes;
    log_info("server", "pulled path=%s bytes=%llu fetched=%llu verified=%d", path,
             (unsigned long long)r->bytes, (unsigned long long)r->fetched_bytes, r->is_verified);
}

/* ---- its thread ---- */
static void answer(struct pulling *p, enum status st, const struct err *e)
{
    struct buf out;
    struct api_error error;
    if (!p->x) {
        end_job(p, st, e);
        return;
    }
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
    if (p->x)
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

/* A thread for p in that slot; under the lock. */
static enum status start_in(struct pull_slot *slot, struct pulling *p, struct err *e)
{
    p->is_over = &slot->is_over;
    atomic_store(&slot->is_over, false);
    server_count_begin(p->server);
    enum status st = thread_start("pull", run, p, &slot->thread, e);
    if (st != OK)
        server_count_end(p->server);
    return st;
}

static enum status start(const struct visit *v, const struct api_pull *what, struct err *e)
{
    struct server *s = v->server;
    struct pulling *p = mem_try_new(1, sizeof *p);
    if (!p)
        return err_set(e, E_NOMEM, "no memory for a pull");
    *p = (struct pulling){.server = s, .x = v->x, .dialect = v->endpoint->dialect, .what = *what};
    pthread_mutex_lock(&s->pull_mutex);
    struct pull_slot *slot = free_slot(s);
    enum status st = slot ? OK : err_set(e, E_BUSY, "%u models are being pulled", PULLS_MAX);
    if (st == OK) {
        atomic_init(&p->refs, 2);
        http_attach(v->x, p, on_gone, unref);
        st = start_in(slot, p, e);
        if (st != OK)
            unref(p);
    } else {
        mem_free(p);
    }
    pthread_mutex_unlock(&s->pull_mutex);
    return st;
}

static struct api_download *running_job(struct server *s, const char *source)
{
    for (uint32_t i = 0; i < s->n_downloads; i++)
        if (s->downloads[i].state == API_DOWNLOADING && strcmp(s->downloads[i].source, source) == 0)
            return &s->downloads[i];
    return NULL;
}

/* The model's job, which may have been there, as it stands now. */
static enum status start_job(const struct visit *v, const struct api_pull *what,
                             struct api_download *out, struct err *e)
{
    struct server *s = v->server;
    enum status st = OK;
    pthread_mutex_lock(&s->pull_mutex);
    struct api_download *job = running_job(s, what->source);
    if (!job) {
        struct pulling *p = mem_try_new(1, sizeof *p);
        struct pull_slot *slot = free_slot(s);
        job = p && slot ? new_job(s, what->source) : NULL;
        if (!p)
            st = err_set(e, E_NOMEM, "no memory for a pull");
        else if (!job)
            st = err_set(e, E_BUSY, "%u models are being pulled", PULLS_MAX);
        if (st == OK) {
            *p = (struct pulling){.server = s, .job = job, .what = *what};
            atomic_init(&p->refs, 1);
            st = start_in(slot, p, e);
        }
        if (st != OK) {
            mem_free(p);
            if (job) {
                job->state = API_DOWNLOAD_FAILED;
                snprintf(job->error, sizeof job->error, "%s", e->msg);
            }
        }
    }
    if (st == OK)
        *out = *job;
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

/* [DOWNLOADS_MAX] copies; returns how many. */
static uint32_t copy_jobs(struct server *s, struct api_download *out)
{
    const int64_t now_ms = clock_unix_ms();
    pthread_mutex_lock(&s->pull_mutex);
    uint32_t n = s->n_downloads;
    memcpy(out, s->downloads, n * sizeof *out);
    pthread_mutex_unlock(&s->pull_mutex);
    for (uint32_t i = 0; i < n; i++)
        out[i].now_ms = now_ms;
    return n;
}

void pull_serve(const struct visit *v)
{
    struct server *s = v->server;
    struct api_pull what = {0};
    struct api_download job, jobs[DOWNLOADS_MAX];
    struct api_error error;
    struct err e = {0};
    struct buf out;
    struct api_ask ask = {.fleet = s->fleet,
                          .engine = v->engine,
                          .info = engine_info(v->engine),
                          .context = server_context(v),
                          .id = v->id,
                          .body = http_body(v->x),
                          .downloads = jobs,
                          .n_downloads = copy_jobs(s, jobs),
                          .pull = s->hub_url && fleet_has_many(s->fleet) ? &what : NULL,
                          .is_admin = v->is_admin};
    buf_init(&out, API_REPLY_BYTES_MAX);
    enum status st = api_answer(v->endpoint->dialect, &ask, &out, &error);
    if (st == OK && what.is_wanted) {
        st = what.is_job ? start_job(v, &what, &job, &e) : start(v, &what, &e);
        if (st == OK && !what.is_job) {
            buf_release(&out);
            return;
        }
        if (st == OK) {
            buf_clear(&out);
            api_download_write(&out, &job);
        } else {
            api_error_from(&error, &e);
        }
    }
    if (st == OK) {
        http_reply(v->x, 200, "application/json", &out);
        return;
    }
    buf_release(&out);
    route_error(v->x, v->endpoint->dialect, &error);
}
