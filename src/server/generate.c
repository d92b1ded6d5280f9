/* SPDX-License-Identifier: MIT
 * generate.c — one generation: request → engine → answer.
 *
 *   worker: parse, submit ──▶ engine's threads: on_event … last event: answer given back to http
 *                                   ▲
 *   http's watch thread: on_gone ───┘ engine_cancel (also when the reader is too slow)
 *
 * The engine may end a request before engine_submit has returned, and the client may leave before
 * its id is known; so the id and the wish to cancel meet under g->mutex, and the struct lives until
 * both the exchange and the submitter have let go of it. */
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "server/server_int.h"

/* Of a stream, one event's bytes; of a whole reply, all of it. */
#define OUT_BYTES_MAX API_REPLY_BYTES_MAX

struct generation {
    struct server *server;
    atomic_uint refs; /* exchange, submitter */

    /* Between http_attach and the last event one thread at a time: the submitter, then the
     * engine's. */
    struct http_exchange *x;
    struct api_call *call;
    struct buf out;
    bool is_streaming; /* the head of the stream is out */
    bool is_cut;       /* nothing more can be written */
    bool was_cancelled;
    uint64_t start_ns;

    pthread_mutex_t mutex; /* guards the three below */
    bool has_id, is_cancelled;
    uint64_t id;

    struct generation *next, *previous; /* in server->first, under server->mutex */
};

static void generation_unref(struct generation *g)
{
    if (atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    api_call_free(g->call);
    buf_release(&g->out);
    pthread_mutex_destroy(&g->mutex);
    mem_free(g);
}

static void on_free(void *user)
{
    generation_unref(user);
}

static void cancel(struct generation *g)
{
    pthread_mutex_lock(&g->mutex);
    bool is_now = g->has_id && !g->is_cancelled;
    uint64_t id = g->id;
    g->is_cancelled = true;
    pthread_mutex_unlock(&g->mutex);
    if (is_now)
        engine_cancel(g->server->engine, id);
}

static void on_gone(void *user)
{
    cancel(user);
}

static void list_add(struct generation *g)
{
    struct server *s = g->server;
    pthread_mutex_lock(&s->mutex);
    g->next = s->first;
    if (g->next)
        g->next->previous = g;
    s->first = g;
    s->n_running++;
    pthread_mutex_unlock(&s->mutex);
}

static void list_remove(struct generation *g)
{
    struct server *s = g->server;
    pthread_mutex_lock(&s->mutex);
    if (g->previous)
        g->previous->next = g->next;
    else
        s->first = g->next;
    if (g->next)
        g->next->previous = g->previous;
    pthread_mutex_unlock(&s->mutex);
}

/* The answer is with http now; server_stop may go on. */
static void count_end(struct server *s)
{
    pthread_mutex_lock(&s->mutex);
    if (--s->n_running == 0)
        pthread_cond_broadcast(&s->ended);
    pthread_mutex_unlock(&s->mutex);
}

void generate_cancel_all(struct server *s)
{
    /* Cancelling takes locks of the engine's, so not under s->mutex: a few at a time, held by a
     * reference of our own. */
    struct generation *batch[64];
    for (;;) {
        size_t n = 0;
        pthread_mutex_lock(&s->mutex);
        for (struct generation *g = s->first; g && n < ARRAY_COUNT(batch); g = g->next) {
            pthread_mutex_lock(&g->mutex);
            bool is_new = !g->is_cancelled;
            pthread_mutex_unlock(&g->mutex);
            if (!is_new)
                continue;
            atomic_fetch_add(&g->refs, 1);
            batch[n++] = g;
        }
        pthread_mutex_unlock(&s->mutex);
        if (n == 0)
            return;
        for (size_t i = 0; i < n; i++) {
            cancel(batch[i]);
            generation_unref(batch[i]);
        }
    }
}

/* ---- answers ---- */
static void answer_error(struct generation *g, const struct api_error *error)
{
    if (!g->is_streaming) {
        route_error(g->x, error);
        return;
    }
    buf_clear(&g->out);
    api_reply_error(g->call, error, &g->out);
    if (http_stream_write(g->x, buf_slice(&g->out)) != OK) /* gone or not, the stream ends here */
        log_debug("server", "nobody reads the error id=%s", api_call_id(g->call));
    http_stream_end(g->x);
}

static void answer_whole(struct generation *g)
{
    if (g->is_streaming)
        http_stream_end(g->x);
    else
        http_reply(g->x, 200, "application/json", &g->out);
}

static void log_end(const struct generation *g, const struct engine_usage *u, const char *how)
{
    log_info(
        "server",
        "%s id=%s stream=%d prompt=%u memory=%u disk=%u computed=%u completion=%u queue_ms=%.1f "
        "lookup_ms=%.2f prefill_ms=%.1f decode_ms=%.1f total_ms=%.1f",
        how, api_call_id(g->call), api_call_is_stream(g->call), u->prompt_tokens, u->memory_tokens,
        u->disk_tokens, u->computed_tokens, u->completion_tokens, u->queue_ms, u->lookup_ms,
        u->prefill_ms, u->decode_ms, clock_ms_since(g->start_ns));
}

static void on_done(struct generation *g, const struct engine_event *ev)
{
    struct api_error error;
    if (g->was_cancelled) {
        log_end(g, ev->usage, "cancelled");
        api_error_http(&error, 503, "cancelled", "the server is stopping");
        answer_error(g, &error);
    } else if (g->is_cut) {
        log_end(g, ev->usage, "cut");
        api_error_http(&error, 500, NULL, "the reply outgrew this server's limits");
        answer_error(g, &error);
    } else {
        log_end(g, ev->usage, "done");
        answer_whole(g);
    }
}

static void on_error(struct generation *g, const struct engine_event *ev)
{
    struct api_error error;
    api_error_event(&error, ev);
    log_info("server", "failed id=%s status=%d total_ms=%.1f: %s", api_call_id(g->call), error.http,
             clock_ms_since(g->start_ns), error.message);
    answer_error(g, &error);
}

/* Bytes for the client.  When it can't take them, on_gone comes by itself and cancels. */
static void pass_on(struct generation *g, const struct engine_event *ev)
{
    bool is_stream = api_call_is_stream(g->call);
    if (ev->kind == EVENT_STARTED && is_stream && !g->is_streaming) {
        http_stream_begin(g->x, 200, "text/event-stream");
        g->is_streaming = true;
    }
    if (g->is_cut)
        return;
    if (is_stream)
        buf_clear(&g->out);
    if (api_reply_event(g->call, ev, &g->out) != OK) {
        g->is_cut = true;
        cancel(g);
    } else if (is_stream && g->out.len > 0 && http_stream_write(g->x, buf_slice(&g->out)) != OK) {
        g->is_cut = true;
    }
}

static void on_event(void *arg, const struct engine_event *ev)
{
    struct generation *g = arg;
    struct server *s = g->server;
    if (ev->kind == EVENT_FINISHED && ev->finish == FINISH_CANCELLED)
        g->was_cancelled = true;
    pass_on(g, ev);
    if (ev->kind != EVENT_DONE && ev->kind != EVENT_ERROR)
        return;
    list_remove(g);
    if (ev->kind == EVENT_DONE) /* gives the exchange back: g may be gone afterwards */
        on_done(g, ev);
    else
        on_error(g, ev);
    count_end(s);
}

/* ---- the request ---- */
static struct generation *generation_new(struct server *s, struct http_exchange *x,
                                         struct api_call *call)
{
    struct generation *g = mem_try_new(1, sizeof *g);
    if (!g)
        return NULL;
    g->server = s;
    atomic_init(&g->refs, 2);
    g->x = x;
    g->call = call;
    g->start_ns = clock_now_ns();
    buf_init(&g->out, OUT_BYTES_MAX);
    pthread_mutex_init(&g->mutex, NULL);
    return g;
}

static void submit(struct generation *g, struct engine_request *r)
{
    struct server *s = g->server;
    struct err e = {.pos = ERR_NO_POS};
    uint64_t id = 0;
    r->event = on_event;
    r->event_arg = g;
    http_attach(g->x, g, on_gone, on_free);
    list_add(g);
    enum status st = engine_submit(s->engine, r, &id, &e);
    if (st != OK) {
        struct api_error error;
        api_error_from(&error, &e);
        log_info("server", "refused id=%s status=%d: %s", api_call_id(g->call), error.http, e.msg);
        engine_request_free(r);
        list_remove(g);
        answer_error(g, &error);
        count_end(s);
    } else {
        pthread_mutex_lock(&g->mutex);
        g->has_id = true;
        g->id = id;
        bool is_late = g->is_cancelled;
        pthread_mutex_unlock(&g->mutex);
        if (is_late)
            engine_cancel(s->engine, id);
    }
    generation_unref(g);
}

void generate(struct server *s, struct http_exchange *x, enum api_dialect dialect)
{
    struct api_error error = {0};
    struct api_call *call = NULL;
    struct generation *g = NULL;
    struct api_context context = {.model_name = s->name,
                                  .n_vocab = s->info->vocabulary.n_vocab,
                                  .tokenizer = engine_tokenizer(s->engine),
                                  .now_unix_s = clock_unix_s()};
    if (atomic_load(&s->is_draining)) {
        api_error_http(&error, 503, "draining", "the server is stopping");
        route_error(x, &error);
        return;
    }
    struct slice session = http_header(x, "X-Session-Id");
    struct engine_request *r = engine_request_new(s->engine);
    enum status st = r ? api_call_new(dialect, http_body(x), session, &context, r, &call, &error)
                       : api_error_set(&error, E_NOMEM, NULL, "out of memory");
    http_body_drop(x); /* its values are in r's arena */
    if (st == OK) {
        g = generation_new(s, x, call);
        if (!g)
            st = api_error_set(&error, E_NOMEM, NULL, "out of memory");
    }
    if (st == OK) {
        submit(g, r);
        return;
    }
    api_call_free(call);
    if (r)
        engine_request_free(r);
    route_error(x, &error);
}
