/* SPDX-License-Identifier: MIT
 * encode.c — text → special tokens and the text between them → words → ids. */
#include "base/check.h"
#include "base/mem.h"
#include "tokenizer/nfc.h"
#include "tokenizer/tokenizer_int.h"

#define BLANK_MARK "\xE2\x96\x81" /* U+2581, how SPM files store a blank */

void token_list_release(struct token_list *l)
{
    mem_free(l->ids);
    *l = (struct token_list){0};
}

static enum status list_reserve(struct token_list *l, size_t n, struct err *e)
{
    if (l->cap - l->count >= n)
        return OK;
    size_t cap = l->cap + l->cap / 2 + n + 64;
    uint32_t *ids = mem_try_resize(l->ids, cap, sizeof *ids);
    if (!ids)
        return err_set(e, E_NOMEM, "list of %zu tokens", cap);
    l->ids = ids;
    l->cap = cap;
    return OK;
}

enum status token_list_add(struct token_list *l, uint32_t id)
{
    enum status st = list_reserve(l, 1, NULL);
    if (st == OK)
        l->ids[l->count++] = id;
    return st;
}

enum status encoder_reserve(struct encoder *enc, size_t n)
{
    return list_reserve(enc->out, n, enc->e);
}

enum status encoder_scratch(struct encoder *enc, size_t bytes)
{
    if (enc->scratch_bytes >= bytes)
        return OK;
    mem_free(enc->scratch);
    enc->scratch_bytes = 0;
    enc->scratch = mem_try_new(bytes, 1);
    if (!enc->scratch)
        return err_set(enc->e, E_NOMEM, "%zu bytes to encode a long word", bytes);
    enc->scratch_bytes = bytes;
    return OK;
}

static enum status encode_bpe(struct encoder *enc, struct slice text)
{
    const struct tokenizer *t = enc->t;
    struct buf normalized = {0};
    enum status st = OK;
    if (t->normalizes && nfc_first_change(t->classes, text) < text.len) {
        /* NFC triples the bytes at worst (U+1D160 and its like). */
        buf_init(&normalized, 3 * text.len + 64);
        st = nfc_append(t->classes, text, &normalized, enc->e);
        text = buf_slice(&normalized);
    }
    size_t at = 0;
    while (st == OK && at < text.len) {
        size_t end = split_next(t->split, t->classes, text, at);
        DCHECK(end > at && end <= text.len);
        st = bpe_word(enc, (struct slice){text.ptr + at, end - at});
        at = end;
    }
    buf_release(&normalized);
    return st;
}

static enum status spm_words(struct encoder *enc, struct slice text)
{
    enum status st = OK;
    size_t at = 0;
    while (st == OK && at < text.len) {
        size_t end = borders_next(&enc->t->borders, text, at);
        st = spm_word(enc, (struct slice){text.ptr + at, end - at});
        at = end;
    }
    return st;
}

/* Appends text with each U+2581 as the blank that it means. */
static void add_blanks(struct buf *out, struct slice text)
{
    const char *p = text.ptr, *end = p + text.len, *mark;
    while ((mark = memmem(p, (size_t)(end - p), BLANK_MARK, 3)) != NULL) {
        buf_add(out, p, (size_t)(mark - p));
        buf_add_char(out, ' ');
        p = mark + 3;
    }
    buf_add(out, p, (size_t)(end - p));
}

static enum status encode_spm(struct encoder *enc, struct slice text)
{
    if (!enc->t->add_space_prefix && !memmem(text.ptr, text.len, BLANK_MARK, 3))
        return spm_words(enc, text);
    struct buf copy;
    buf_init(&copy, text.len + 1);
    if (enc->t->add_space_prefix)
        buf_add_char(&copy, ' ');
    add_blanks(&copy, text);
    enum status st = copy.failed ? err_set(enc->e, E_NOMEM, "copy of %zu bytes", text.len)
                                 : spm_words(enc, buf_slice(&copy));
    buf_release(&copy);
    return st;
}

static enum status encode_id(struct encoder *enc, uint32_t id)
{
    enum status st = encoder_reserve(enc, 1);
    if (st == OK)
        enc->out->ids[enc->out->count++] = id;
    return st;
}

static enum status encode_text(struct encoder *enc, struct slice text, bool parse_special)
{
    const struct tokenizer *t = enc->t;
    enum status st = OK;
    size_t at = 0;
    while (st == OK && at < text.len) {
        struct special_hit hit = specials_next(&t->specials, text, at, parse_special);
        struct slice between = {text.ptr + at, hit.at - at};
        if (between.len > 0)
            st = t->is_spm ? encode_spm(enc, between) : encode_bpe(enc, between);
        if (st == OK && hit.len > 0)
            st = encode_id(enc, hit.id);
        at = hit.at + hit.len;
    }
    return st;
}

enum status tokenizer_encode(const struct tokenizer *t, struct slice text, struct encode_flags flags,
                             struct token_list *out, struct err *e)
{
    struct encoder enc = {.t = t, .out = out, .e = e};
    size_t count_before = out->count;
    enum status st = OK;
    if (text.len > TOKENIZER_TEXT_MAX)
        return err_set(e, E_LIMIT, "text of %zu bytes; at most %u", text.len, TOKENIZER_TEXT_MAX);
    if (flags.add_special && t->add_bos && t->bos != TOKEN_NONE)
        st = encode_id(&enc, t->bos);
    if (st == OK)
        st = encode_text(&enc, text, flags.parse_special);
    if (st == OK && flags.add_special && t->add_eos && t->eos != TOKEN_NONE)
        st = encode_id(&enc, t->eos);
    if (st != OK)
        out->count = count_before;
    mem_free(enc.scratch);
    return st;
}

bool tokenizer_cuts_at(const struct tokenizer *t, uint32_t id)
{
    return id < t->texts.count && specials_is_unmistakable(&t->specials, id);
}
