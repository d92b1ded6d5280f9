/* SPDX-License-Identifier: MIT
 * text.c — the request of /v1/completions: a prompt as text or token ids, echo, the old logprobs.
 */
#include "api/api_int.h"

static void read_token_ids(struct fields *f, const struct json *v, uint32_t n_vocab,
                           struct engine_request *r)
{
    if (v->count > API_PROMPT_TOKENS_MAX) {
        field_fail(f, E_LIMIT, "prompt", "%zu tokens, at most %u", v->count, API_PROMPT_TOKENS_MAX);
        return;
    }
    uint32_t *ids = arena_alloc(&r->arena, v->count, sizeof *ids);
    if (!ids) {
        field_fail(f, E_NOMEM, "prompt", "out of memory");
        return;
    }
    for (size_t i = 0; i < v->count; i++) {
        const struct json *id = &v->items[i];
        if (id->kind != JSON_INT || id->integer < 0 || id->integer >= n_vocab) {
            field_fail(f, E_INVALID, "prompt", "item %zu is not a token id from 0 to %u", i,
                       n_vocab - 1);
            return;
        }
        ids[i] = (uint32_t)id->integer;
    }
    r->kind = PROMPT_TOKENS;
    r->tokens = ids;
    r->n_tokens = (uint32_t)v->count;
}

/* "text", ["text"], [1, 2, 3] or [[1, 2, 3]]: one prompt. */
static void read_prompt(struct fields *f, uint32_t n_vocab, struct engine_request *r)
{
    const struct json *v = field(f, "prompt");
    if (f->status != OK)
        return;
    bool is_list = v && v->kind == JSON_ARRAY && v->count > 0 &&
                   (v->items[0].kind == JSON_STRING || v->items[0].kind == JSON_ARRAY);
    if (is_list && v->count > 1) {
        field_fail(f, E_UNSUPPORTED, "prompt", "one prompt per request, not %zu", v->count);
        return;
    }
    if (is_list)
        v = &v->items[0];
    if (v && v->kind == JSON_STRING) {
        r->kind = PROMPT_TEXT;
        r->text = v->text;
    } else if (v && v->kind == JSON_ARRAY && v->count > 0) {
        read_token_ids(f, v, n_vocab, r);
    } else {
        field_fail(f, E_INVALID, "prompt", "must be a string or an array of token ids");
    }
}

static void set_echo(struct fields *f, const struct api_context *context, struct api_call *c,
                     const struct engine_request *r)
{
    struct buf b;
    buf_init(&b, JSON_BYTES_MAX);
    if (r->kind == PROMPT_TEXT)
        buf_add_slice(&b, r->text);
    for (uint32_t i = 0; i < r->n_tokens; i++)
        buf_add_slice(&b, tokenizer_piece(context->tokenizer, r->tokens[i], true));
    char *text = b.failed ? NULL : arena_text(&c->arena, buf_slice(&b).ptr, b.len);
    if (!text)
        field_fail(f, E_LIMIT, "echo", "the prompt is too large to be repeated");
    else
        c->echo = (struct slice){text, b.len};
    buf_release(&b);
}

void read_text(struct fields *f, const struct api_context *context, struct api_call *c,
               struct engine_request *r)
{
    int64_t n = 0;
    bool is_echo = false;
    read_prompt(f, context->n_vocab, r);
    if (field_int(f, "logprobs", 0, SAMPLER_TOP_LOGPROBS_MAX, &n)) {
        c->wants_logprobs = true;
        c->n_top_logprobs = (uint32_t)n;
    }
    r->sampling.wants_logprob = c->wants_logprobs;
    r->sampling.n_top_logprobs = c->n_top_logprobs;
    field_bool(f, "echo", &is_echo);
    if (is_echo && c->wants_logprobs)
        field_fail(f, E_UNSUPPORTED, "echo", "together with logprobs is not supported yet");
    if (is_echo && f->status == OK)
        set_echo(f, context, c, r);
}
