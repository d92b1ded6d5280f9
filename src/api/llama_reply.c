/* SPDX-License-Identifier: MIT
 * llama_reply.c — replies of /completion and /infill: one object a choice; of several an array.
 * A stream is one object a piece, the last of each choice with "stop": true and what it cost; there
 * is no [DONE]. */
#include "api/api_int.h"

#define SHOWN_BYTES_MAX (512u << 20)

void llama_error(struct buf *out, const struct api_error *x)
{
    static const struct {
        int http;
        const char *type;
    } types[] = {{400, "invalid_request_error"}, {401, "authentication_error"},
                 {403, "permission_error"},      {404, "not_found_error"},
                 {501, "not_supported_error"},   {503, "unavailable_error"}};
    const char *type = x->http >= 500 ? "server_error" : "invalid_request_error";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].http == x->http)
            type = types[i].type;
    if (x->http == 429)
        type = "rate_limit_error";
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "error");
    jw_begin_object(&w);
    jw_key(&w, "code");
    jw_int(&w, x->http);
    jw_key(&w, "message");
    jw_text(&w, x->message);
    jw_key(&w, "type");
    jw_text(&w, x->n_context ? "exceed_context_size_error" : type);
    if (x->n_context) {
        jw_key(&w, "n_prompt_tokens");
        jw_int(&w, x->n_prompt);
        jw_key(&w, "n_ctx");
        jw_int(&w, x->n_context);
    }
    jw_end_object(&w);
    jw_end_object(&w);
}

void llama_write_params(struct json_writer *w, const struct sampler_params *p, uint32_t max_tokens)
{
    const struct {
        const char *name;
        double value;
    } reals[] = {{"temperature", (double)p->temperature},
                 {"top_p", (double)p->top_p},
                 {"min_p", (double)p->min_p},
                 {"typical_p", (double)p->typical_p},
                 {"repeat_penalty", (double)p->repeat_penalty},
                 {"presence_penalty", (double)p->presence_penalty},
                 {"frequency_penalty", (double)p->frequency_penalty}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        jw_key(w, reals[i].name);
        jw_double(w, reals[i].value);
    }
    jw_key(w, "top_k");
    jw_int(w, p->top_k);
    jw_key(w, "repeat_last_n");
    jw_int(w, p->repeat_last_n);
    write_filters(w, p);
    jw_key(w, "n_predict");
    jw_int(w, max_tokens == ENGINE_TOKENS_ALL ? -1 : (int64_t)max_tokens);
}

static void write_ids(struct json_writer *w, struct api_choice *choice)
{
    jw_key(w, "tokens");
    jw_begin_array(w);
    if (choice->token_ids.len)
        jw_raw(w, buf_slice(&choice->token_ids));
    jw_end_array(w);
    buf_clear(&choice->token_ids);
}

static void write_probabilities(struct json_writer *w, const struct api_call *c,
                                struct api_choice *choice)
{
    if (!c->wants_logprobs)
        return;
    jw_key(w, "completion_probabilities");
    jw_begin_array(w);
    if (choice->logprobs.len)
        jw_raw(w, buf_slice(&choice->logprobs));
    jw_end_array(w);
    buf_clear(&choice->logprobs);
}

static void begin(struct json_writer *w, struct api_call *c, const struct api_choice *choice)
{
    buf_clear(&c->chunk);
    jw_init(w, &c->chunk);
    jw_begin_object(w);
    jw_key(w, "index");
    jw_int(w, choice->index);
}

static void write_counts(struct json_writer *w, const struct api_call *c,
                         const struct api_choice *choice)
{
    const struct engine_usage *u = &c->usages[choice->index / c->n_per_prompt];
    jw_key(w, "id_slot");
    jw_int(w, c->slot >= 0 ? c->slot : (int64_t)choice->index);
    jw_key(w, "tokens_predicted");
    jw_int(w, choice->n_tokens);
    jw_key(w, "tokens_evaluated");
    jw_int(w, u->prompt_tokens);
}

static void write_settings(struct json_writer *w, const struct api_call *c)
{
    jw_key(w, "generation_settings");
    jw_begin_object(w);
    llama_write_params(w, &c->sampling, c->max_tokens);
    jw_key(w, "stream");
    jw_bool(w, c->is_stream);
    jw_key(w, "n_probs");
    jw_int(w, c->n_top_logprobs);
    jw_end_object(w);
}

/* All that is told at a choice's end, into c->chunk. */
static void write_end(struct json_writer *w, struct api_call *c, const struct api_choice *choice)
{
    uint32_t prompt = choice->index / c->n_per_prompt;
    const struct engine_usage *u = &c->usages[prompt];
    struct slice text = c->prompt_texts ? c->prompt_texts[prompt] : (struct slice){"", 0};
    write_counts(w, c, choice);
    jw_key(w, "stop");
    jw_bool(w, true);
    jw_key(w, "model");
    jw_string(w, c->model);
    write_settings(w, c);
    jw_key(w, "prompt");
    jw_string(w, text);
    jw_key(w, "truncated");
    jw_bool(w, false);
    jw_key(w, "stop_type");
    jw_text(w, choice->finish == FINISH_LENGTH ? "limit" : choice->stop.len ? "word" : "eos");
    jw_key(w, "stopping_word");
    jw_string(w, choice->stop);
    jw_key(w, "tokens_cached");
    jw_int(w, (int64_t)u->memory_tokens + u->disk_tokens);
    write_timings(w, u);
    write_kvasir(w, c, u);
}

/* The member that a path such as "timings/prompt_n" names. */
static const struct json *find(const struct json *v, struct slice path, struct slice *last)
{
    while (v && path.len) {
        const char *slash = memchr(path.ptr, '/', path.len);
        *last = (struct slice){path.ptr, slash ? (size_t)(slash - path.ptr) : path.len};
        size_t used = last->len + (slash ? 1 : 0);
        path = (struct slice){path.ptr + used, path.len - used};
        const struct json *next = NULL;
        for (size_t i = 0; v->kind == JSON_OBJECT && i < v->count && !next; i++)
            if (slice_equal(v->members[i].key, *last))
                next = &v->members[i].value;
        v = next;
    }
    return v;
}

static bool is_repeated(const struct api_call *c, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (slice_equal(c->shown->items[j].text, c->shown->items[i].text))
            return true;
    return false;
}

/* c->chunk, or those of its members that were asked for, each under the last part of its path. */
static void put_object(struct api_call *c, struct buf *out)
{
    if (c->chunk.failed)
        out->failed = true;
    if (!c->shown || out->failed) {
        buf_add_slice(out, buf_slice(&c->chunk));
        return;
    }
    struct arena arena;
    struct json *v = NULL;
    struct err e;
    struct json_writer w;
    arena_init(&arena, SHOWN_BYTES_MAX);
    if (json_parse(buf_slice(&c->chunk), &arena, &v, &e) != OK) {
        out->failed = true;
        arena_release(&arena);
        return;
    }
    jw_init(&w, out);
    jw_begin_object(&w);
    for (size_t i = 0; i < c->shown->count; i++) {
        struct slice last = {"", 0};
        const struct json *member = find(v, c->shown->items[i].text, &last);
        if (!member || !last.len || is_repeated(c, i))
            continue;
        jw_key_slice(&w, last);
        jw_value(&w, member);
    }
    jw_end_object(&w);
    arena_release(&arena);
}

static void send(struct api_call *c, struct buf *out)
{
    buf_add_text(out, "data: ");
    put_object(c, out);
    buf_add_text(out, "\n\n");
}

static void item_add(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out)
{
    struct json_writer w;
    (void)item;
    begin(&w, c, choice);
    jw_key(&w, "content");
    jw_string(&w, piece);
    write_ids(&w, choice);
    jw_key(&w, "stop");
    jw_bool(&w, false);
    write_counts(&w, c, choice);
    write_probabilities(&w, c, choice);
    write_timings_so_far(&w, c);
    jw_end_object(&w);
    const struct json *shown = c->shown; /* it is for the end */
    c->shown = NULL;
    send(c, out);
    c->shown = shown;
}

static void progress(struct api_call *c, const struct engine_event *ev, struct buf *out)
{
    struct json_writer w;
    buf_clear(&c->chunk);
    jw_init(&w, &c->chunk);
    jw_begin_object(&w);
    jw_key(&w, "index");
    jw_int(&w, 0);
    jw_key(&w, "content");
    jw_text(&w, "");
    jw_key(&w, "stop");
    jw_bool(&w, false);
    write_prompt_progress(&w, ev);
    jw_end_object(&w);
    buf_add_text(out, "data: ");
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_text(out, "\n\n");
}

static void choice_end(struct api_call *c, struct api_choice *choice, struct buf *out)
{
    struct json_writer w;
    begin(&w, c, choice);
    jw_key(&w, "content");
    jw_text(&w, "");
    write_ids(&w, choice);
    write_probabilities(&w, c, choice);
    write_end(&w, c, choice);
    jw_end_object(&w);
    send(c, out);
}

static void end(struct api_call *c, struct buf *out)
{
    choice_end(c, &c->choices[c->last_choice], out);
}

static void whole(struct api_call *c, struct buf *out)
{
    if (c->n_choices > 1)
        buf_add_char(out, '[');
    for (uint32_t i = 0; i < c->n_choices; i++) {
        struct json_writer w;
        struct api_choice *choice = &c->choices[i];
        if (i > 0)
            buf_add_char(out, ',');
        begin(&w, c, choice);
        jw_key(&w, "content");
        choice_text(&w, choice, ITEM_TEXT);
        write_ids(&w, choice);
        write_probabilities(&w, c, choice);
        write_end(&w, c, choice);
        jw_end_object(&w);
        put_object(c, out);
    }
    buf_add_text(out, c->n_choices > 1 ? "]\n" : "\n");
}

static void stream_error(struct api_call *c, const struct api_error *error, struct buf *out)
{
    (void)c;
    buf_add_text(out, "data: ");
    llama_error(out, error);
    buf_add_text(out, "\n\n");
}

const struct api_writer writer_llama = {.progress = progress,
                                        .token = logprobs_add_llama,
                                        .item_add = item_add,
                                        .choice_end = choice_end,
                                        .end = end,
                                        .whole = whole,
                                        .error = stream_error};
