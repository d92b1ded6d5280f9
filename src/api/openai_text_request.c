/* SPDX-License-Identifier: MIT
 * openai_text_request.c — the request of /v1/completions: prompts as text or token ids, echo, the
 * old logprobs. */
#include "api/api_int.h"

static bool add_item(struct fields *f, const struct json *v, size_t i, uint32_t n_vocab,
                     const struct tokenizer *t, struct token_list *ids)
{
    struct err e = {.code = OK};
    if (v->kind == JSON_INT && v->integer >= 0 && v->integer < n_vocab) {
        if (token_list_add(ids, (uint32_t)v->integer) != OK)
            field_fail(f, E_NOMEM, "prompt", "out of memory");
    } else if (v->kind == JSON_STRING && t) {
        struct encode_flags flags = {.add_special = i == 0, .parse_special = true};
        if (tokenizer_encode(t, v->text, flags, ids, &e) != OK)
            field_fail(f, e.code, "prompt", "%s", e.msg);
    } else {
        field_fail(f, E_INVALID, "prompt", "item %zu is not a token id from 0 to %u", i,
                   n_vocab - 1);
    }
    return f->status == OK;
}

/* Token ids, and texts among them. */
static void read_token_ids(struct fields *f, const struct json *v, uint32_t n_vocab,
                           const struct tokenizer *t, struct engine_request *r)
{
    struct token_list list = {0};
    uint32_t *ids = NULL;
    for (size_t i = 0; i < v->count && add_item(f, &v->items[i], i, n_vocab, t, &list); i++)
        if (list.count > API_PROMPT_TOKENS_MAX)
            field_fail(f, E_LIMIT, "prompt", "over %u tokens", API_PROMPT_TOKENS_MAX);
    if (f->status == OK) {
        ids = arena_alloc(&r->arena, list.count ? list.count : 1, sizeof *ids);
        if (!ids)
            field_fail(f, E_NOMEM, "prompt", "out of memory");
        else if (list.count)
            memcpy(ids, list.ids, list.count * sizeof *ids);
    }
    r->kind = PROMPT_TOKENS;
    r->tokens = ids;
    r->n_tokens = ids ? (uint32_t)list.count : 0;
    token_list_release(&list);
}

static void read_prompt(struct fields *f, const struct json *v, uint32_t n_vocab,
                        const struct tokenizer *t, struct engine_request *r)
{
    if (v && v->kind == JSON_STRING) {
        r->kind = PROMPT_TEXT;
        r->text = v->text;
    } else if (v && v->kind == JSON_ARRAY && v->count > 0) {
        read_token_ids(f, v, n_vocab, t, r);
    } else {
        field_fail(f, E_INVALID, "prompt",
                   "must be a string, an array of token ids, or an array of these");
    }
}

/* An array of prompts, not one of token ids and texts. */
static bool is_list(const struct json *v)
{
    if (!v || v->kind != JSON_ARRAY || v->count == 0)
        return false;
    for (size_t i = 0; i < v->count; i++)
        if (v->items[i].kind != JSON_STRING && v->items[i].kind != JSON_ARRAY)
            return false;
    return true;
}

/* "text", [1, 2, "text", 3], or an array of either: several prompts.  The first goes into r, the
 * others are checked here and made by api_call_prompt. */
void read_prompts(struct fields *f, const struct api_context *context, struct api_call *c,
                  struct engine_request *r)
{
    const struct json *v = field(f, "prompt");
    if (f->status != OK)
        return;
    if (!is_list(v)) {
        read_prompt(f, v, context->n_vocab, c->tokenizer, r);
        c->prompts = v;
        return;
    }
    if (v->count > API_PROMPTS_MAX) {
        field_fail(f, E_LIMIT, "prompt", "%zu prompts, at most %u", v->count, API_PROMPTS_MAX);
        return;
    }
    c->prompts = v->items;
    c->n_prompts = (uint32_t)v->count;
    for (size_t i = v->count; i-- > 0 && f->status == OK;)
        read_prompt(f, &v->items[i], context->n_vocab, c->tokenizer, r); /* the first one stays */
}

static struct slice copy_slice(struct arena *a, struct slice s)
{
    char *text = arena_text(a, s.ptr, s.len);
    return (struct slice){text ? text : "", text ? s.len : 0};
}

/* NULL: no memory, and the arena says so. */
static const struct json *copy_json(struct arena *a, const struct json *v)
{
    struct buf b;
    struct json *copy = NULL;
    struct err e;
    buf_init(&b, JSON_BYTES_MAX);
    json_write(&b, v, (struct json_style){.is_compact = true});
    if (b.failed || json_parse(buf_slice(&b), a, &copy, &e) != OK)
        a->failed = true;
    buf_release(&b);
    return copy;
}

enum status api_call_prompt(const struct api_call *c, uint32_t prompt,
                            const struct engine_request *first, struct engine_request *r,
                            struct api_error *error)
{
    struct arena arena = r->arena;
    struct fields f = {.error = error};
    *r = *first;
    r->arena = arena;
    r->text = (struct slice){"", 0};
    r->tokens = NULL;
    r->n_tokens = 0;
    if (c->dialect->read_prompt)
        c->dialect->read_prompt(&f, c, prompt, r);
    else
        read_prompt(&f, &c->prompts[prompt], UINT32_MAX, c->tokenizer, r);
    if (r->kind == PROMPT_TEXT)
        r->text = copy_slice(&r->arena, r->text);
    r->grammar = copy_slice(&r->arena, first->grammar);
    if (first->schema)
        r->schema = copy_json(&r->arena, first->schema);
    for (uint32_t i = 0; i < r->n_stops; i++)
        r->stops[i] = copy_slice(&r->arena, first->stops[i]);
    if (r->sampling.n_bias) {
        struct logit_bias *bias = arena_alloc(&r->arena, r->sampling.n_bias, sizeof *bias);
        if (bias)
            memcpy(bias, first->sampling.bias, r->sampling.n_bias * sizeof *bias);
        r->sampling.bias = bias;
    }
    if (f.status == OK && r->arena.failed)
        return api_error_set(error, E_NOMEM, NULL, "out of memory");
    return f.status;
}

static struct slice text_of_prompt(struct fields *f, const struct api_context *context,
                                   struct api_call *c, const struct json *prompt, const char *name)
{
    struct buf b;
    buf_init(&b, JSON_BYTES_MAX);
    if (prompt->kind == JSON_STRING)
        buf_add_slice(&b, prompt->text);
    for (size_t i = 0; prompt->kind == JSON_ARRAY && i < prompt->count; i++) {
        const struct json *item = &prompt->items[i];
        buf_add_slice(&b, item->kind == JSON_STRING
                              ? item->text
                              : tokenizer_piece(context->tokenizer, (uint32_t)item->integer, true));
    }
    char *text = b.failed ? NULL : arena_text(&c->arena, buf_slice(&b).ptr, b.len);
    size_t len = b.len;
    if (!text)
        field_fail(f, E_LIMIT, name, "the prompt is too large to be repeated");
    buf_release(&b);
    return (struct slice){text ? text : "", text ? len : 0};
}

struct slice *prompt_texts(struct fields *f, const struct api_context *context, struct api_call *c,
                           const char *name)
{
    struct slice *texts = arena_alloc(&c->arena, c->n_prompts, sizeof *texts);
    if (!texts)
        field_fail(f, E_NOMEM, name, "out of memory");
    for (uint32_t i = 0; texts && i < c->n_prompts && f->status == OK; i++)
        texts[i] = text_of_prompt(f, context, c, &c->prompts[i], name);
    return f->status == OK ? texts : NULL;
}

static const struct api_field own_fields[] = {
    {"prompt", FIELD_YES,
     "a string, token ids (and strings among them), or an array of up to 128 of these", "7", NULL},
    {"echo", FIELD_YES, "with logprobs: those of the prompt's tokens too", "7", NULL},
    {"logprobs", FIELD_YES, "0 to 20", "-1", NULL},
    {"suffix", FIELD_YES, "of one prompt that is text, where the model has tokens for it", "7",
     NULL},
};
const struct field_set fields_openai_text_own = FIELD_SET(own_fields);
static const struct field_set *const all_fields[] = {
    &fields_openai_text_own, &fields_format,       &fields_common,        &fields_sampling,
    &fields_filters,         &fields_openai_inert, &fields_llama_refused, NULL};

void read_openai_text(struct fields *f, const struct api_context *context, struct api_call *c,
                      struct engine_request *r)
{
    int64_t n = 0;
    bool is_echo = false;
    read_prompts(f, context, c, r);
    if (r->kind == PROMPT_TEXT && c->n_prompts == 1)
        read_suffix(f, context, r->text, r);
    else if (field(f, "suffix"))
        field_fail(f, E_UNSUPPORTED, "suffix", "goes with one prompt that is text");
    read_formats(f, c, r);
    if (field_int(f, "logprobs", 0, SAMPLER_TOP_LOGPROBS_MAX, &n)) {
        c->wants_logprobs = true;
        c->n_top_logprobs = (uint32_t)n;
    }
    r->sampling.wants_logprob = c->wants_logprobs;
    r->sampling.n_top_logprobs = c->n_top_logprobs;
    field_bool(f, "echo", &is_echo);
    r->wants_prompt_logprobs = is_echo && c->wants_logprobs;
    if (is_echo && f->status == OK)
        c->echoes = prompt_texts(f, context, c, "echo");
    read_common(f, c, r);
    read_sampling(f, context, r);
    read_filters(f, context, r);
    read_best_of(f);
}

extern const struct api_writer writer_openai_text;
const struct api_dialect dialect_openai_text = {.name = "completions",
                                                .family = "OpenAI",
                                                .id_prefix = "cmpl-",
                                                .call_id_prefix = "call_",
                                                .stream_type = "text/event-stream",
                                                .read = read_openai_text,
                                                .writer = &writer_openai_text,
                                                .error = openai_error,
                                                .fields = all_fields};
