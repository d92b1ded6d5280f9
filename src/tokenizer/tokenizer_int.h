/* SPDX-License-Identifier: MIT
 * tokenizer_int.h — inner door: the loaded vocabulary and what load.c, encode.c, bpe.c, spm.c and
 * detokenizer.c share. */
#ifndef KVASIR_TOKENIZER_TOKENIZER_INT_H
#define KVASIR_TOKENIZER_TOKENIZER_INT_H

#include "tokenizer/borders.h"
#include "tokenizer/pairs.h"
#include "tokenizer/specials.h"
#include "tokenizer/split.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/words.h"

#include <stdatomic.h>

/* tokenizer.ggml.token_type, as GGUF has it. */
enum token_type {
    TOKEN_UNDEFINED = 0,
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

/* What merging makes of a token's own bytes, found out the first time they come up. */
enum self_state { SELF_UNKNOWN, SELF_YES, SELF_NO };

struct tokenizer {
    bool is_spm;
    enum split_kind split;      /* BPE */
    bool ignore_merges;         /* BPE: a word that is a token is that token, whatever merges give */
    bool normalizes;            /* BPE: NFC first */
    bool add_space_prefix;      /* SPM */
    const uint8_t *classes;     /* class_table() */
    uint32_t bos, eos, eot, eom, unk, pad;
    bool add_bos, add_eos;

    struct strings texts;       /* as stored in the file */
    struct strings pieces;      /* the bytes they stand for: Ġ, ▁ and <0x41> undone */
    uint8_t *types;             /* enum token_type */
    bool *is_end;               /* ends generation */
    bool *is_mergeable;         /* merging may make it out of plain text */
    struct words by_text;       /* texts, all tokens */
    struct words by_piece;      /* pieces, the tokens that merging may make */
    uint32_t piece_bytes_max;   /* of those */
    _Atomic uint8_t *self;      /* enum self_state: a memo; relaxed, every thread finds the same */
    struct specials specials;

    uint32_t byte_ids[256];     /* BPE: of the one-byte pieces; SPM: of the BYTE tokens */
    struct pairs merges;        /* BPE: (left, right) → rank */
    uint32_t *merged;           /* BPE [merge count]: rank → id */
    uint32_t *ranks;            /* SPM: smaller merges first; from the scores */
    uint32_t ascii_ids[128];    /* SPM: of the one-character pieces */
    struct borders borders;     /* where no token reaches across */
};

/* The memo says what merging always gives, so a race only computes it twice. */
static inline bool self_is(const struct tokenizer *t, uint32_t id, enum self_state state)
{
    return atomic_load_explicit(&t->self[id], memory_order_relaxed) == state;
}

static inline void self_note(const struct tokenizer *t, uint32_t id, bool is_self)
{
    atomic_store_explicit(&t->self[id], is_self ? SELF_YES : SELF_NO, memory_order_relaxed);
}

/* What one call of tokenizer_encode() needs beside the vocabulary. */
struct encoder {
    const struct tokenizer *t;
    struct token_list *out;
    struct err *e;
    void *scratch; /* of long words, kept for the next one */
    size_t scratch_bytes;
};

/* Room for n more ids in out; scratch of at least so many bytes (contents lost). */
NODISCARD enum status encoder_reserve(struct encoder *enc, size_t n);
NODISCARD enum status encoder_scratch(struct encoder *enc, size_t bytes);

/* One word (a pre-token of BPE, what lies between two borders of SPM): its ids are appended. */
NODISCARD enum status bpe_word(struct encoder *enc, struct slice word);
NODISCARD enum status spm_word(struct encoder *enc, struct slice word);

/* The byte that a character of GPT-2's byte alphabet stands for, or -1. */
int byte_of_code_point(uint32_t cp);

#endif
