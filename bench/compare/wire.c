/* SPDX-License-Identifier: MIT
 * wire.c — one request and its stream, in three dialects, timed where bytes arrive.
 * Time to first token: request sent → the piece of the body that completes the first non-empty
 * content, reasoning or tool delta; comments, role-only chunks and progress don't count. */
#include <math.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/compare/compare_int.h"
#include "http/sse.h"
#include "os/clock.h"

#define EVENT_BYTES_MAX (16u << 20)
#define SMALL_REPLY_MAX (16u << 20)
#define POLL_MS         2u

struct wire {
    struct answer *answer;
    enum dialect dialect;
    char url[300];
    struct buf body;
    struct http_call call;
    struct sse_reader sse;
    struct buf line;  /* of NDJSON */
    struct buf plain; /* the beginning of the reply, for errors that are no stream */
    double now_ms;
    bool is_v1; /* LM Studio's native events */
    bool is_broken, is_ended;
    uint32_t n_deltas;
};

/* ---- small helpers for readers ---- */
int64_t json_integer(const struct json *v, int64_t otherwise)
{
    if (v && v->kind == JSON_INT)
        return v->integer;
    bool is_real = v && v->kind == JSON_REAL && fabs(v->real) < 9e18; /* the rest fits no int64_t */
    return is_real ? (int64_t)v->real : otherwise;
}

double json_number(const struct json *v, double otherwise)
{
    return v && (v->kind == JSON_INT || v->kind == JSON_REAL) ? v->real : otherwise;
}

void json_text(const struct json *v, char *out, size_t size)
{
    if (v && v->kind == JSON_STRING)
        snprintf(out, size, SLICE_FMT, SLICE_ARG(v->text));
}

/* ---- what is asked ---- */
static void write_openai(const struct system *s, const struct ask *ask, struct json_writer *w)
{
    bool is_text = s->options->is_text;
    jw_key(w, is_text ? "prompt" : "messages");
    if (is_text)
        jw_string(w, buf_slice(&ask->talk->text));
    else
        jw_raw(w, buf_slice(&ask->talk->json));
    jw_key(w, "max_tokens");
    jw_int(w, ask->max_tokens);
    jw_key(w, "temperature");
    jw_int(w, 0);
    jw_key(w, "stream");
    jw_bool(w, true);
    jw_key(w, "stream_options");
    jw_raw(w, SLICE_LIT("{\"include_usage\":true}"));
    if (ask->wants_odds && is_text) {
        jw_key(w, "logprobs");
        jw_int(w, TOP_MAX);
    } else if (ask->wants_odds) {
        jw_key(w, "logprobs");
        jw_bool(w, true);
        jw_key(w, "top_logprobs");
        jw_int(w, TOP_MAX);
    }
}

static void write_ollama(const struct system *s, const struct ask *ask, struct json_writer *w)
{
    if (s->options->is_text) {
        jw_key(w, "prompt");
        jw_string(w, buf_slice(&ask->talk->text));
        jw_key(w, "raw");
        jw_bool(w, true);
    } else {
        jw_key(w, "messages");
        jw_raw(w, buf_slice(&ask->talk->json));
    }
    jw_key(w, "stream");
    jw_bool(w, true);
    jw_key(w, "keep_alive");
    jw_int(w, -1);
    jw_key(w, "options");
    jw_begin_object(w);
    jw_key(w, "temperature");
    jw_int(w, 0);
    jw_key(w, "num_predict");
    jw_int(w, ask->max_tokens);
    jw_key(w, "num_ctx");
    jw_int(w, s->context_tokens > 0 ? s->context_tokens : 4096);
    jw_end_object(w);
}

static void write_lmstudio(const struct ask *ask, struct json_writer *w)
{
    jw_key(w, "input");
    jw_string(w, buf_slice(&ask->talk->text));
    jw_key(w, "max_output_tokens");
    jw_int(w, ask->max_tokens);
    jw_key(w, "temperature");
    jw_int(w, 0);
    jw_key(w, "stream");
    jw_bool(w, true);
    jw_key(w, "store");
    jw_bool(w, false);
}

static const char *path_of(const struct system *s, bool is_v1)
{
    bool is_text = s->options->is_text;
    const char *api = system_word(s, "api");
    switch (s->driver->dialect) {
    case DIALECT_OLLAMA:
        return is_text ? "/api/generate" : "/api/chat";
    case DIALECT_LMSTUDIO:
        if (is_v1)
            return "/api/v1/chat";
        if (api && strcmp(api, "openai") == 0)
            return is_text ? "/v1/completions" : "/v1/chat/completions";
        return is_text ? "/api/v0/completions" : "/api/v0/chat/completions";
    case DIALECT_OPENAI:
    default:
        return is_text ? "/v1/completions" : "/v1/chat/completions";
    }
}

/* ---- what comes back ---- */
static void break_off(struct wire *x, const char *fmt, const char *what)
{
    if (!x->answer->error[0])
        snprintf(x->answer->error, sizeof x->answer->error, fmt, what);
    x->is_broken = true;
}

static void output(struct wire *x, const struct json *v, bool is_text)
{
    struct answer *a = x->answer;
    if (!v || v->kind != JSON_STRING || v->text.len == 0)
        return;
    if (a->first_ms <= 0)
        a->first_ms = x->now_ms;
    else if (a->n_gaps < GAPS_MAX && a->gaps_ms)
        a->gaps_ms[a->n_gaps++] = (float)(x->now_ms - a->last_ms);
    a->last_ms = x->now_ms;
    x->n_deltas++;
    if (is_text)
        buf_add_slice(&a->text, v->text);
}

/* content [{token, logprob, top_logprobs [{token, logprob}]}], or the old four arrays, whose
 * top_logprobs are objects token → logprob. */
static void read_odds(struct answer *a, const struct json *v)
{
    const struct json *content = json_get(v, "content"), *old = json_get(v, "top_logprobs");
    if (a->n_odds || a->text.len == 0)
        return;
    if (content && content->kind == JSON_ARRAY && content->count) {
        const struct json *top = json_get(&content->items[0], "top_logprobs");
        for (size_t i = 0; top && top->kind == JSON_ARRAY && i < top->count && a->n_odds < TOP_MAX;
             i++) {
            struct odds *o = &a->odds[a->n_odds++];
            json_text(json_get(&top->items[i], "token"), o->token, sizeof o->token);
            o->logprob = json_number(json_get(&top->items[i], "logprob"), 0);
        }
    } else if (old && old->kind == JSON_ARRAY && old->count && old->items[0].kind == JSON_OBJECT) {
        const struct json *top = &old->items[0];
        for (size_t i = 0; i < top->count && a->n_odds < TOP_MAX; i++) {
            struct odds *o = &a->odds[a->n_odds++];
            snprintf(o->token, sizeof o->token, SLICE_FMT, SLICE_ARG(top->members[i].key));
            o->logprob = json_number(&top->members[i].value, 0);
        }
    }
}

static void read_error(struct wire *x, const struct json *error)
{
    char text[180] = "";
    const struct json *message = json_get(error, "message");
    json_text(message ? message : error, text, sizeof text);
    break_off(x, "%s", text[0] ? text : "an error without a message");
}

static void read_openai(struct wire *x, const struct json *v)
{
    struct answer *a = x->answer;
    const struct json *choices = json_get(v, "choices"), *usage = json_get(v, "usage");
    const struct json *timings = json_get(v, "timings");
    if (choices && choices->kind == JSON_ARRAY && choices->count) {
        const struct json *choice = &choices->items[0], *delta = json_get(choice, "delta");
        if (!delta)
            delta = json_get(choice, "message");
        output(x, delta ? json_get(delta, "content") : json_get(choice, "text"), true);
        output(x, json_get(delta, "reasoning_content"), true);
        output(x, json_get(delta, "reasoning"), true);
        const struct json *calls = json_get(delta, "tool_calls");
        for (size_t i = 0; calls && calls->kind == JSON_ARRAY && i < calls->count; i++) {
            const struct json *fn = json_get(&calls->items[i], "function");
            output(x, json_get(fn, "name"), true);
            output(x, json_get(fn, "arguments"), true);
        }
        read_odds(a, json_get(choice, "logprobs"));
    }
    if (usage && usage->kind == JSON_OBJECT) {
        const struct json *details = json_get(usage, "prompt_tokens_details");
        a->prompt_tokens = json_integer(json_get(usage, "prompt_tokens"), a->prompt_tokens);
        a->output_tokens = json_integer(json_get(usage, "completion_tokens"), a->output_tokens);
        a->cached_tokens = json_integer(json_get(details, "cached_tokens"), a->cached_tokens);
    }
    a->cached_tokens = json_integer(json_get(timings, "cache_n"), a->cached_tokens);
    a->server_prefill_ms = json_number(json_get(timings, "prompt_ms"), a->server_prefill_ms);
}

static void read_ollama(struct wire *x, const struct json *v)
{
    struct answer *a = x->answer;
    const struct json *message = json_get(v, "message");
    output(x, message ? json_get(message, "content") : json_get(v, "response"), true);
    output(x, json_get(message, "thinking"), true);
    const struct json *done = json_get(v, "done");
    if (!done || done->kind != JSON_BOOL || !done->boolean)
        return;
    x->is_ended = true;
    a->prompt_tokens = json_integer(json_get(v, "prompt_eval_count"), -1);
    a->output_tokens = json_integer(json_get(v, "eval_count"), -1);
    /* Of the uncached tokens only, so it is no rate; kept to tell a reuse from none. */
    a->server_prefill_ms = json_number(json_get(v, "prompt_eval_duration"), -1e6) * 1e-6;
}

static void read_lmstudio(struct wire *x, const struct json *v)
{
    struct answer *a = x->answer;
    char type[40] = "";
    json_text(json_get(v, "type"), type, sizeof type);
    if (strcmp(type, "message.delta") == 0 || strcmp(type, "reasoning.delta") == 0)
        output(x, json_get(v, "content"), true);
    else if (strcmp(type, "tool_call.arguments") == 0)
        output(x, json_get(v, "arguments"), true);
    else if (strcmp(type, "chat.end") == 0) {
        const struct json *stats = json_get(json_get(v, "result"), "stats");
        x->is_ended = true;
        a->prompt_tokens = json_integer(json_get(stats, "input_tokens"), -1);
        a->output_tokens = json_integer(json_get(stats, "total_output_tokens"), -1);
    }
}

static void read_event(struct wire *x, struct slice data)
{
    struct arena a;
    struct json *v = NULL;
    struct err why = {0};
    if (slice_is(data, "[DONE]")) {
        x->is_ended = true;
        return;
    }
    arena_init(&a, EVENT_BYTES_MAX * 4);
    if (json_parse(data, &a, &v, &why) != OK) {
        break_off(x, "a reply that is no JSON: %s", why.msg);
    } else {
        const struct json *error = json_get(v, "error");
        if (error && error->kind != JSON_NULL)
            read_error(x, error);
        else if (x->dialect == DIALECT_OLLAMA)
            read_ollama(x, v);
        else if (x->is_v1)
            read_lmstudio(x, v);
        else
            read_openai(x, v);
    }
    arena_release(&a);
}

static void on_event(void *arg, const char *event, struct slice data)
{
    struct wire *x = arg;
    (void)event;
    if (!x->is_broken)
        read_event(x, data);
}

static void feed_lines(struct wire *x, struct slice bytes)
{
    buf_add_slice(&x->line, bytes);
    if (x->line.failed)
        break_off(x, "%s", "an endless line");
    while (x->line.len && !x->is_broken) {
        const char *end = memchr(x->line.ptr, '\n', x->line.len);
        if (!end)
            return;
        size_t n = (size_t)(end - x->line.ptr);
        if (n)
            read_event(x, (struct slice){x->line.ptr, n});
        buf_consume(&x->line, n + 1);
    }
}

static bool on_bytes(void *arg, struct slice bytes, double at_ms)
{
    struct wire *x = arg;
    x->now_ms = at_ms;
    if (x->plain.len + bytes.len <= x->plain.max_bytes)
        buf_add_slice(&x->plain, bytes);
    if (x->dialect == DIALECT_OLLAMA)
        feed_lines(x, bytes);
    else if (sse_reader_feed(&x->sse, bytes) != OK)
        break_off(x, "%s", "an endless event");
    return !x->is_broken && !atomic_load(&is_interrupted);
}

/* ---- an exchange ---- */
enum status wire_begin(const struct system *s, const struct ask *ask, struct answer *a,
                       struct wire **out, struct err *e)
{
    struct wire *x = mem_try_new(1, sizeof *x);
    const char *api = system_word(s, "api");
    *a = (struct answer){.prompt_tokens = -1,
                         .cached_tokens = -1,
                         .output_tokens = -1,
                         .server_prefill_ms = -1,
                         .outcome = OUTCOME_FAILED};
    buf_init(&a->text, TEXT_BYTES_MAX);
    a->gaps_ms = mem_try_new(GAPS_MAX, sizeof(float));
    if (!x || !a->gaps_ms) {
        mem_free(x);
        return err_set(e, E_NOMEM, "request");
    }
    x->answer = a;
    x->dialect = s->driver->dialect;
    x->is_v1 = x->dialect == DIALECT_LMSTUDIO && api && strcmp(api, "v1") == 0;
    buf_init(&x->body, TALK_BYTES_MAX);
    buf_init(&x->line, EVENT_BYTES_MAX);
    buf_init(&x->plain, 4096);
    sse_reader_init(&x->sse, on_event, x);
    snprintf(x->url, sizeof x->url, "%s%s", s->url, path_of(s, x->is_v1));
    struct json_writer w;
    jw_init(&w, &x->body);
    jw_begin_object(&w);
    if (s->served_model[0]) {
        jw_key(&w, "model");
        jw_text(&w, s->served_model);
    }
    if (x->dialect == DIALECT_OLLAMA)
        write_ollama(s, ask, &w);
    else if (x->is_v1)
        write_lmstudio(ask, &w);
    else
        write_openai(s, ask, &w);
    if (s->driver->extra)
        s->driver->extra(s, &w);
    jw_end_object(&w);
    x->call = (struct http_call){.url = x->url,
                                 .body = buf_slice(&x->body),
                                 .total_ms_max = ask->ms_max,
                                 .is_cancelled = &is_interrupted,
                                 .chunk = on_bytes,
                                 .arg = x};
    *out = x;
    if (x->body.failed)
        return err_set(e, E_LIMIT, "a prompt beyond %u MiB", TALK_BYTES_MAX >> 20);
    return OK;
}

const struct http_call *wire_call(const struct wire *x)
{
    return &x->call;
}

/* An error that came as a plain body: {"error": …}, or any text. */
static void read_plain(struct wire *x, int http)
{
    struct arena arena;
    struct json *v = NULL;
    struct err ignored = {0};
    char text[140] = "";
    arena_init(&arena, 1u << 20);
    if (json_parse(buf_slice(&x->plain), &arena, &v, &ignored) == OK) {
        const struct json *error = json_get(v, "error");
        const struct json *message = json_get(error, "message");
        json_text(message ? message : error, text, sizeof text);
    } else if (x->plain.len) {
        snprintf(text, sizeof text, "%.100s", x->plain.ptr);
    }
    snprintf(x->answer->error, sizeof x->answer->error, "HTTP %d%s%s", http, text[0] ? ": " : "",
             text);
    arena_release(&arena);
}

void wire_end(struct wire *x, enum status st, const struct err *e, const struct http_answer *http)
{
    struct answer *a = x->answer;
    a->http = http->status;
    a->total_ms = http->total_ms;
    a->outcome = OUTCOME_DONE;
    if (st == OK && http->status != 200) {
        a->outcome = OUTCOME_FAILED;
        read_plain(x, http->status);
    } else if (x->is_broken) {
        a->outcome = OUTCOME_FAILED;
    } else if (st == E_LIMIT) {
        a->outcome = OUTCOME_HUNG;
        snprintf(a->error, sizeof a->error,
                 a->first_ms > 0 ? "cut off after %.0f s" : "no first token after %.0f s",
                 (double)x->call.total_ms_max / 1000);
    } else if (st != OK) {
        a->outcome = OUTCOME_FAILED;
        snprintf(a->error, sizeof a->error, "%.190s", e->msg);
    } else if (a->first_ms <= 0) {
        a->outcome = OUTCOME_FAILED;
        snprintf(a->error, sizeof a->error, "an answer without a token");
    } else if (!x->is_ended) {
        a->outcome = OUTCOME_FAILED;
        snprintf(a->error, sizeof a->error, "the stream ended before its end");
    }
    if (a->output_tokens < 0 && a->outcome == OUTCOME_DONE)
        a->output_tokens = x->n_deltas;
    sse_reader_release(&x->sse);
    buf_release(&x->body);
    buf_release(&x->line);
    buf_release(&x->plain);
    mem_free(x);
}

void wire_ask(struct system *s, const struct ask *ask, struct answer *a)
{
    struct wire *x = NULL;
    struct err e = {0};
    struct http_answer http = {0};
    enum status st = wire_begin(s, ask, a, &x, &e);
    if (!x) {
        snprintf(a->error, sizeof a->error, "%.190s", e.msg);
        return;
    }
    if (st == OK)
        st = http_client_call(s->http, &x->call, &http, &e);
    wire_end(x, st, &e, &http);
    http_answer_release(&http);
}

void answer_release(struct answer *a)
{
    buf_release(&a->text);
    mem_free(a->gaps_ms);
    *a = (struct answer){0};
}

/* ---- small JSON ---- */
enum status wire_json(struct system *s, const char *method, const char *path, struct slice body,
                      uint32_t ms_max, struct arena *a, const struct json **out, struct err *e)
{
    char url[400];
    struct http_answer answer = {0};
    struct json *v = NULL;
    if (s->options->cell_seconds && ms_max > s->options->cell_seconds * 1000)
        ms_max = s->options->cell_seconds * 1000; /* no answer holds up the rest */
    snprintf(url, sizeof url, "%s%s", s->url, path);
    struct http_call call = {.method = method,
                             .url = url,
                             .body = body,
                             .total_ms_max = ms_max,
                             .reply_bytes_max = SMALL_REPLY_MAX};
    enum status st = http_client_call(s->http, &call, &answer, e);
    struct err syntax = {0};
    if (st == OK && answer.body.len && json_parse(buf_slice(&answer.body), a, &v, &syntax) != OK)
        v = NULL;
    if (st == OK && answer.status != 200) {
        char text[140] = "";
        const struct json *error = json_get(v, "error"), *message = json_get(error, "message");
        json_text(message ? message : error, text, sizeof text);
        st = err_set(e, E_IO, "%s %s: HTTP %d%s%s", method, path, answer.status,
                     text[0] ? ": " : "", text);
    } else if (st == OK && !v && answer.body.len) {
        st = err_set(e, E_SYNTAX, "%s %s: %s", method, path, syntax.msg);
    }
    http_answer_release(&answer);
    if (st == OK && out)
        *out = v;
    return st;
}

enum status wire_wait_ready(struct system *s, const char *path, uint32_t ms_max, struct err *e)
{
    uint64_t start = clock_now_ns();
    char url[400];
    if (s->options->cell_seconds && ms_max > s->options->cell_seconds * 1000)
        ms_max = s->options->cell_seconds * 1000;
    snprintf(url, sizeof url, "%s%s", s->url, path);
    for (;;) {
        struct http_answer answer = {0};
        struct err why = {0};
        struct http_call call = {.url = url, .total_ms_max = 5000, .connect_ms_max = 2000};
        enum status st = http_client_call(s->http, &call, &answer, &why);
        int http = answer.status;
        http_answer_release(&answer);
        if (st == OK && http == 200)
            return OK;
        int code;
        struct err ignored = {0};
        if (s->child.pid > 0 && child_wait(&s->child, 0, &code, &ignored) == OK) {
            struct buf text;
            buf_init(&text, SMALL_REPLY_MAX);
            child_read(&s->child, CHILD_ERR, &text);
            while (text.len && text.ptr[text.len - 1] == '\n')
                text.ptr[--text.len] = '\0';
            const char *line = text.len ? strrchr(text.ptr, '\n') : NULL;
            st = err_set(e, E_IO, "it ended with code %d: %.150s", code,
                         line       ? line + 1
                         : text.len ? text.ptr
                                    : "it said nothing");
            buf_release(&text);
            return st;
        }
        if (atomic_load(&is_interrupted))
            return err_set(e, E_CANCELLED, "interrupted");
        if (clock_ms_since(start) > ms_max)
            return err_set(e, E_LIMIT, "not ready after %.0f s (%s)", ms_max / 1000.0,
                           st == OK ? "answers, but not 200" : "no answer");
        clock_sleep_ms(POLL_MS);
    }
}
