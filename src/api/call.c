/* SPDX-License-Identifier: MIT
 * call.c — from the bytes of a request to an engine_request and what its reply must know. */
#include <stdio.h>

#include "api/api_int.h"
#include "base/mem.h"
#include "base/prng.h"

/* Model name, session, and an echoed prompt. */
#define CALL_ARENA_BYTES (JSON_BYTES_MAX + (1u << 20))

#define NS_PER_S 1000000000

static void make_id(struct api_call *c)
{
    uint64_t r[2];
    prng_entropy(r, sizeof r);
    snprintf(c->id, sizeof c->id, "%s%016llx%08llx", c->dialect->id_prefix,
             (unsigned long long)r[0], (unsigned long long)(r[1] & 0xFFFFFFFFu));
}

/* Names go into logs, JSON and command lines: no blanks, quotes or control characters. */
static bool is_session_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-_.:@/+=~", c));
}

static enum status read_session(struct slice session, struct api_call *c, struct api_error *error)
{
    if (session.len == 0)
        return OK;
    if (session.len > ENGINE_SESSION_NAME_MAX)
        return api_error_set(error, E_INVALID, "X-Session-Id",
                             "X-Session-Id: at most %u characters", ENGINE_SESSION_NAME_MAX);
    for (size_t i = 0; i < session.len; i++)
        if (!is_session_char(session.ptr[i]))
            return api_error_set(error, E_INVALID, "X-Session-Id",
                                 "X-Session-Id: letters, digits and -_.:@/+=~ only");
    char *text = arena_text(&c->arena, session.ptr, session.len);
    if (!text)
        return api_error_set(error, E_NOMEM, NULL, "out of memory");
    c->session = (struct slice){text, session.len};
    return OK;
}

/* How to read what the model will write. */
static void set_turns(const struct api_context *context, struct api_call *c,
                      struct engine_request *r)
{
    c->format = turn_format_of(context->template_source);
    c->reads_turns = true;
    c->tools = r->tools;
    read_turns(c, r);
    r->show_special = c->format.has_special && (c->finds_tools || c->format.calls == CALLS_HARMONY);
}

static enum status read_body(struct slice body, const struct api_context *context,
                             struct api_call *c, struct engine_request *r, struct api_error *error)
{
    struct err e = {.pos = ERR_NO_POS};
    struct json *v = NULL;
    if (json_parse(body, &r->arena, &v, &e) != OK) {
        api_error_from(error, &e);
        return e.code;
    }
    if (v->kind != JSON_OBJECT)
        return api_error_set(error, E_INVALID, NULL, "the body must be a JSON object");
    struct fields f = {.object = v, .error = error};
    c->body = v;
    read_refused(&f, c->dialect);
    c->dialect->read(&f, context, c, r);
    if (f.status == OK && r->kind == PROMPT_CHAT) {
        clean_prompt(context, c, r);
        shape_arguments(context, r);
        set_turns(context, c, r);
    }
    if (f.status == OK)
        set_constraint(&f, context, c, r);
    if (f.status == OK && r->arena.failed)
        field_fail(&f, E_LIMIT, "tools", "the request is too large");
    return f.status;
}

enum status call_make_choices(struct api_call *c, struct api_error *error)
{
    c->n_choices = c->n_prompts * c->n_per_prompt;
    c->choices = mem_try_new(c->n_choices, sizeof *c->choices);
    c->usages = mem_try_new(c->n_prompts, sizeof *c->usages);
    if (!c->choices || !c->usages)
        return api_error_set(error, E_NOMEM, NULL, "out of memory");
    c->n_unfinished = c->n_choices;
    for (uint32_t i = 0; i < c->n_choices; i++) {
        struct api_choice *choice = &c->choices[i];
        choice->index = i;
        buf_init(&choice->vector, API_REPLY_BYTES_MAX);
        buf_init(&choice->logprobs, API_REPLY_BYTES_MAX);
        buf_init(&choice->token_ids, API_REPLY_BYTES_MAX);
        for (size_t j = 0; j < 3; j++)
            buf_init(&choice->more_logprobs[j], API_REPLY_BYTES_MAX);
    }
    return OK;
}

enum status call_make_head(struct api_call *c, struct api_error *error)
{
    buf_init(&c->head, JSON_BYTES_MAX);
    buf_init(&c->chunk, API_REPLY_BYTES_MAX);
    if (c->dialect->writer->head)
        c->dialect->writer->head(c, &c->head);
    return c->head.failed ? api_error_set(error, E_NOMEM, NULL, "out of memory") : OK;
}

enum status api_call_new(const struct api_dialect *dialect, struct slice body, struct slice session,
                         const struct api_context *context, struct engine_request *r,
                         struct api_call **out, struct api_error *error)
{
    struct api_call *c = mem_try_new(1, sizeof *c);
    if (!c)
        return api_error_set(error, E_NOMEM, NULL, "out of memory");
    c->dialect = dialect;
    c->n_prompts = c->n_per_prompt = 1;
    c->slot = -1;
    c->created_unix_s = context->now_unix_s;
    c->told_unix_ns = context->now_unix_ns ? context->now_unix_ns : context->now_unix_s * NS_PER_S;
    c->tokenizer = context->tokenizer;
    c->info = context->info;
    c->load_ms = context->load_ms;
    c->keep_s = FLEET_KEEP_DEFAULT;
    arena_init(&c->arena, CALL_ARENA_BYTES);
    c->model = slice_of(context->model_name);
    make_id(c);
    enum status st = read_session(session, c, error);
    if (st == OK)
        st = read_body(body, context, c, r, error);
    if (st == OK)
        st = call_make_choices(c, error);
    if (st == OK)
        st = call_make_head(c, error);
    if (st != OK) {
        api_call_free(c);
        return st;
    }
    c->sampling = r->sampling;
    c->sampling.bias = NULL; /* the request's */
    c->sampling.breakers = NULL;
    c->max_tokens = r->max_tokens;
    r->session = c->session;
    r->previous = c->previous;
    if (c->stores)
        r->response = slice_of(c->id);
    *out = c;
    return OK;
}

void api_call_free(struct api_call *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; c->choices && i < c->n_choices; i++) {
        turn_release(&c->choices[i].turn);
        for (size_t j = 0; j < 3; j++)
            buf_release(&c->choices[i].more_logprobs[j]);
        buf_release(&c->choices[i].vector);
        buf_release(&c->choices[i].logprobs);
        buf_release(&c->choices[i].token_ids);
        for (uint32_t j = 0; j < c->choices[i].n_items; j++) {
            buf_release(&c->choices[i].items[j].text);
            buf_release(&c->choices[i].items[j].name);
            buf_release(&c->choices[i].items[j].logprobs);
        }
        mem_free(c->choices[i].items);
    }
    mem_free(c->choices);
    mem_free(c->usages);
    buf_release(&c->chunk);
    buf_release(&c->head);
    arena_release(&c->arena);
    mem_free(c);
}

bool api_call_is_stream(const struct api_call *c)
{
    return c->is_stream;
}

void api_call_set_time(struct api_call *c, int64_t unix_ns)
{
    c->told_unix_ns = unix_ns;
}

const char *api_call_id(const struct api_call *c)
{
    return c->id;
}

int64_t api_call_keep_s(const struct api_call *c)
{
    return c->keep_s;
}

const char *api_call_stream_type(const struct api_call *c)
{
    return c->dialect->stream_type;
}

uint32_t api_call_n_prompts(const struct api_call *c)
{
    return c->n_prompts;
}

const struct api_dialect *api_call_dialect(const struct api_call *c)
{
    return c->dialect;
}

bool api_call_is_answered(struct api_call *c, struct buf *out)
{
    if (c->is_answered)
        c->dialect->writer->answered(c, out);
    return c->is_answered;
}
