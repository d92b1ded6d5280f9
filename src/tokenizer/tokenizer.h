/* SPDX-License-Identifier: MIT
 * tokenizer.h — text ↔ token ids, by the vocabulary inside a GGUF.
 * Kinds:   "llama" = SPM (merge by score, byte fallback), "gpt2" = byte-level BPE with the
 *          pre-tokenizers gpt-2, smollm, llama-bpe, qwen2 (NFC first), deepseek-v3, gpt-4o.
 *          Anything else is E_UNSUPPORTED by name at load.
 * Errors:  encoding never fails on bytes: input that is not UTF-8 is encoded byte by byte where
 *          the vocabulary has bytes, dropped where it has none.
 * Cost:    O(n log n) in any input, also one word of 1 MB.
 * Thread:  immutable after load; encode from any thread with a scratch of one's own. */
#ifndef KVASIR_TOKENIZER_TOKENIZER_H
#define KVASIR_TOKENIZER_TOKENIZER_H

#include "base/slice.h"
#include "base/status.h"
#include "gguf/gguf.h"

#define TOKENIZER_VOCAB_MAX (1u << 21)
#define TOKENIZER_TEXT_MAX (256u << 20) /* bytes of one text to encode */
#define TOKENIZER_TOKEN_BYTES_MAX 4096u /* of one token as stored; the longest known has 256 */
#define TOKEN_NONE UINT32_MAX

struct tokenizer;

NODISCARD enum status tokenizer_load(const struct gguf *g, struct tokenizer **out, struct err *e);
void tokenizer_free(struct tokenizer *t);

struct tokenizer_info {
    uint32_t n_vocab;
    uint32_t bos, eos, eot, pad;  /* TOKEN_NONE where the file has none */
    bool add_bos, add_eos;        /* what add_special does */
    const char *kind;             /* "spm" or "bpe" */
    const char *pre;              /* name of the pre-tokenizer, "" for SPM */
};
struct tokenizer_info tokenizer_info(const struct tokenizer *t);

struct token_list {
    uint32_t *ids; /* mem_free by token_list_release */
    size_t count, cap;
};
void token_list_release(struct token_list *l);
NODISCARD enum status token_list_add(struct token_list *l, uint32_t id);

struct encode_flags {
    bool add_special;   /* BOS/EOS as the metadata says */
    bool parse_special; /* control tokens in the text are recognised; else they are plain text
                           (user-defined tokens always are) */
};
/* Appends to out; on failure out is as before.  E_NOMEM; E_LIMIT: text over TOKENIZER_TEXT_MAX. */
NODISCARD enum status tokenizer_encode(const struct tokenizer *t, struct slice text,
                                       struct encode_flags flags, struct token_list *out,
                                       struct err *e);

/* True when text may be cut before and after every occurrence of this special token's text c: for
 * all byte strings a and b, encode(a c b) = encode(a) + encode(c b) = encode(a c) + encode(b), all
 * with parse_special and without add_special.
 * Proof: special tokens are found leftmost-longest in the raw bytes, before all else.  When no
 * special token begins with c, holds c, or ends with a beginning of c (c itself included, but for
 * its own whole), then no match that starts before an occurrence of c reaches into it and none that
 * starts with it is longer, so c is matched there, and the matches on both sides are those of a and
 * of b alone.  What lies between matches is normalized, prefixed and split with its ends as the ends
 * of text.  This function checks that condition; O(bytes of all special tokens), so ask once. */
bool tokenizer_cuts_at(const struct tokenizer *t, uint32_t id);

/* True when the id ends generation: eos, eot, and the file's other end-of-turn tokens (as named by
 * metadata, or well-known control tokens: <|im_end|>, <|eot_id|>, <end_of_turn>, <|end|>, …). */
bool tokenizer_is_end(const struct tokenizer *t, uint32_t id);
bool tokenizer_is_control(const struct tokenizer *t, uint32_t id);

/* The bytes of one token; with_special: control tokens give their text, else nothing.  Points into
 * the tokenizer, valid as long as it. */
struct slice tokenizer_piece(const struct tokenizer *t, uint32_t id, bool with_special);
/* The id whose stored text is exactly this, or TOKEN_NONE. */
uint32_t tokenizer_find(const struct tokenizer *t, struct slice text);

/* Streaming detokenizer: never emits half a UTF-8 character.  detok_push appends the bytes that are
 * complete; detok_flush the rest, incomplete bytes as U+FFFD. */
struct detokenizer {
    const struct tokenizer *tokenizer;
    bool with_special;
    bool at_start;  /* SPM with add_space_prefix: the first piece loses its leading space */
    uint8_t held[4];
    uint32_t n_held;
};
struct buf;
void detok_init(struct detokenizer *d, const struct tokenizer *t, bool with_special);
void detok_push(struct detokenizer *d, uint32_t id, struct buf *out);
void detok_flush(struct detokenizer *d, struct buf *out);

#endif
