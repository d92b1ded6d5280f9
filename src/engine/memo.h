/* SPDX-License-Identifier: MIT
 * memo.h — rendered text → token ids, remembered.
 * For:     not tokenizing a known prefix again, and replaying an assistant turn by the very ids
 * that the model wrote (it may have spelled the text with other tokens than the tokenizer would).
 * A text is cut into segments behind each end-of-turn token, where tokenize(a + b) =
 * tokenize(a) + tokenize(b) holds (tokenizer_cuts_at).  A prefix of k segments is named by
 * D(k) = SHA-256(D(k−1), segment k).
 * Turns whose ids differ from the canonical ones are durable (RECORD_TOKENS); all others can be
 * had again by tokenizing.   Thread: any; one mutex guards the table. */
#ifndef KVASIR_ENGINE_MEMO_H
#define KVASIR_ENGINE_MEMO_H

#include "engine/engine.h"

#define MEMO_BYTES_MAX   (64u << 20)
#define MEMO_ENTRIES_MAX 4096u

struct memo;

/* A prompt on its way to the engine thread. */
struct prompt {
    struct token_list tokens;
    uint32_t *points; /* ascending token positions of message boundaries */
    uint32_t n_points;
    uint32_t n_shared; /* tokens before the first user's words (system text, tools); 0: none */
    bool is_shared_known;
    uint32_t n_replayed;
    bool is_odd;                /* some replayed turn is not what the tokenizer would give */
    struct digest boundary;     /* D of the prefix that ends at the last boundary */
    struct digest before;       /* at the one before it, if there is one */
    uint32_t n_boundary_tokens; /* tokens of it */
    struct buf rest;            /* text behind the last boundary */
    uint64_t store_owner;       /* whose data key encrypts what is kept of it */
    bool is_text;               /* false: token ids were given, nothing can be remembered by text */
    uint32_t n_cuts, n_known;   /* end-of-turn places in the text; how many were remembered */
    double ms;
};
void prompt_release(struct prompt *p);

struct memo_options {
    const struct tokenizer *tokenizer;
    struct store *store; /* or NULL */
    bool store_read_only;
    bool no_replay;
};
NODISCARD enum status memo_new(const struct memo_options *options, struct memo **out,
                               struct err *e);
void memo_free(struct memo *m);

/* Tokens of a rendered text (special tokens parsed; BOS added unless the text begins with it).
 * owner: separates models and tenants: what one wrote is not replayed for another. */
NODISCARD enum status memo_tokenize(struct memo *m, const struct digest *owner, struct slice text,
                                    struct prompt *p, struct err *e);
/* p->n_shared was found: longer prompts that begin so need not look for it again. */
void memo_note_shared(struct memo *m, const struct prompt *p);
/* Of tokens [n_tokens] of the text: those that spell nothing behind its first n_bytes. */
uint32_t memo_tokens_within(const struct memo *m, struct slice text, const uint32_t *tokens,
                            uint32_t n_tokens, size_t n_bytes);
/* End-of-turn tokens' texts in a text. */
uint32_t memo_count_ends(const struct memo *m, struct slice text);
/* Behind the last of them; 0: there is none. */
size_t memo_last_end(const struct memo *m, struct slice text);
/* Length of the one that text begins with, blanks before it included; 0: it does not. */
size_t memo_end_at(const struct memo *m, struct slice text);
/* The text that an end-of-turn token puts into texts; empty: it is none. */
struct slice memo_end_piece(const struct memo *m, uint32_t token);
/* A session knows the token ids of a text that begins as this one: from now on the part of it that
 * they spell, byte for byte and up to an end-of-turn token, gets these very ids.
 * n_turns: assistant turns in it.  False: they spell something else; nothing is remembered. */
bool memo_seed(struct memo *m, const struct digest *owner, struct slice text,
               const uint32_t *tokens, uint32_t n_tokens, uint32_t n_turns);
/* A turn ended: the model wrote `generated` (its text `written`) behind the prompt p, and then the
 * end token.  From now on a text that begins with prompt + written + end token's text gets these
 * very ids. */
void memo_remember(struct memo *m, const struct prompt *p, const uint32_t *generated,
                   uint32_t n_generated, struct slice written, uint32_t end_token);

#endif
