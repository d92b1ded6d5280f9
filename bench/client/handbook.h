/* SPDX-License-Identifier: MIT
 * handbook.h — a handbook of 20,000 tokens with questions that skald answers to the letter, from
 * bench/data/handbook.json. */
#ifndef KVASIR_BENCH_CLIENT_HANDBOOK_H
#define KVASIR_BENCH_CLIENT_HANDBOOK_H

#include "base/arena.h"
#include "text/json.h"

#define HANDBOOK_QUESTIONS_MAX 16u
#define HANDBOOK_BYTES_MAX     (4u << 20)

struct handbook {
    struct slice text;     /* the first message, the user's */
    struct slice greeting; /* what the assistant said to it */
    uint32_t n_questions;
    struct slice questions[HANDBOOK_QUESTIONS_MAX], answers[HANDBOOK_QUESTIONS_MAX];
};

/* All of it lives in the arena. */
NODISCARD enum status handbook_read(const char *path, struct arena *a, struct handbook *out,
                                    struct err *e);

#endif
