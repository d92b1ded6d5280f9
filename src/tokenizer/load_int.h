/* SPDX-License-Identifier: MIT
 * load_int.h — inner door between load.c (the vocabulary), load_merges.c (what joins) and
 * load_ids.c (named tokens and flags). */
#ifndef KVASIR_TOKENIZER_LOAD_INT_H
#define KVASIR_TOKENIZER_LOAD_INT_H

#include "tokenizer/tokenizer_int.h"

#define TEXTS_BYTES_MAX (512u << 20) /* all tokens' texts */

struct loader {
    const struct gguf *g;
    struct tokenizer *t;
    struct err *e;
};

/* err_set with the file's name before the message. */
#define load_error(l, code, ...)                                                                   \
    (err_set((l)->e, code, __VA_ARGS__), err_prefix((l)->e, "%s", gguf_name((l)->g)), (code))

/* The same for what a helper found, which knows no file. */
static inline enum status load_status(struct loader *l, enum status st)
{
    if (st != OK)
        err_prefix(l->e, "%s", gguf_name(l->g));
    return st;
}

/* For SLICE_FMT: names out of files are shown up to 60 bytes. */
static inline int slice_short(struct slice s)
{
    return s.len > 60 ? 60 : (int)s.len;
}

/* Matched in the text before anything else. */
static inline bool is_special(uint8_t type)
{
    return type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED || type == TOKEN_UNKNOWN;
}

NODISCARD enum status load_ids(struct loader *l);
NODISCARD enum status load_scores(struct loader *l);
NODISCARD enum status load_merges(struct loader *l);

#endif
