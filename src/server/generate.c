/* SPDX-License-Identifier: MIT
 * generate.c — one generation: request → engine → answer.  A request of several prompts is as many
 * requests to the engine (parts) and one answer.
 *
 *   worker: parse, submit ──▶ engine's threads: on_event … last event: answer given back to http
 *                                   ▲
 *   http's watch thread: on_gone ───┘ engine_cancel (also when the reader is too slow)
 *
 * The engine may end a request before engine_submit has returned, and the client may leave before
 * its id is known; so the id and the wish to cancel meet under g->mutex, and the struct lives until
 * both the exchange and the submitter have let go of it.  Events of one part come one at a time,
 * those of several may not: g->events puts them in a row. */
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "server/server_int.h"

/* Parts of one request that are open in the engine at once: others want their turn in its queue. */
#define PARTS_OPEN_MAX 64u
/* Of a stream, one event's bytes; of a whole reply, all of it. */
#define OUT_BYTES_MAX API_REPLY_BYTES_MAX

struct part {
    struct generation *generation;
    uint32_t prompt;
    bool has_id; /* under generation->mutex */
    uint64_t id;
    uint64_t token_ns[ENGINE_CHOICES_MAX]; /* of the choice's last token; under events */
};

struct generation {
    struct server *server;
    struct fleet_model *model; /* held */
    struct engine *engine;     /* its */
    atomic_uint refs;          /* exchange, submitter */

    pthread_mutex_t events; /* guards all down to mutex, from http_attach to the last event */
    uint32_t n_open;        /* parts whose last event has not come */
    uint32_t n_submitted;   /* parts: the first ones */
    struct engine_request **requests; /* [n_parts]; what is submitted is the engine's */
    bool has_failed;
    struct api_error error; /* of the part that failed first */
    struct sink sink;
    struct api_call *call;
    struct buf out;
    bool is_streaming; /* the head of the stream is out */
    bool is_cut;       /* nothing more can be written */
    bool was_cancelled;
    uint64_t start_ns;
    bool has_token;
    struct server_key *key;            /* held; NULL: none */
    char request_id[REQUEST_ID_BYTES]; /* of the visit */

    pthread_mutex_t mutex; /* guards is_cancelled and the parts' ids */
    bool is_cancelled;

    struct generation *next, *previous; /* in server->first, under server->mutex */
    uint32_t n_parts;
    struct part parts[];
};

void generation_unref(struct generation *g)
{
    if (atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    int64_t keep_s = api_call_keep_s(g->call);
    api_call_free(g->call);
    fleet_give(g->server->fleet, g->model, keep_s);
    key_unref(g->key);
    buf_release(&g->out);
    mem_free(g->requests);
    pthread_mutex_destroy(&g->mutex);
    pthread_mutex_destroy(&g->events);
    mem_free(g);
}

static void on_free(void *user)
{
    generation_unref(user);
}

void generation_cancel(struct generation *g)
{
    uint64_t ids[API_TEXTS_MAX];
    uint32_t n = 0;
    pthread_mutex_lock(&g->mutex);
    for (uint32_t i = 0; i < g->n_parts && !g->is_cancelled; i++)
        if (g->parts[i].has_id)
            ids[n++] = g->parts[i].id;
    g->is_cancelled = true;
    pthread_mutex_unlock(&g->mutex);
    for (uint32_t i = 0; i < n; i++)
        engine_cancel(g->engine, ids[i]);
}

static void on_gone(void *user)
{
    generation_cancel(user);
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

void server_count_begin(struct server *s)
{
    pthread_mutex_lock(&s->mutex);
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
void server_count_end(struct server *s)
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
            generation_cancel(batch[i]);
            generation_unref(batch[i]);
        }
    }
}

/* ---- answers ---- */
static void answer_error(struct generation *g, const struct api_error *error)
{
    void *to = g->sink.to;
    if (!g->is_streaming) {
        g->sink.does->fail(to, api_call_dialect(g->call), error);
        return;
    }
    buf_clear(&g->out);
    api_reply_error(g->call, error, &g->out);
    /* Gone or not, the stream ends here. */
    if (g->sink.does->write(to, buf_slice(&g->out)) != OK)
        log_debug("server", "nobody reads the error id=%s", api_call_id(g->call));
    g->sink.does->end(to);
}

static void answer_whole(struct generation *g)
{
    if (g->is_streaming) {
        g->sink.does->end(g->sink.to);
    } else {
        g->sink.does->head(g->sink.to, g->call);
        g->sink.does->reply(g->sink.to, &g->out);
    }
}

/* The client may have asked for the end; else this server did. */
static void answer_cancelled(struct generation *g)
{
    struct api_error error;
    if (g->sink.does->stop && g->sink.does->stop(g->sink.to, g->call))
        return;
    api_error_http(&error, 503, "cancelled", "the server is stopping");
    answer_error(g, &error);
}

static void log_end(const struct generation *g, const struct engine_usage *u, const char *how)
{
    log_info("server",
             "%s request=%s id=%s stream=%d prompt=%u memory=%u disk=%u computed=%u completion=%u "
             "queue_ms=%.1f "
             "lookup_ms=%.2f prefill_ms=%.1f decode_ms=%.1f total_ms=%.1f",
             how, g->request_id, api_call_id(g->call), api_call_is_stream(g->call),
             u->prompt_tokens, u->memory_tokens, u->disk_tokens, u->computed_tokens,
             u->completion_tokens, u->queue_ms, u->lookup_ms, u->prefill_ms, u->decode_ms,
             clock_ms_since(g->start_ns));
}

static uint32_t count_open(struct server *s)
{
    pthread_mutex_lock(&s->mutex);
    uint32_t n = s->n_running;
    pthread_mutex_unlock(&s->mutex);
    return n;
}

static void set_retry_after(struct server *s, struct api_error *error)
{
    if (error->http == 429 && error->retry_after_s == 0)
        error->retry_after_s = metrics_retry_after_s(&s->metrics, count_open(s));
}

/* What it was, for the operator and for its key's account. */
static void count(struct generation *g)
{
    struct metrics *m = &g->server->metrics;
    const struct engine_usage *u = api_reply_usage(g->call);
    uint64_t now = clock_now_ns();
    enum outcome outcome = g->has_failed      ? OUTCOME_FAILED
                           : g->was_cancelled ? OUTCOME_CANCELLED
                           : g->is_cut        ? OUTCOME_FAILED
                                              : OUTCOME_DONE;
    metrics_end(m, api_dialect_family(api_call_dialect(g->call)), outcome, now);
    histogram_add(&m->request, now - g->start_ns);
    histogram_add(&m->queue, (uint64_t)(u->queue_ms * 1e6));
    key_end(g->key, now, (uint64_t)u->computed_tokens + u->completion_tokens);
}

/* All parts have ended.  Gives the exchange back: g may be gone afterwards. */
static void answer(struct generation *g)
{
    const struct engine_usage *usage = api_reply_usage(g->call);
    struct api_error error;
    if (g->has_failed) {
        log_info("server", "failed request=%s id=%s status=%d total_ms=%.1f: %s", g->request_id,
                 api_call_id(g->call), g->error.http, clock_ms_since(g->start_ns),
                 g->error.message);
        error = g->error;
        set_retry_after(g->server, &error);
        answer_error(g, &error);
    } else if (g->was_cancelled) {
        log_end(g, usage, "cancelled");
        answer_cancelled(g);
    } else if (g->is_cut) {
        log_end(g, usage, "cut");
        api_error_http(&error, 500, NULL, "the reply outgrew this server's limits");
        answer_error(g, &error);
    } else {
        log_end(g, usage, "done");
        answer_whole(g);
    }
}

/* Bytes for the client.  When it can't take them, on_gone comes by itself and cancels. */
static void pass_on(struct generation *g, uint32_t prompt, const struct engine_event *ev)
{
    bool is_stream = api_call_is_stream(g->call);
    if (g->is_cut || g->has_failed)
        return;
    if (is_stream)
        buf_clear(&g->out);
    api_call_set_time(g->call, clock_unix_ns());
    if (api_reply_event(g->call, prompt, ev, &g->out) != OK) {
        g->is_cut = true;
        generation_cancel(g);
        return;
    }
    if (ev->kind == EVENT_STARTED && is_stream && !g->is_streaming) {
        g->sink.does->head(g->sink.to, g->call);
        g->sink.does->begin(g->sink.to, api_call_stream_type(g->call));
        g->is_streaming = true;
    }
    if (is_stream && g->out.len > 0 && g->sink.does->write(g->sink.to, buf_slice(&g->out)) != OK)
        g->is_cut = true;
}

/* The first failure is the request's; the other parts would be for nothing. */
static void fail(struct generation *g, const struct api_error *error)
{
    if (g->has_failed)
        return;
    g->has_failed = true;
    g->error = *error;
}

static bool end_part(struct generation *g)
{
    return --g->n_open == 0;
}

static void finish(struct generation *g)
{
    struct server *s = g->server;
    list_remove(g);
    count(g);
    answer(g);
    server_count_end(s);
}

static void time_token(struct part *part, const struct engine_event *ev)
{
    struct generation *g = part->generation;
    struct metrics *m = &g->server->metrics;
    uint64_t now = ev->drawn_ns, *last = &part->token_ns[ev->choice];
    if (!g->has_token)
        histogram_add(&m->first_token, now - g->start_ns);
    else if (*last)
        histogram_add(&m->between_tokens, now - *last);
    g->has_token = true;
    *last = now;
}

static void submit_more(struct generation *g);

static void on_event(void *arg, const struct engine_event *ev)
{
    struct part *part = arg;
    struct generation *g = part->generation;
    bool is_end = ev->kind == EVENT_ERROR || ev->kind == EVENT_DONE;
    pthread_mutex_lock(&g->events);
    if (ev->kind == EVENT_FINISHED && ev->finish == FINISH_CANCELLED)
        g->was_cancelled = true;
    if (ev->kind == EVENT_TEXT && ev->token != TOKEN_NONE)
        time_token(part, ev);
    if (ev->kind == EVENT_ERROR) {
        struct api_error error;
        api_error_event(&error, ev);
        fail(g, &error);
        pthread_mutex_unlock(&g->events);
        generation_cancel(g); /* g stays: this part is still open */
        pthread_mutex_lock(&g->events);
    } else {
        pass_on(g, part->prompt, ev);
    }
    pthread_mutex_unlock(&g->events);
    if (!is_end)
        return;
    submit_more(g); /* this part is still open, so g stays */
    pthread_mutex_lock(&g->events);
    bool is_last = end_part(g);
    pthread_mutex_unlock(&g->events);
    if (is_last)
        finish(g);
}

static bool on_turn_key(void *arg, uint32_t choice, struct digest *key)
{
    struct part *part = arg;
    struct generation *g = part->generation;
    pthread_mutex_lock(&g->events);
    bool ok = !g->is_cut && !g->has_failed && api_call_turn_key(g->call, part->prompt, choice, key);
    pthread_mutex_unlock(&g->events);
    return ok;
}

/* ---- the request ---- */
static struct generation *generation_new(const struct visit *v, const struct sink *sink,
                                         struct api_call *call)
{
    uint32_t n = api_call_n_prompts(call);
    struct generation *g = mem_try_new(1, sizeof *g + n * sizeof *g->parts);
    struct engine_request **requests = g ? mem_try_new(n, sizeof *requests) : NULL;
    if (!requests) {
        mem_free(g);
        return NULL;
    }
    g->requests = requests;
    g->server = v->server;
    g->model = v->model;
    g->engine = v->engine;
    fleet_ref(v->server->fleet, v->model);
    atomic_init(&g->refs, 2);
    g->sink = *sink;
    g->call = call;
    g->start_ns = v->start_ns;
    g->key = v->key;
    key_ref(g->key);
    memcpy(g->request_id, v->request_id, sizeof g->request_id);
    g->n_parts = g->n_open = n;
    for (uint32_t i = 0; i < n; i++)
        g->parts[i] = (struct part){.generation = g, .prompt = i};
    buf_init(&g->out, OUT_BYTES_MAX);
    pthread_mutex_init(&g->events, NULL);
    pthread_mutex_init(&g->mutex, NULL);
    return g;
}

/* False: the part is over already. */
static bool submit_part(struct generation *g, uint32_t index)
{
    struct part *part = &g->parts[index];
    struct engine_request *r = g->requests[index];
    struct err e = {.pos = ERR_NO_POS};
    uint64_t id = 0;
    r->event = on_event;
    r->event_arg = part;
    r->is_read_whole = !api_call_is_stream(g->call);
    r->turn_key = api_call_keeps_turns(g->call) ? on_turn_key : NULL;
    enum status st = engine_submit(g->engine, r, &id, &e);
    if (st != OK) {
        struct api_error error;
        api_error_from(&error, &e);
        engine_request_free(r);
        pthread_mutex_lock(&g->events);
        fail(g, &error);
        pthread_mutex_unlock(&g->events);
        return false;
    }
    pthread_mutex_lock(&g->mutex);
    part->has_id = true;
    part->id = id;
    bool is_late = g->is_cancelled;
    pthread_mutex_unlock(&g->mutex);
    if (is_late)
        engine_cancel(g->engine, id);
    return true;
}

static bool is_cancelled(struct generation *g)
{
    pthread_mutex_lock(&g->mutex);
    bool is = g->is_cancelled;
    pthread_mutex_unlock(&g->mutex);
    return is;
}

/* The index of the part to be submitted next; false: none may be now.  Those that need not begin
 * any more end here. */
static bool take_next(struct generation *g, uint32_t *index)
{
    uint32_t from, to;
    bool is_over = is_cancelled(g), may = false;
    pthread_mutex_lock(&g->events);
    from = to = g->n_submitted;
    is_over = is_over || g->has_failed || g->is_cut;
    if (is_over && from < g->n_parts) {
        to = g->n_submitted = g->n_parts;
        g->n_open -= to - from;
        g->was_cancelled = g->was_cancelled || !g->has_failed;
    } else if (from < g->n_parts && from + g->n_open <= g->n_parts + PARTS_OPEN_MAX) {
        *index = g->n_submitted++;
        may = true;
    }
    pthread_mutex_unlock(&g->events);
    for (uint32_t i = from; i < to; i++)
        engine_request_free(g->requests[i]);
    return may;
}

/* As many parts as may be open.  The caller keeps one open (the submitter: one that there is not),
 * so that the last event does not come meanwhile. */
static void submit_more(struct generation *g)
{
    uint32_t index;
    while (take_next(g, &index)) {
        if (submit_part(g, index))
            continue;
        generation_cancel(g); /* one was refused: the others are for nothing */
        pthread_mutex_lock(&g->events);
        CHECK(!end_part(g));
        pthread_mutex_unlock(&g->events);
    }
}

/* Takes all of requests [g->n_parts]. */
static void submit(struct generation *g, struct parked *parked, struct engine_request **requests)
{
    memcpy(g->requests, requests, g->n_parts * sizeof(struct engine_request *));
    if (parked) /* its exchange has been tied to that */
        parked_bind(parked, g);
    else
        g->sink.does->attach(g->sink.to, g, on_gone, on_free);
    list_add(g);
    g->n_open++; /* this call's own, see submit_more */
    submit_more(g);
    pthread_mutex_lock(&g->events);
    bool is_last = end_part(g);
    pthread_mutex_unlock(&g->events);
    if (is_last)
        finish(g);
    generation_unref(g);
}

/* The first request is there; the others follow from it. */
static enum status make_requests(const struct visit *v, const struct api_call *call,
                                 struct engine_request **requests, struct api_error *error)
{
    for (uint32_t i = 1; i < api_call_n_prompts(call); i++) {
        requests[i] = engine_request_new(v->engine);
        if (!requests[i])
            return api_error_set(error, E_NOMEM, NULL, "out of memory");
        enum status st = api_call_prompt(call, i, requests[0], requests[i], error);
        if (st != OK)
            return st;
    }
    return OK;
}

struct api_context server_context(const struct visit *v)
{
    const struct server *s = v->server;
    const struct fleet_model *m = v->model ? v->model : fleet_first(s->fleet);
    const struct engine_info *info = engine_info(v->engine);
    const int64_t now_ns = clock_unix_ns();
    return (struct api_context){.model_name = fleet_name(m),
                                .n_vocab = info->vocabulary.n_vocab,
                                .n_ctx = info->n_ctx,
                                .info = info,
                                .template_source = info->template_source,
                                .cleans = !s->keeps_nonces,
                                .keeps = info->keeps,
                                .can_unload = !fleet_stays(m),
                                .load_ms = v->load_ms,
                                .tokenizer = engine_tokenizer(v->engine),
                                .now_unix_s = now_ns / 1000000000,
                                .now_unix_ns = now_ns};
}

void count_tokens(const struct visit *v)
{
    struct http_exchange *x = v->x;
    const struct api_dialect *dialect = v->endpoint->dialect;
    struct api_error error = {0};
    struct api_call *call = NULL;
    struct api_context context = server_context(v);
    struct buf out;
    uint32_t n = 0;
    buf_init(&out, 1024);
    struct engine_request *r = engine_request_new(v->engine);
    enum status st =
        r ? api_call_new(dialect, http_body(x), (struct slice){"", 0}, &context, r, &call, &error)
          : api_error_set(&error, E_NOMEM, NULL, "out of memory");
    if (st == OK) {
        struct err e = {.pos = ERR_NO_POS};
        r->tenant = v->tenant;
        st = engine_count_tokens(v->engine, r, &n, &e);
        if (st != OK)
            api_error_from(&error, &e);
    }
    if (st == OK)
        api_count_write(&out, call, n);
    api_call_free(call);
    if (r)
        engine_request_free(r);
    if (st == OK)
        http_reply(x, 200, "application/json", &out);
    else
        route_error(x, dialect, &error);
}

/* A request that its key's limits let in, or the reason why not. */
static enum status begin_for_key(const struct visit *v, struct api_error *error)
{
    const char *what;
    uint32_t retry_after_s;
    if (key_begin(v->key, clock_now_ns(), &what, &retry_after_s))
        return OK;
    atomic_fetch_add(&v->server->metrics.n_refused_by_key, 1);
    api_error_set(error, E_BUSY, NULL, "%s are used up; try again in %u s", what, retry_after_s);
    error->code = "rate_limit_exceeded";
    error->retry_after_s = retry_after_s;
    return E_BUSY;
}

void generate_into(const struct visit *v, const struct api_dialect *dialect, struct slice body,
                   struct slice session, const struct sink *sink)
{
    struct server *s = v->server;
    struct api_error error = {0};
    struct api_call *call = NULL;
    struct generation *g = NULL;
    struct engine_request *requests[API_TEXTS_MAX] = {0};
    struct api_context context = server_context(v);
    if (atomic_load(&s->is_draining)) {
        api_error_http(&error, 503, "draining", "the server is stopping");
        sink->does->fail(sink->to, dialect, &error);
        return;
    }
    requests[0] = engine_request_new(v->engine);
    enum status st =
        requests[0] ? api_call_new(dialect, body, session, &context, requests[0], &call, &error)
                    : api_error_set(&error, E_NOMEM, NULL, "out of memory");
    struct buf answer;
    buf_init(&answer, API_REPLY_BYTES_MAX);
    if (st == OK && api_call_is_answered(call, &answer)) {
        fleet_ref(s->fleet, v->model);
        fleet_give(s->fleet, v->model, api_call_keep_s(call));
        api_call_free(call);
        engine_request_free(requests[0]);
        sink->does->reply(sink->to, &answer);
        return;
    }
    if (sink->does->drop_body)
        sink->does->drop_body(sink->to); /* its values are in the first request's arena */
    if (st == OK)
        st = make_requests(v, call, requests, &error);
    for (uint32_t i = 0; i < API_TEXTS_MAX && requests[i]; i++)
        requests[i]->tenant = v->tenant;
    if (st == OK) {
        g = generation_new(v, sink, call);
        if (!g)
            st = api_error_set(&error, E_NOMEM, NULL, "out of memory");
    }
    if (st == OK)
        st = begin_for_key(v, &error);
    if (st == OK) {
        submit(g, v->parked, requests);
        return;
    }
    if (g) { /* neither exchange nor submitter know of it; the call goes with it */
        generation_unref(g);
        generation_unref(g);
    } else {
        api_call_free(call);
    }
    for (uint32_t i = 0; i < API_TEXTS_MAX && requests[i]; i++)
        engine_request_free(requests[i]);
    sink->does->fail(sink->to, dialect, &error);
}

/* ---- an exchange as a sink ---- */
static void attach_exchange(void *x, void *user, void (*gone)(void *user), void (*done)(void *user))
{
    http_attach(x, user, gone, done);
}

static void add_header(void *x, const char *name, const char *value)
{
    http_add_header(x, name, value);
}

static void add_headers(void *x, const struct api_call *call)
{
    api_reply_headers(call, add_header, x);
}

static void begin_stream(void *x, const char *type)
{
    http_stream_begin(x, 200, type);
}

static enum status write_stream(void *x, struct slice bytes)
{
    return http_stream_write(x, bytes);
}

static void end_stream(void *x)
{
    http_stream_end(x);
}

static void drop_body(void *x)
{
    http_body_drop(x);
}

static void reply_whole(void *x, struct buf *body)
{
    http_reply(x, 200, "application/json", body);
}

static void reply_error(void *x, const struct api_dialect *dialect, const struct api_error *error)
{
    route_error(x, dialect, error);
}

static const struct sink_functions exchange_sink = {.attach = attach_exchange,
                                                    .head = add_headers,
                                                    .begin = begin_stream,
                                                    .write = write_stream,
                                                    .end = end_stream,
                                                    .drop_body = drop_body,
                                                    .reply = reply_whole,
                                                    .fail = reply_error};

void generate(const struct visit *v)
{
    struct sink sink = {&exchange_sink, v->x};
    generate_into(v, v->endpoint->dialect, http_body(v->x), http_header(v->x, "X-Session-Id"),
                  &sink);
}
