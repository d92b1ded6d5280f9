/* SPDX-License-Identifier: MIT
 * bpe.c — byte-level BPE of one word: bytes, joined by the rank of their pair in the merge list.
 * Most words are one token.  Whether merging gives that token is found out once per token (self). */
#include "tokenizer/merge.h"

static inline uint32_t rank_of_pair(const struct tokenizer *t, const char *word, struct symbol left,
                                    struct symbol right, uint32_t *id)
{
    (void)word;
    if (left.id == TOKEN_NONE || right.id == TOKEN_NONE)
        return MERGE_NEVER;
    uint32_t rank = pairs_get(&t->merges, left.id, right.id);
    if (rank == PAIRS_NONE)
        return MERGE_NEVER;
    *id = t->merged[rank];
    return rank;
}

static void fill_symbols(const struct tokenizer *t, struct slice word, struct symbol *symbols)
{
    for (uint32_t i = 0; i < word.len; i++)
        symbols[i] = (struct symbol){t->byte_ids[(uint8_t)word.ptr[i]], i, i + 1};
}

/* Bytes that the vocabulary lacks (id TOKEN_NONE) are dropped, as both references do. */
static enum status emit(struct encoder *enc, const struct symbol *symbols, uint32_t n)
{
    enum status st = encoder_reserve(enc, n);
    for (uint32_t i = 0; st == OK && i < n; i++)
        if (symbols[i].id != TOKEN_NONE)
            enc->out->ids[enc->out->count++] = symbols[i].id;
    return st;
}

static enum status merge_word(struct encoder *enc, struct slice word, uint32_t whole)
{
    const struct tokenizer *t = enc->t;
    struct symbol small[MERGE_SMALL_MAX], *symbols = small;
    uint32_t n = (uint32_t)word.len;
    if (n <= MERGE_SMALL_MAX) {
        fill_symbols(t, word, small);
        n = merge_small(t, word.ptr, small, n, rank_of_pair);
    } else {
        enum status st = encoder_scratch(enc, merge_scratch_bytes(n));
        if (st != OK)
            return st;
        struct merge_long m = merge_long_in(enc->scratch, n);
        fill_symbols(t, word, m.symbols);
        n = merge_heap(&m, t, word.ptr, n, rank_of_pair);
        symbols = m.symbols;
    }
    if (whole != WORDS_NONE)
        atomic_store_explicit(&t->self[whole], n == 1 && symbols[0].id == whole ? SELF_YES : SELF_NO,
                              memory_order_relaxed);
    return emit(enc, symbols, n);
}

enum status bpe_word(struct encoder *enc, struct slice word)
{
    const struct tokenizer *t = enc->t;
    uint32_t whole = WORDS_NONE;
    if (word.len <= t->piece_bytes_max)
        whole = words_find(&t->by_piece, word.ptr, word.len);
    if (whole != WORDS_NONE &&
        (t->ignore_merges ||
         atomic_load_explicit(&t->self[whole], memory_order_relaxed) == SELF_YES)) {
        struct symbol one = {whole, 0, 0};
        return emit(enc, &one, 1);
    }
    return merge_word(enc, word, whole);
}
