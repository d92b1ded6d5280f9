/* SPDX-License-Identifier: MIT
 * chat.c — requests out, replies in.  A reply is read leniently in what it may leave out, strictly
 * in what it has: a field of the wrong type is E_SYNTAX, because clients would fail on it too. */
#include "bench/client/chat.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "http/sse.h"

#define TEXT_MAX (16u << 20)

/* ---- the request ---- */
static void write_ask(struct buf *out, const struct chat_ask *ask)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    if (ask->messages.len) {
        jw_key(&w, "messages");
        jw_raw(&w, ask->messages);
    }
    if (ask->tools.len) {
        jw_key(&w, "tools");
        jw_raw(&w, ask->tools);
    }
    if (ask->prompt.len) {
        jw_key(&w, "prompt");
        jw_raw(&w, ask->prompt);
    }
    jw_key(&w, "temperature");
    jw_double(&w, ask->temperature);
    if (ask->max_tokens) {
        jw_key(&w, "max_tokens");
        jw_int(&w, ask->max_tokens);
    }
    jw_key(&w, "stream");
    jw_bool(&w, ask->is_stream);
    if (ask->wants_logprobs) {
        jw_key(&w, "logprobs");
        jw_bool(&w, true);
        jw_key(&w, "top_logprobs");
        jw_int(&w, 3);
    }
    if (ask->progress) {
        jw_key(&w, "return_progress");
        jw_bool(&w, true);
    }
    if (ask->more) {
        buf_add_char(out, ',');
        buf_add_text(out, ask->more);
    }
    jw_end_object(&w);
}

void chat_add_message(struct buf *messages, const char *role, struct slice content)
{
    /* "[a]" becomes "[a,b]" */
    if (messages->len)
        messages->ptr[messages->len - 1] = ',';
    else
        buf_add_char(messages, '[');
    struct json_writer w;
    jw_init(&w, messages);
    jw_begin_object(&w);
    jw_key(&w, "role");
    jw_text(&w, role);
    jw_key(&w, "content");
    jw_string(&w, content);
    jw_end_object(&w);
    buf_add_char(messages, ']');
}

/* ---- the reply ---- */
struct reading {
    const struct chat_ask *ask;
    struct chat_reply *reply;
    struct sse_reader sse;
    double now_ms;
    bool is_stream; /* false also for the plain error of a stream that never began */
    enum status st;
    struct err *e;
    bool is_hung_up;
};

static void wrong(struct reading *g, const char *what)
{
    if (g->st == OK)
        g->st = err_set(g->e, E_SYNTAX, "reply: %s", what);
}

static int64_t integer_of(const struct json *v, int64_t otherwise)
{
    return v && v->kind == JSON_INT ? v->integer : otherwise;
}

static double real_of(const struct json *v)
{
    return v && (v->kind == JSON_INT || v->kind == JSON_REAL) ? v->real : 0;
}

static void text_of(const struct json *v, char *out, size_t size)
{
    if (v && v->kind == JSON_STRING)
        snprintf(out, size, SLICE_FMT, SLICE_ARG(v->text));
}

static void read_error(struct reading *g, const struct json *error)
{
    struct chat_reply *r = g->reply;
    r->is_error = true;
    text_of(json_get(error, "type"), r->error_type, sizeof r->error_type);
    text_of(json_get(error, "code"), r->error_code, sizeof r->error_code);
    text_of(json_get(error, "param"), r->error_param, sizeof r->error_param);
    text_of(json_get(error, "message"), r->error_message, sizeof r->error_message);
    if (!r->error_message[0])
        wrong(g, "an error without a message");
}

static void read_costs(struct chat_reply *r, const struct json *v)
{
    const struct json *usage = json_get(v, "usage"), *k = json_get(v, "kvasir");
    if (usage && usage->kind == JSON_OBJECT) {
        r->prompt_tokens = integer_of(json_get(usage, "prompt_tokens"), -1);
        r->completion_tokens = integer_of(json_get(usage, "completion_tokens"), -1);
        r->cached_tokens =
            integer_of(json_get(json_get(usage, "prompt_tokens_details"), "cached_tokens"), -1);
    }
    if (!k)
        return;
    const struct json *tokens = json_get(k, "tokens"), *ms = json_get(k, "ms");
    r->has_kvasir = true;
    r->memory = integer_of(json_get(tokens, "memory"), -1);
    r->disk = integer_of(json_get(tokens, "disk"), -1);
    r->computed = integer_of(json_get(tokens, "computed"), -1);
    r->queue_ms = real_of(json_get(ms, "queue"));
    r->lookup_ms = real_of(json_get(ms, "lookup"));
    r->prefill_ms = real_of(json_get(ms, "prefill"));
    r->decode_ms = real_of(json_get(ms, "decode"));
    r->drafted = integer_of(json_get(k, "drafted"), -1);
    r->accepted = integer_of(json_get(k, "accepted"), -1);
    r->replayed = integer_of(json_get(k, "replayed"), -1);
    r->diverged_at = integer_of(json_get(k, "diverged_at"), -1);
    const struct json *seed = json_get(v, "seed"); /* up to 2^64 - 1: the text is exact */
    if (seed && (seed->kind == JSON_INT || seed->kind == JSON_REAL))
        r->seed = strtoull(seed->text.ptr, NULL, 10);
}

static void first_output(struct reading *g)
{
    if (g->reply->first_ms == 0)
        g->reply->first_ms = g->now_ms;
}

static void read_text(struct reading *g, uint32_t index, const struct json *v)
{
    if (!v || v->kind == JSON_NULL)
        return;
    if (v->kind != JSON_STRING) {
        wrong(g, "content is not a string");
        return;
    }
    if (v->text.len == 0)
        return;
    first_output(g);
    buf_add_slice(&g->reply->choices[index].text, v->text);
    if (g->is_stream && g->ask->piece && !g->ask->piece(g->ask->arg, index, v->text))
        g->is_hung_up = true;
}

/* More of the last call's arguments, which stand before the three bytes "}] at the end. */
static void add_arguments(struct chat_choice *choice, struct slice piece)
{
    struct buf *b = &choice->calls;
    b->len -= 3;
    size_t quote = b->len;
    json_write_string(b, piece);
    if (b->failed)
        return;
    memmove(b->ptr + quote, b->ptr + quote + 1, b->len - quote - 1);
    b->len--;
    buf_add_text(b, "}]");
}

static void read_calls(struct reading *g, uint32_t index, const struct json *calls)
{
    struct chat_choice *choice = &g->reply->choices[index];
    for (size_t i = 0; calls && calls->kind == JSON_ARRAY && i < calls->count; i++) {
        const struct json *fn = json_get(&calls->items[i], "function");
        const struct json *name = json_get(fn, "name"), *arguments = json_get(fn, "arguments");
        if (!name && choice->n_calls && arguments && arguments->kind == JSON_STRING) {
            add_arguments(choice, arguments->text);
            continue;
        }
        if (!name || name->kind != JSON_STRING || !arguments || arguments->kind != JSON_STRING) {
            wrong(g, "a tool call without name and arguments");
            return;
        }
        first_output(g);
        struct json_writer w;
        if (choice->calls.len)
            choice->calls.ptr[choice->calls.len - 1] = ',';
        else
            buf_add_char(&choice->calls, '[');
        jw_init(&w, &choice->calls);
        jw_begin_object(&w);
        jw_key(&w, "name");
        jw_string(&w, name->text);
        jw_key(&w, "arguments");
        jw_string(&w, arguments->text);
        jw_end_object(&w);
        buf_add_char(&choice->calls, ']');
        choice->n_calls++;
    }
}

static void read_logprobs(struct chat_choice *choice, const struct json *v)
{
    const struct json *content = json_get(v, "content");
    struct json_style style = {.is_compact = true};
    if (!content && v && v->kind == JSON_OBJECT) { /* the text dialect's four arrays */
        json_write(&choice->logprobs, v, style);
        buf_add_char(&choice->logprobs, '\n');
    }
    for (size_t i = 0; content && content->kind == JSON_ARRAY && i < content->count; i++) {
        json_write(&choice->logprobs, &content->items[i], style);
        buf_add_char(&choice->logprobs, '\n');
    }
}

static void read_choice(struct reading *g, const struct json *v)
{
    int64_t index = integer_of(json_get(v, "index"), -1);
    if (index < 0 || index >= (int64_t)CHAT_CHOICES_MAX) {
        wrong(g, "a choice without an index");
        return;
    }
    struct chat_choice *choice = &g->reply->choices[index];
    const struct json *message = json_get(v, g->is_stream ? "delta" : "message");
    if (g->reply->n_choices <= (uint32_t)index)
        g->reply->n_choices = (uint32_t)index + 1;
    read_text(g, (uint32_t)index, message ? json_get(message, "content") : json_get(v, "text"));
    read_calls(g, (uint32_t)index, json_get(message, "tool_calls"));
    read_logprobs(choice, json_get(v, "logprobs"));
    text_of(json_get(v, "finish_reason"), choice->finish, sizeof choice->finish);
}

/* A whole body, or one event of a stream. */
static void read_object(struct reading *g, struct slice text)
{
    struct arena a;
    struct json *v = NULL;
    struct err why = {0};
    arena_init(&a, CHAT_REPLY_MAX);
    if (json_parse(text, &a, &v, &why) != OK) {
        wrong(g, why.msg);
        goto out;
    }
    const struct json *progress = json_get(v, "prompt_progress");
    if (progress && g->ask->progress)
        g->ask->progress(g->ask->arg, integer_of(json_get(progress, "processed"), 0),
                         integer_of(json_get(progress, "total"), 0));
    const struct json *error = json_get(v, "error"), *choices = json_get(v, "choices");
    if (error)
        read_error(g, error);
    for (size_t i = 0; choices && choices->kind == JSON_ARRAY && i < choices->count; i++)
        read_choice(g, &choices->items[i]);
    read_costs(g->reply, v);
out:
    arena_release(&a);
}

static void on_event(void *arg, const char *event, struct slice data)
{
    struct reading *g = arg;
    (void)event;
    if (g->reply->is_done)
        wrong(g, "an event after [DONE]");
    g->reply->n_events++;
    if (slice_is(data, "[DONE]"))
        g->reply->is_done = true;
    else
        read_object(g, data);
}

static bool on_bytes(void *arg, struct slice bytes, double at_ms)
{
    struct reading *g = arg;
    g->now_ms = g->reply->last_ms = at_ms;
    buf_add_slice(&g->reply->body, bytes);
    if (sse_reader_feed(&g->sse, bytes) != OK)
        wrong(g, "an endless event");
    return g->st == OK && !g->is_hung_up;
}

static void init_reply(struct chat_reply *r)
{
    *r = (struct chat_reply){.diverged_at = -1};
    buf_init(&r->body, CHAT_REPLY_MAX);
    for (uint32_t i = 0; i < CHAT_CHOICES_MAX; i++) {
        buf_init(&r->choices[i].text, TEXT_MAX);
        buf_init(&r->choices[i].calls, TEXT_MAX);
        buf_init(&r->choices[i].logprobs, CHAT_REPLY_MAX);
    }
}

struct chat_talk {
    struct reading reading;
    struct err wrong; /* what the reading found */
    char url[512];
    struct buf body;
    struct http_call call;
    struct http_answer answer;
};

enum status chat_begin(const char *url, const struct chat_ask *ask, struct chat_reply *reply,
                       struct chat_talk **out, struct err *e)
{
    struct chat_talk *t = mem_try_new(1, sizeof *t);
    init_reply(reply);
    if (!t)
        return err_set(e, E_NOMEM, "a question");
    struct reading *g = &t->reading;
    *g = (struct reading){.ask = ask, .reply = reply, .is_stream = ask->is_stream, .e = &t->wrong};
    sse_reader_init(&g->sse, on_event, g);
    buf_init(&t->body, CHAT_REPLY_MAX);
    write_ask(&t->body, ask);
    snprintf(t->url, sizeof t->url, "%s%s", url, ask->path ? ask->path : "/v1/chat/completions");
    t->call = (struct http_call){.url = t->url,
                                 .body = buf_slice(&t->body),
                                 .total_ms_max = ask->ms_max,
                                 .chunk = ask->is_stream ? on_bytes : NULL,
                                 .arg = g};
    *out = t;
    if (!t->body.failed)
        return OK;
    enum status st = chat_end(t, E_NOMEM, e);
    return err_set(e, st, "request body");
}

const struct http_call *chat_call(const struct chat_talk *t)
{
    return &t->call;
}

struct http_answer *chat_answer(struct chat_talk *t)
{
    return &t->answer;
}

enum status chat_end(struct chat_talk *t, enum status st, struct err *e)
{
    struct reading *g = &t->reading;
    struct chat_reply *reply = g->reply;
    reply->http = t->answer.status;
    reply->total_ms = t->answer.total_ms;
    if (!g->ask->is_stream)
        buf_add_slice(&reply->body, buf_slice(&t->answer.body));
    if (st == OK && (!g->ask->is_stream || t->answer.status != 200)) {
        g->is_stream = false;
        g->now_ms = t->answer.first_body_ms;
        read_object(g, buf_slice(&reply->body));
        reply->is_done = g->st == OK;
    }
    if (g->st != OK) {
        st = g->st;
        *e = t->wrong;
    }
    sse_reader_release(&g->sse);
    http_answer_release(&t->answer);
    buf_release(&t->body);
    mem_free(t);
    return st;
}

enum status chat_send(const char *url, struct http_client *http, const struct chat_ask *ask,
                      struct chat_reply *reply, struct err *e)
{
    struct chat_talk *t = NULL;
    enum status st = chat_begin(url, ask, reply, &t, e);
    if (st != OK)
        return st;
    return chat_end(t, http_client_call(http, &t->call, &t->answer, e), e);
}

void chat_reply_release(struct chat_reply *r)
{
    buf_release(&r->body);
    for (uint32_t i = 0; i < CHAT_CHOICES_MAX; i++) {
        buf_release(&r->choices[i].text);
        buf_release(&r->choices[i].calls);
        buf_release(&r->choices[i].logprobs);
    }
    *r = (struct chat_reply){0};
}

/* ---- comparing ---- */
/* {"name","arguments"} of a call written as text, with sorted keys; false: it is none. */
static bool call_of_text(struct slice text, struct arena *a, struct buf *out)
{
    static const char open[] = "<tool_call>", close[] = "</tool_call>";
    const char *from = memmem(text.ptr, text.len, open, sizeof open - 1);
    if (!from)
        return false;
    from += sizeof open - 1;
    const char *end = text.ptr + text.len;
    const char *to = memmem(from, (size_t)(end - from), close, sizeof close - 1);
    struct json *v = NULL;
    struct err e = {0};
    if (!to || json_parse((struct slice){from, (size_t)(to - from)}, a, &v, &e) != OK)
        return false;
    const struct json *name = json_get(v, "name"), *arguments = json_get(v, "arguments");
    if (!name || !arguments)
        return false;
    json_write(out, name, (struct json_style){.is_compact = true});
    json_write(out, arguments, (struct json_style){.is_compact = true, .sort_keys = true});
    return true;
}

static bool call_of_reply(const struct chat_choice *choice, struct arena *a, struct buf *out)
{
    struct json *v = NULL, *arguments = NULL;
    struct err e = {0};
    if (choice->n_calls != 1 || json_parse(buf_slice(&choice->calls), a, &v, &e) != OK ||
        json_parse(json_get(&v->items[0], "arguments")->text, a, &arguments, &e) != OK)
        return false;
    json_write(out, json_get(&v->items[0], "name"), (struct json_style){.is_compact = true});
    json_write(out, arguments, (struct json_style){.is_compact = true, .sort_keys = true});
    return true;
}

bool chat_is_answer(const struct chat_reply *r, struct slice answer)
{
    const struct chat_choice *choice = &r->choices[0];
    struct arena a;
    struct buf wanted, got;
    arena_init(&a, TEXT_MAX);
    buf_init(&wanted, TEXT_MAX);
    buf_init(&got, TEXT_MAX);
    bool is_same;
    if (call_of_text(answer, &a, &wanted))
        is_same = (choice->n_calls ? call_of_reply(choice, &a, &got)
                                   : call_of_text(buf_slice(&choice->text), &a, &got)) &&
                  slice_equal(buf_slice(&wanted), buf_slice(&got));
    else
        is_same = choice->n_calls == 0 && slice_equal(buf_slice(&choice->text), answer);
    buf_release(&wanted);
    buf_release(&got);
    arena_release(&a);
    return is_same && r->http == 200 && !r->is_error;
}

/* "NAME: “…” and “…”", around the first byte that differs. */
static bool is_same_text(const char *name, uint32_t index, const struct buf *a, const struct buf *b,
                         char *why, size_t n)
{
    struct slice x = buf_slice(a), y = buf_slice(b);
    if (slice_equal(x, y))
        return true;
    size_t at = 0;
    while (at < x.len && at < y.len && x.ptr[at] == y.ptr[at])
        at++;
    size_t from = at < 20 ? 0 : at - 20;
    snprintf(why, n, "%s of choice %u differs at byte %zu: \"%.60s\" and \"%.60s\"", name, index,
             at, x.ptr + (from < x.len ? from : x.len), y.ptr + (from < y.len ? from : y.len));
    return false;
}

bool chat_is_same(const struct chat_reply *a, const struct chat_reply *b, char *why, size_t n)
{
    if (a->http != b->http || a->is_error != b->is_error || a->n_choices != b->n_choices) {
        snprintf(why, n, "HTTP %d with %u choices and HTTP %d with %u: %.100s%.100s", a->http,
                 a->n_choices, b->http, b->n_choices, a->error_message, b->error_message);
        return false;
    }
    for (uint32_t i = 0; i < a->n_choices; i++) {
        const struct chat_choice *x = &a->choices[i], *y = &b->choices[i];
        if (!is_same_text("text", i, &x->text, &y->text, why, n) ||
            !is_same_text("calls", i, &x->calls, &y->calls, why, n) ||
            !is_same_text("logprobs", i, &x->logprobs, &y->logprobs, why, n))
            return false;
        if (strcmp(x->finish, y->finish) != 0) {
            snprintf(why, n, "choice %u ends with \"%s\" and \"%s\"", i, x->finish, y->finish);
            return false;
        }
    }
    return true;
}
