/* SPDX-License-Identifier: MIT
 * spm.c — SentencePiece's BPE of one word: characters, joined by the score of what they make.
 * A pair may be joined when its text is a token, whichever way it was cut (so the look-up is by
 * text, not by ids).  Blanks are U+0020 here and in by_piece; U+2581 is only how files store them. */
#include "tokenizer/classes.h"
#include "tokenizer/merge.h"

static inline uint32_t rank_of_text(const struct tokenizer *t, const char *word, struct symbol left,
                                    struct symbol right, uint32_t *id)
{
    uint32_t len = right.end - left.start;
    if (len > t->piece_bytes_max)
        return MERGE_NEVER;
    uint32_t found = words_find(&t->by_piece, word + left.start, len);
    if (found == WORDS_NONE)
        return MERGE_NEVER;
    *id = found;
    return t->ranks[found];
}

/* symbols [at most word.len]; returns how many characters there are, or max + 1 when more. */
static uint32_t fill_symbols(const struct tokenizer *t, struct slice word, struct symbol *symbols,
                             uint32_t max)
{
    const char *end = word.ptr + word.len;
    uint32_t n = 0, at = 0;
    while (at < word.len) {
        if (n == max)
            return max + 1;
        uint32_t cp, id;
        uint32_t bytes = (uint32_t)class_decode(word.ptr + at, end, &cp);
        id = bytes == 1 && cp < 128 ? t->ascii_ids[cp] : words_find(&t->by_piece, word.ptr + at, bytes);
        symbols[n++] = (struct symbol){id, at, at + bytes};
        at += bytes;
    }
    return n;
}

/* A character that is no token: its bytes, else the unknown token, else nothing. */
static void emit_bytes(struct encoder *enc, struct slice character)
{
    const struct tokenizer *t = enc->t;
    if (character.len == 1 && character.ptr[0] == ' ')
        character = SLICE_LIT("\xE2\x96\x81");
    bool all = true;
    for (size_t i = 0; i < character.len; i++)
        all &= t->byte_ids[(uint8_t)character.ptr[i]] != TOKEN_NONE;
    if (!all && t->unk != TOKEN_NONE) {
        enc->out->ids[enc->out->count++] = t->unk;
        return;
    }
    for (size_t i = 0; i < character.len; i++) {
        uint32_t id = t->byte_ids[(uint8_t)character.ptr[i]];
        if (id != TOKEN_NONE)
            enc->out->ids[enc->out->count++] = id;
    }
}

static enum status emit(struct encoder *enc, struct slice word, const struct symbol *symbols,
                        uint32_t n)
{
    enum status st = encoder_reserve(enc, 3 * word.len); /* a blank may become three bytes */
    for (uint32_t i = 0; st == OK && i < n; i++) {
        const struct symbol *s = &symbols[i];
        if (s->id != TOKEN_NONE)
            enc->out->ids[enc->out->count++] = s->id;
        else
            emit_bytes(enc, (struct slice){word.ptr + s->start, s->end - s->start});
    }
    return st;
}

static enum status merge_word(struct encoder *enc, struct slice word, uint32_t whole)
{
    const struct tokenizer *t = enc->t;
    struct symbol small[MERGE_SMALL_MAX], *symbols = small;
    uint32_t n = fill_symbols(t, word, small, MERGE_SMALL_MAX);
    if (n <= MERGE_SMALL_MAX) {
        n = merge_small(t, word.ptr, small, n, rank_of_text);
    } else {
        enum status st = encoder_scratch(enc, merge_scratch_bytes(word.len));
        if (st != OK)
            return st;
        struct merge_long m = merge_long_in(enc->scratch, word.len);
        n = fill_symbols(t, word, m.symbols, (uint32_t)word.len);
        n = merge_heap(&m, t, word.ptr, n, rank_of_text);
        symbols = m.symbols;
    }
    if (whole != WORDS_NONE)
        atomic_store_explicit(&t->self[whole], n == 1 && symbols[0].id == whole ? SELF_YES : SELF_NO,
                              memory_order_relaxed);
    return emit(enc, word, symbols, n);
}

enum status spm_word(struct encoder *enc, struct slice word)
{
    const struct tokenizer *t = enc->t;
    uint32_t whole = WORDS_NONE;
    if (word.len <= t->piece_bytes_max)
        whole = words_find(&t->by_piece, word.ptr, word.len);
    if (whole != WORDS_NONE &&
        atomic_load_explicit(&t->self[whole], memory_order_relaxed) == SELF_YES) {
        struct symbol one = {whole, 0, (uint32_t)word.len};
        return emit(enc, word, &one, 1);
    }
    return merge_word(enc, word, whole);
}
