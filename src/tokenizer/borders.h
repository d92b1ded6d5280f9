/* SPDX-License-Identifier: MIT
 * borders.h — where a text may be cut before merging because no token reaches across.
 * Merging only ever makes tokens; where none of them spans a character border, both sides are
 * encoded apart with the same result.  That turns long runs (all of SPM's text, Chinese) into pieces
 * that mostly are tokens, and keeps merging short.
 * Method: each border inside each token is entered by its surroundings: the 1 to 3 bytes on each side
 *         that the token has there.  `joined` holds the two bytes that meet, by themselves, and rejects
 *         most; where one of them is not ASCII, `shapes` says which lengths (left, right) occur with
 *         them, and `seen` is a bitmap by hash of the whole surroundings.  A false "may be joined"
 *         costs time only.   Thread: immutable after load. */
#ifndef KVASIR_TOKENIZER_BORDERS_H
#define KVASIR_TOKENIZER_BORDERS_H

#include "base/slice.h"
#include "base/status.h"

#define BORDERS_CONTEXT_MAX 3u
#define BORDERS_SEEN_BITS 21 /* 256 KiB; of six real vocabularies Gemma 3 fills most: 2.9 % */

struct borders {
    uint64_t joined[65536 / 64];
    uint16_t *shapes; /* [65536]: bit 3 (left − 1) + (right − 1) */
    uint64_t *seen;
};

NODISCARD bool borders_init(struct borders *b); /* false: out of memory */
void borders_release(struct borders *b);
/* Enters the borders inside one token. */
void borders_open(struct borders *b, struct slice token);
/* The first border after `at` that no token spans, or text.len. */
size_t borders_next(const struct borders *b, struct slice text, size_t at);

#endif
