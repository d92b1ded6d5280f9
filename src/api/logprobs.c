/* SPDX-License-Identifier: MIT
 * logprobs.c — both shapes of log probabilities, gathered token by token.
 * A token's text may be part of a character: it is then written with U+FFFD, and `bytes` is exact.
 */
#include <inttypes.h>
#include <math.h>

#include "api/api_int.h"

static void separate(struct buf *b)
{
    if (b->len)
        buf_add_char(b, ',');
}

/* Of what was drawn from llama-server tells probabilities themselves. */
static void add_token(struct json_writer *w, const struct api_call *c, struct slice piece,
                      float logprob)
{
    jw_key(w, "token");
    jw_string(w, piece);
    jw_key(w, c->sampling.wants_drawn ? "prob" : "logprob");
    jw_double(w, c->sampling.wants_drawn ? exp((double)logprob) : (double)logprob);
    jw_key(w, "bytes");
    jw_begin_array(w);
    for (size_t i = 0; i < piece.len; i++)
        jw_int(w, (unsigned char)piece.ptr[i]);
    jw_end_array(w);
}

static struct slice piece_of(const struct api_call *c, uint32_t token)
{
    return tokenizer_piece(c->tokenizer, token, true);
}

static uint32_t n_shown(const struct api_call *c, const struct sampled *s)
{
    return s->n_top < c->n_top_logprobs ? s->n_top : c->n_top_logprobs;
}

static void add_id(struct json_writer *w, uint32_t token, bool has_ids)
{
    if (!has_ids)
        return;
    jw_key(w, "id");
    jw_int(w, token);
}

static void add_chat(const struct api_call *c, struct api_choice *choice, uint32_t token,
                     const struct sampled *s, bool has_ids)
{
    struct json_writer w;
    separate(&choice->logprobs);
    jw_init(&w, &choice->logprobs);
    jw_begin_object(&w);
    add_id(&w, token, has_ids);
    add_token(&w, c, piece_of(c, token), s->logprob);
    jw_key(&w, c->sampling.wants_drawn ? "top_probs" : "top_logprobs");
    jw_begin_array(&w);
    for (uint32_t i = 0; i < n_shown(c, s); i++) {
        jw_begin_object(&w);
        add_id(&w, s->top_tokens[i], has_ids);
        add_token(&w, c, piece_of(c, s->top_tokens[i]), s->top_logprobs[i]);
        jw_end_object(&w);
    }
    jw_end_array(&w);
    jw_end_object(&w);
}

/* In `top_logprobs` tokens are keys: of those that spell alike the likeliest stays. */
static bool is_repeated(const struct api_call *c, const struct sampled *s, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++)
        if (slice_equal(piece_of(c, s->top_tokens[i]), piece_of(c, s->top_tokens[index])))
            return true;
    return false;
}

/* s NULL: the first token of all, which nothing predicts. */
static void add_text(const struct api_call *c, struct api_choice *choice, uint32_t token,
                     const struct sampled *s, size_t offset)
{
    struct buf *tokens = &choice->more_logprobs[API_LOGPROBS_TOKENS];
    struct buf *values = &choice->more_logprobs[API_LOGPROBS_VALUES];
    struct buf *offsets = &choice->more_logprobs[API_LOGPROBS_OFFSETS];
    struct json_writer w;
    separate(tokens);
    json_write_string(tokens, piece_of(c, token));
    separate(values);
    if (s)
        json_write_double(values, (double)s->logprob);
    else
        buf_add_text(values, "null");
    separate(offsets);
    buf_printf(offsets, "%zu", offset);
    separate(&choice->logprobs);
    if (!s) {
        buf_add_text(&choice->logprobs, "null");
        return;
    }
    jw_init(&w, &choice->logprobs);
    jw_begin_object(&w);
    for (uint32_t i = 0; i < n_shown(c, s); i++) {
        if (is_repeated(c, s, i))
            continue;
        jw_key_slice(&w, piece_of(c, s->top_tokens[i]));
        jw_double(&w, (double)s->top_logprobs[i]);
    }
    jw_end_object(&w);
}

void logprobs_add_chat(const struct api_call *c, struct api_choice *choice,
                       const struct engine_event *ev)
{
    add_chat(c, choice, ev->token, ev->sampled, false);
}

void logprobs_add_llama(const struct api_call *c, struct api_choice *choice,
                        const struct engine_event *ev)
{
    add_chat(c, choice, ev->token, ev->sampled, true);
}

void logprobs_add_text(const struct api_call *c, struct api_choice *choice,
                       const struct engine_event *ev)
{
    add_text(c, choice, ev->token, ev->sampled, choice->text_chars);
}

size_t count_chars(struct slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.ptr[i] & 0xC0) != 0x80;
    return n;
}

/* Bytes of the rest of an echo that a token stands for: what it spells, or that without the blank
 * that a vocabulary puts before a text; none where it is not in the text (BOS). */
static size_t width_in(struct slice rest, struct slice piece)
{
    if (piece.len && slice_starts(rest, piece))
        return piece.len;
    if (piece.len > 1 && piece.ptr[0] == ' ') {
        struct slice inner = {piece.ptr + 1, piece.len - 1};
        if (slice_starts(rest, inner))
            return inner.len;
    }
    return 0;
}

void logprobs_add_echo(const struct api_call *c, struct api_choice *choice, struct slice echo,
                       const struct engine_event *ev)
{
    struct slice rest = {echo.ptr + choice->echo_at, echo.len - choice->echo_at};
    size_t width = width_in(rest, piece_of(c, ev->token));
    add_text(c, choice, ev->token, ev->sampled, choice->text_chars);
    choice->text_chars += count_chars((struct slice){rest.ptr, width});
    choice->echo_at += width;
    choice->n_echoed++;
}

static void write_array(struct json_writer *w, const char *key, struct buf *items)
{
    jw_key(w, key);
    jw_begin_array(w);
    if (items->len)
        jw_raw(w, buf_slice(items));
    jw_end_array(w);
    buf_clear(items);
}

void logprobs_write_chat(struct json_writer *w, const struct api_call *c, struct api_choice *choice)
{
    jw_key(w, "logprobs");
    if (!c->wants_logprobs) {
        jw_null(w);
        return;
    }
    jw_begin_object(w);
    write_array(w, "content", &choice->logprobs);
    jw_end_object(w);
}

void logprobs_write_text(struct json_writer *w, const struct api_call *c, struct api_choice *choice)
{
    jw_key(w, "logprobs");
    if (!c->wants_logprobs) {
        jw_null(w);
        return;
    }
    jw_begin_object(w);
    write_array(w, "tokens", &choice->more_logprobs[API_LOGPROBS_TOKENS]);
    write_array(w, "token_logprobs", &choice->more_logprobs[API_LOGPROBS_VALUES]);
    write_array(w, "top_logprobs", &choice->logprobs);
    write_array(w, "text_offset", &choice->more_logprobs[API_LOGPROBS_OFFSETS]);
    jw_end_object(w);
}

void logprobs_write_list(struct json_writer *w, const struct api_call *c, struct api_choice *choice,
                         const struct api_item *item, bool is_all)
{
    const struct buf *b = is_all ? &item->logprobs : &choice->logprobs;
    jw_key(w, "logprobs");
    jw_begin_array(w);
    if (c->keeps_item_logprobs && b->len)
        jw_raw(w, buf_slice(b));
    jw_end_array(w);
}
