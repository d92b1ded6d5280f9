/* SPDX-License-Identifier: MIT
 * split.h — the pre-tokenizers of byte-level BPE: where one word ends and the next begins.
 * Hand-written scanners equal to the regular expressions named in split.c, which the models'
 * tokenizer.json files hold; nothing is compiled, and every scan is linear. */
#ifndef KVASIR_TOKENIZER_SPLIT_H
#define KVASIR_TOKENIZER_SPLIT_H

#include "base/slice.h"
#include "base/status.h"

enum split_kind {
    SPLIT_GPT2,
    SPLIT_SMOLLM,
    SPLIT_LLAMA3,
    SPLIT_QWEN2,
    SPLIT_DEEPSEEK3,
    SPLIT_O200K,
};

/* The kind for a value of tokenizer.ggml.pre; false when it is none of ours. */
bool split_named(struct slice pre, enum split_kind *kind);
const char *split_name(enum split_kind kind);

/* The end of the word that starts at `at`.  at < text.len; at < result <= text.len. */
size_t split_next(enum split_kind kind, const uint8_t *classes, struct slice text, size_t at);

#endif
