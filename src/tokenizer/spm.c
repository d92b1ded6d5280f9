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

/* The character at `at`. */
static struct symbol symbol_at(const struct tokenizer *t, struct slice word, uint32_t at)
{
    uint32_t cp, n = (uint32_t)class_decode(word.ptr + at, word.ptr + word.len, &cp);
    uint32_t id = n == 1 && cp < 128 ? t->ascii_ids[cp] : words_find(&t->by_piece, word.ptr + at, n);
    return (struct symbol){id, at, at + n};
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

static inline void emit(struct encoder *enc, struct slice word, struct symbol s)
{
    if (s.id != TOKEN_NONE)
        enc->out->ids[enc->out->count++] = s.id;
    else
        emit_bytes(enc, (struct slice){word.ptr + s.start, s.end - s.start});
}

/* False: more than MERGE_SMALL_MAX characters; nothing is done. */
static bool merge_short(struct encoder *enc, struct slice word)
{
    struct symbol symbols[MERGE_SMALL_MAX];
    uint32_t n = 0;
    for (uint32_t at = 0; at < word.len; at = symbols[n++].end) {
        if (n == MERGE_SMALL_MAX)
            return false;
        symbols[n] = symbol_at(enc->t, word, at);
    }
    n = merge_small(enc->t, word.ptr, symbols, n, rank_of_text);
    for (uint32_t i = 0; i < n; i++)
        emit(enc, word, symbols[i]);
    return true;
}

static enum status merge_long(struct encoder *enc, struct slice word)
{
    const struct tokenizer *t = enc->t;
    uint32_t n = (uint32_t)word.len, before = MERGE_END;
    enum status st = encoder_scratch(enc, merge_scratch_bytes(n));
    if (st != OK)
        return st;
    struct merge_long m = merge_long_in(enc->scratch, n);
    for (uint32_t at = 0; at < n; at = m.nodes[at].end) {
        merge_long_add(&m, symbol_at(t, word, at), before);
        before = at;
    }
    merge_heap(&m, t, word.ptr, rank_of_text);
    for (uint32_t at = 0; at < n; at = m.nodes[at].end)
        emit(enc, word, (struct symbol){m.nodes[at].id, at, m.nodes[at].end});
    return OK;
}

enum status spm_word(struct encoder *enc, struct slice word)
{
    const struct tokenizer *t = enc->t;
    uint32_t whole = WORDS_NONE;
    if (word.len <= t->piece_bytes_max)
        whole = words_find(&t->by_piece, word.ptr, word.len);
    enum status st = encoder_reserve(enc, 3 * word.len); /* a blank may become three bytes */
    if (st != OK)
        return st;
    if (whole != WORDS_NONE && self_is(t, whole, SELF_YES)) {
        enc->out->ids[enc->out->count++] = whole;
        return OK;
    }
    size_t count_before = enc->out->count;
    if (!merge_short(enc, word))
        st = merge_long(enc, word);
    if (st == OK && whole != WORDS_NONE)
        self_note(t, whole,
                  enc->out->count == count_before + 1 && enc->out->ids[count_before] == whole);
    return st;
}
