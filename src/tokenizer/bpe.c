/* SPDX-License-Identifier: MIT
 * bpe.c — byte-level BPE of one word: bytes, joined by the rank of their pair in the merge list.
 * Most words are one token, or fall into pieces that are (borders.h; Chinese).  Whether merging gives
 * that token is found out once per token (self). */
#include "tokenizer/merge.h"

static inline uint32_t rank_of_pair(const struct tokenizer *t, const char *word, struct symbol left,
                                    struct symbol right, uint32_t *id)
{
    (void)word;
    if (left.id == TOKEN_NONE || right.id == TOKEN_NONE)
        return MERGE_NEVER;
    /* A table of all pairs of two bytes before this hash was tried: no difference in three
     * interleaved runs (gpt-4o, C source: 43 to 49 MB/s without, 41 to 50 with). */
    uint32_t rank = pairs_get(&t->merges, left.id, right.id);
    if (rank == PAIRS_NONE)
        return MERGE_NEVER;
    *id = t->merged[rank];
    return rank;
}

/* Bytes that the vocabulary lacks (id TOKEN_NONE; SmolLM2 has a few) are dropped, but what stands on
 * their two sides is not joined: llama.cpp's way.  (Hugging Face drops them before merging.) */
static inline void emit(struct token_list *out, uint32_t id)
{
    if (id != TOKEN_NONE)
        out->ids[out->count++] = id;
}

static void merge_short(struct encoder *enc, struct slice word)
{
    const struct tokenizer *t = enc->t;
    struct symbol symbols[MERGE_SMALL_MAX];
    for (uint32_t i = 0; i < word.len; i++)
        symbols[i] = (struct symbol){t->byte_ids[(uint8_t)word.ptr[i]], i, i + 1};
    uint32_t n = merge_small(t, word.ptr, symbols, (uint32_t)word.len, rank_of_pair);
    for (uint32_t i = 0; i < n; i++)
        emit(enc->out, symbols[i].id);
}

static enum status merge_long(struct encoder *enc, struct slice word)
{
    const struct tokenizer *t = enc->t;
    uint32_t n = (uint32_t)word.len;
    enum status st = encoder_scratch(enc, merge_scratch_bytes(n));
    if (st != OK)
        return st;
    struct merge_long m = merge_long_in(enc->scratch, n);
    for (uint32_t i = 0; i < n; i++)
        merge_long_add(&m, (struct symbol){t->byte_ids[(uint8_t)word.ptr[i]], i, i + 1},
                       i ? i - 1 : MERGE_END);
    merge_heap(&m, t, word.ptr, rank_of_pair);
    for (uint32_t at = 0; at < n; at = m.nodes[at].end)
        emit(enc->out, m.nodes[at].id);
    return OK;
}

/* A piece of a word that no token reaches out of. */
static enum status encode_piece(struct encoder *enc, struct slice piece)
{
    const struct tokenizer *t = enc->t;
    uint32_t whole = WORDS_NONE;
    if (piece.len <= t->piece_bytes_max)
        whole = words_find(&t->by_piece, piece.ptr, piece.len);
    enum status st = encoder_reserve(enc, piece.len);
    if (st != OK)
        return st;
    if (whole != WORDS_NONE && self_is(t, whole, SELF_YES)) {
        emit(enc->out, whole);
        return OK;
    }
    size_t before = enc->out->count;
    if (piece.len <= MERGE_SMALL_MAX)
        merge_short(enc, piece);
    else
        st = merge_long(enc, piece);
    if (st == OK && whole != WORDS_NONE)
        self_note(t, whole, enc->out->count == before + 1 && enc->out->ids[before] == whole);
    return st;
}

enum status bpe_word(struct encoder *enc, struct slice word)
{
    const struct tokenizer *t = enc->t;
    if (t->ignore_merges && word.len <= t->piece_bytes_max) {
        uint32_t whole = words_find(&t->by_piece, word.ptr, word.len);
        enum status st = whole == WORDS_NONE ? OK : encoder_reserve(enc, 1);
        if (st != OK)
            return st;
        if (whole != WORDS_NONE) {
            emit(enc->out, whole);
            return OK;
        }
    }
    enum status st = OK;
    for (size_t at = 0; st == OK && at < word.len;) {
        size_t end = borders_next(&t->borders, word, at);
        st = encode_piece(enc, (struct slice){word.ptr + at, end - at});
        at = end;
    }
    return st;
}
