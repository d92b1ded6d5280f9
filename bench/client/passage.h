/* SPDX-License-Identifier: MIT
 * passage.h — plain English of any length, for models that need no right answers: sentences of
 * facts, no two alike for long, the same from the same seed. */
#ifndef KVASIR_BENCH_CLIENT_PASSAGE_H
#define KVASIR_BENCH_CLIENT_PASSAGE_H

#include "base/buf.h"

/* Appends whole sentences until at least `bytes` are there. */
void passage_add(struct buf *out, size_t bytes, uint64_t seed);
/* Tokens of a text by `PROGRAM eval tokenize`.  model NULL: the embedded one. */
NODISCARD enum status passage_count_tokens(const char *program, const char *model,
                                           struct slice text, size_t *count, struct err *e);
/* A passage of at most n_tokens of this model, and at least 98 % of that, counted by
 * `PROGRAM eval tokenize`.  model NULL: the embedded one. */
NODISCARD enum status passage_of_tokens(struct buf *out, const char *program, const char *model,
                                        uint32_t n_tokens, uint64_t seed, struct err *e);

#endif
