/* SPDX-License-Identifier: MIT
 * llama_request.c — llama-server's own requests: /completion and /infill.
 * A slot there is a place where one conversation's KV lies.  Here every prompt finds its own KV, so
 * a slot is a name: /completion with id_slot N moves the session "slot/N" (docs/api/llama.md). */
#include <stdio.h>

#include "api/api_int.h"
#include "base/check.h"

#define SLOTS_MAX 4096

static const struct api_field completion_rows[] = {
    {"prompt", FIELD_YES,
     "a string, token ids (and strings among them), or an array of up to 128 of these", "7", NULL},
    {"n_predict", FIELD_YES, "tokens of each choice; -1: to the end of the context", "-2", NULL},
    {"n_cmpl", FIELD_YES, "choices, 1 to 16", "0", NULL},
    {"n", FIELD_YES, "the same", "0", NULL},
    {"n_probs", FIELD_YES, "0 to 20: completion_probabilities", "-1", NULL},
    {"return_tokens", FIELD_YES, "ids beside the text", "7", NULL},
    {"response_fields", FIELD_YES, "names of the members that are wanted, a/b for inner ones", "7",
     NULL},
    {"stop", FIELD_YES, "a string or up to 16; no part of one leaks", "7", NULL},
    {"stream", FIELD_YES, "", "7", NULL},
    {"ignore_eos", FIELD_YES, "go on behind the model's end token", "7", NULL},
    {"return_progress", FIELD_YES, "chunks of a stream with prompt_progress", "7", NULL},
    {"cache_prompt", FIELD_YES, "false: neither look up nor keep", "7", NULL},
    {"id_slot", FIELD_YES, "names the session slot/N; the cache needs no slots", "-2", NULL},
    {"priority", FIELD_YES, "lower goes first, -100 to 100; a second of waiting counts as one",
     "101", NULL},
    {"deadline_ms", FIELD_YES, "from the request's arrival; 504 then", "-1", NULL},
    {"model", FIELD_YES,
     "which one, echoed; without --models-dir any name means the one that is here", "7", NULL},
    {"json_schema", FIELD_YES, "a schema of the answer", "7", NULL},
    {"grammar", FIELD_YES, "GBNF", "7", NULL},
    {"n_keep", FIELD_NONE, "a prompt is never cut", NULL, NULL},
    {"n_cache_reuse", FIELD_NONE, "what is reused is exact, or computed", NULL, NULL},
    {"n_indent", FIELD_YES,
     "lines behind the first begin with so many blanks at least, or the answer ends", "-1", NULL},
    {"t_max_predict_ms", FIELD_YES,
     "from the first token on; the answer ends then, once it has a line feed", "-1", NULL},
    {"t_max_prompt_ms", FIELD_NONE, "it changes nothing there either; deadline_ms does", NULL,
     NULL},
    {"timings_per_token", FIELD_YES, "timings so far in each piece of a stream", "7", NULL},
    {"image_data", FIELD_REFUSED, "models here read text", "[{\"id\":1}]", NULL},
};
static const struct field_set completion = FIELD_SET(completion_rows);

static void read_probabilities(struct fields *f, struct api_call *c, struct engine_request *r)
{
    int64_t n = 0;
    field_int(f, "n_probs", 0, SAMPLER_TOP_LOGPROBS_MAX, &n);
    c->wants_logprobs = r->sampling.wants_logprob = n > 0;
    c->n_top_logprobs = r->sampling.n_top_logprobs = (uint32_t)n;
}

static void read_shown(struct fields *f, struct api_call *c)
{
    const struct json *v = field(f, "response_fields");
    if (!v)
        return;
    bool is_list = v->kind == JSON_ARRAY;
    for (size_t i = 0; is_list && i < v->count; i++)
        is_list = v->items[i].kind == JSON_STRING;
    if (!is_list) {
        field_fail(f, E_INVALID, "response_fields", "must be an array of strings");
        return;
    }
    struct json *copy = json_new_array(&c->arena, v->count);
    for (size_t i = 0; copy && i < v->count; i++) {
        char *text = arena_text(&c->arena, v->items[i].text.ptr, v->items[i].text.len);
        copy->items[i].kind = JSON_STRING;
        copy->items[i].text = (struct slice){text ? text : "", text ? v->items[i].text.len : 0};
    }
    if (c->arena.failed)
        field_fail(f, E_LIMIT, "response_fields", "too large");
    c->shown = v->count ? copy : NULL;
}

static void read_slot(struct fields *f, struct api_call *c)
{
    int64_t slot = -1;
    field_int(f, "id_slot", -1, SLOTS_MAX - 1, &slot);
    c->slot = (int32_t)slot;
    if (slot < 0 || c->session.len)
        return;
    char text[32];
    int n = snprintf(text, sizeof text, "slot/%d", (int)slot);
    char *name = arena_text(&c->arena, text, (size_t)n);
    if (name)
        c->session = (struct slice){name, (size_t)n};
}

/* All but the prompt. */
static void read_rest(struct fields *f, const struct api_context *context, struct api_call *c,
                      struct engine_request *r)
{
    int64_t n = r->n_choices, ms = 0, n_indent = 0;
    read_formats(f, c, r);
    read_probabilities(f, c, r);
    read_shown(f, c);
    read_slot(f, c);
    field_bool(f, "return_tokens", &c->keeps_tokens);
    if (field_int(f, "t_max_predict_ms", 0, UINT32_MAX, &ms))
        r->predict_ms_max = (uint32_t)ms;
    if (field_int(f, "n_indent", 0, INT32_MAX, &n_indent))
        r->n_indent = (uint32_t)n_indent;
    read_common(f, c, r);
    if (field_int(f, "n_cmpl", 1, ENGINE_CHOICES_MAX, &n))
        r->n_choices = c->n_per_prompt = (uint32_t)n;
    read_sampling(f, context, r);
    read_filters(f, context, r);
    if (f->status == OK)
        c->prompt_texts = prompt_texts(f, context, c, "prompt");
}

static void read_completion(struct fields *f, const struct api_context *context, struct api_call *c,
                            struct engine_request *r)
{
    read_prompts(f, context, c, r);
    read_rest(f, context, c, r);
}

/* ---- /infill ---- */
/* The control tokens of models that fill in, by family: before, behind, and the middle. */
static const struct {
    const char *prefix, *suffix, *middle, *file;
} fills[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"}, /* Qwen coder, Gemma */
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", NULL},                 /* StarCoder */
    {"<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>", NULL},       /* DeepSeek, ASCII bars */
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", NULL}, /* DeepSeek */
    {"▁<PRE>", "▁<SUF>", "▁<MID>", NULL},                         /* Code Llama */
};

static uint32_t id_of(const struct api_context *context, const char *text)
{
    return text && context->tokenizer ? tokenizer_find(context->tokenizer, slice_of(text))
                                      : TOKEN_NONE;
}

struct fill {
    struct fields *f;
    const struct tokenizer *tokenizer;
    struct token_list ids;
};

static void add_id(struct fill *l, uint32_t id)
{
    if (l->f->status == OK && token_list_add(&l->ids, id) != OK)
        field_fail(l->f, E_NOMEM, "prompt", "out of memory");
}

/* Text of the user's: no control tokens in it. */
static void add_text(struct fill *l, const char *name, struct slice text)
{
    struct err e = {0};
    if (l->f->status == OK && text.len &&
        tokenizer_encode(l->tokenizer, text, (struct encode_flags){0}, &l->ids, &e) != OK)
        field_fail(l->f, e.code, name, "%s", e.msg);
}

static void add_extra(struct fill *l, uint32_t file_id)
{
    const struct json *extra = field(l->f, "input_extra");
    bool is_list = extra && extra->kind == JSON_ARRAY;
    if (extra && !is_list)
        field_fail(l->f, E_INVALID, "input_extra", "must be an array of {filename, text}");
    if (is_list && extra->count && file_id == TOKEN_NONE)
        field_fail(l->f, E_UNSUPPORTED, "input_extra", "this model has no token for files");
    for (size_t i = 0; is_list && i < extra->count && l->f->status == OK; i++) {
        const struct json *name = json_get(&extra->items[i], "filename"),
                          *text = json_get(&extra->items[i], "text");
        if (!text || text->kind != JSON_STRING || (name && name->kind != JSON_STRING)) {
            field_fail(l->f, E_INVALID, "input_extra", "must be an array of {filename, text}");
            return;
        }
        add_id(l, file_id);
        add_text(l, "input_extra", name ? name->text : SLICE_LIT("tmp"));
        add_text(l, "input_extra", SLICE_LIT("\n"));
        add_text(l, "input_extra", text->text);
    }
}

/* The row of the model's tokens; ARRAY_COUNT(fills): it has none. */
static size_t find_fill(const struct api_context *context)
{
    size_t i = 0;
    while (i < ARRAY_COUNT(fills) && (id_of(context, fills[i].prefix) == TOKEN_NONE ||
                                      id_of(context, fills[i].suffix) == TOKEN_NONE ||
                                      id_of(context, fills[i].middle) == TOKEN_NONE))
        i++;
    return i;
}

/* The prompt between, before and behind: r's prompt.  before, behind: the fields' names. */
static void fill_prompt(struct fields *f, const struct api_context *context, const char *before,
                        struct slice prefix, const char *behind, struct slice suffix,
                        struct slice prompt, struct engine_request *r)
{
    const size_t i = find_fill(context);
    struct fill l = {.f = f, .tokenizer = context->tokenizer};
    CHECK(i < ARRAY_COUNT(fills));
    add_extra(&l, id_of(context, fills[i].file));
    add_id(&l, id_of(context, fills[i].prefix));
    add_text(&l, before, prefix);
    add_id(&l, id_of(context, fills[i].suffix));
    add_text(&l, behind, suffix);
    add_id(&l, id_of(context, fills[i].middle));
    add_text(&l, "prompt", prompt);
    uint32_t *ids = arena_alloc(&r->arena, l.ids.count + 1, sizeof *ids);
    if (ids && f->status == OK) {
        memcpy(ids, l.ids.ids, l.ids.count * sizeof *ids);
        r->kind = PROMPT_TOKENS;
        r->tokens = ids;
        r->n_tokens = (uint32_t)l.ids.count;
    }
    token_list_release(&l.ids);
}

void read_suffix(struct fields *f, const struct api_context *context, struct slice prompt,
                 struct engine_request *r)
{
    struct slice suffix = {"", 0};
    if (!field_string(f, "suffix", &suffix) || suffix.len == 0)
        return;
    if (find_fill(context) == ARRAY_COUNT(fills))
        field_fail(f, E_UNSUPPORTED, "suffix",
                   "this model has no tokens for filling in (prefix, suffix, middle)");
    else
        fill_prompt(f, context, "prompt", prompt, "suffix", suffix, (struct slice){"", 0}, r);
}

static void read_infill(struct fields *f, const struct api_context *context, struct api_call *c,
                        struct engine_request *r)
{
    struct slice prefix = {"", 0}, suffix = {"", 0}, prompt = {"", 0};
    field_string(f, "input_prefix", &prefix);
    field_string(f, "input_suffix", &suffix);
    field_string(f, "prompt", &prompt);
    if (find_fill(context) == ARRAY_COUNT(fills)) {
        answer_refuse(f, 501, "not_supported_error",
                      "this model has no tokens for filling in (prefix, suffix, middle)");
        return;
    }
    fill_prompt(f, context, "input_prefix", prefix, "input_suffix", suffix, prompt, r);
    struct json *text = json_new_string(&c->arena, prompt);
    c->prompts = text;
    if (text)
        read_rest(f, context, c, r);
    else
        field_fail(f, E_NOMEM, "prompt", "out of memory");
}

static const struct api_field infill_rows[] = {
    {"input_prefix", FIELD_YES, "what stands before", "7", NULL},
    {"input_suffix", FIELD_YES, "what stands behind", "7", NULL},
    {"input_extra", FIELD_YES, "other files, where the model has a token for them", "7", NULL},
};
static const struct field_set infill = FIELD_SET(infill_rows);

static const struct field_set *const completion_fields[] = {
    &completion, &fields_sampling, &fields_filters, &fields_llama_refused, NULL};
static const struct field_set *const infill_fields[] = {
    &infill, &completion, &fields_sampling, &fields_filters, &fields_llama_refused, NULL};

extern const struct api_writer writer_llama;
const struct api_dialect dialect_llama_completion = {.name = "completion",
                                                     .family = "llama-server",
                                                     .id_prefix = "cmpl-",
                                                     .call_id_prefix = "call_",
                                                     .stream_type = "text/event-stream",
                                                     .read = read_completion,
                                                     .writer = &writer_llama,
                                                     .error = llama_error,
                                                     .fields = completion_fields};
const struct api_dialect dialect_llama_infill = {.name = "infill",
                                                 .family = "llama-server",
                                                 .id_prefix = "cmpl-",
                                                 .call_id_prefix = "call_",
                                                 .stream_type = "text/event-stream",
                                                 .read = read_infill,
                                                 .writer = &writer_llama,
                                                 .error = llama_error,
                                                 .fields = infill_fields};
