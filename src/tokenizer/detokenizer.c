/* SPDX-License-Identifier: MIT
 * detokenizer.c — ids → bytes, and the stream that never shows half a character. */
#include "base/buf.h"
#include "text/utf8.h"
#include "tokenizer/tokenizer_int.h"

struct tokenizer_info tokenizer_info(const struct tokenizer *t)
{
    return (struct tokenizer_info){
        .n_vocab = t->texts.count,
        .bos = t->bos,
        .eos = t->eos,
        .eot = t->eot,
        .pad = t->pad,
        .add_bos = t->add_bos,
        .add_eos = t->add_eos,
        .kind = t->is_spm ? "spm" : "bpe",
        .pre = t->is_spm ? "" : split_name(t->split),
    };
}

bool tokenizer_is_end(const struct tokenizer *t, uint32_t id)
{
    return id < t->texts.count && t->is_end[id];
}

bool tokenizer_is_control(const struct tokenizer *t, uint32_t id)
{
    return id < t->texts.count &&
           (t->types[id] == TOKEN_CONTROL || t->types[id] == TOKEN_UNKNOWN);
}

struct slice tokenizer_piece(const struct tokenizer *t, uint32_t id, bool with_special)
{
    if (id >= t->texts.count || t->types[id] == TOKEN_UNUSED)
        return SLICE_LIT("");
    if (tokenizer_is_control(t, id) && !with_special)
        return SLICE_LIT("");
    return strings_at(&t->pieces, id);
}

uint32_t tokenizer_find(const struct tokenizer *t, struct slice text)
{
    return words_find(&t->by_text, text.ptr, text.len);
}

void detok_init(struct detokenizer *d, const struct tokenizer *t, bool with_special)
{
    *d = (struct detokenizer){
        .tokenizer = t,
        .with_special = with_special,
        .at_start = t->is_spm && t->add_space_prefix,
    };
}

/* Appends bytes as UTF-8: what is malformed becomes U+FFFD, what may still be completed is kept. */
static void push_bytes(struct detokenizer *d, struct slice bytes, struct buf *out)
{
    size_t incomplete = utf8_incomplete_tail(bytes.ptr, bytes.len);
    const char *p = bytes.ptr, *end = p + bytes.len - incomplete;
    while (p < end) {
        size_t well = utf8_valid_prefix(p, (size_t)(end - p));
        buf_add(out, p, well);
        p += well;
        if (p == end)
            break;
        uint32_t cp;
        p += utf8_decode(p, (size_t)(end - p), &cp);
        buf_add(out, "\xEF\xBF\xBD", 3);
    }
    memcpy(d->held, end, incomplete);
    d->n_held = (uint32_t)incomplete;
}

void detok_push(struct detokenizer *d, uint32_t id, struct buf *out)
{
    struct slice piece = tokenizer_piece(d->tokenizer, id, d->with_special);
    if (d->at_start && !tokenizer_is_control(d->tokenizer, id)) {
        d->at_start = false;
        if (piece.len > 0 && piece.ptr[0] == ' ')
            piece = (struct slice){piece.ptr + 1, piece.len - 1};
    }
    while (d->n_held > 0 && piece.len > 0) {
        /* The held bytes and so many of the new ones as decide them; the rest where it lies. */
        char joined[2 * sizeof d->held];
        size_t n = d->n_held, taken = 0;
        memcpy(joined, d->held, n);
        do
            joined[n++] = piece.ptr[taken++];
        while (taken < piece.len && n < sizeof joined && utf8_incomplete_tail(joined, n) > 0);
        push_bytes(d, (struct slice){joined, n}, out);
        piece = (struct slice){piece.ptr + taken, piece.len - taken};
    }
    if (piece.len > 0)
        push_bytes(d, piece, out);
}

void detok_flush(struct detokenizer *d, struct buf *out)
{
    if (d->n_held > 0)
        buf_add(out, "\xEF\xBF\xBD", 3);
    d->n_held = 0;
}
