/* SPDX-License-Identifier: MIT
 * serving.h — what the parts of kvasir-serving-bench share.
 * Order:  serving_start → serving_generate* → serve_kill. */
#ifndef KVASIR_BENCH_SERVING_H
#define KVASIR_BENCH_SERVING_H

#include "bench/client/chat.h"

#define SERVING_ROUNDS_MAX 32u
#define SERVING_STREAMS    8u
#define SERVING_MS_MAX     600000u
#define SERVING_PROMPT_MAX (4u << 20)

struct serving {
    const char *program, *model; /* model NULL: the embedded one */
    uint32_t n_rounds;
    struct arena arena;
};

struct samples {
    double value[SERVING_ROUNDS_MAX];
    uint32_t n;
};
void samples_add(struct samples *s, double value);
double samples_median(struct samples *s); /* sorts them; 0 of none */
double samples_most(struct samples *s);   /* the same */

/* A server with nothing on disk; arguments end with NULL. */
NODISCARD enum status serving_start(const struct serving *b, struct serve *s,
                                    const char *const *arguments, struct err *e);
struct serving_ask {
    const char *prompt;
    uint32_t n_tokens;
    double temperature;
    bool no_cache;
};
/* Text is continued, beyond end tokens.  HTTP errors are E_IO. */
NODISCARD enum status serving_generate(struct serve *s, const struct serving_ask *ask,
                                       struct chat_reply *r, struct err *e);
double serving_rate(const struct chat_reply *r); /* tokens a second of decoding */
/* "pass" or "MISS". */
const char *serving_verdict(double value, double bar);

/* The parts; each prints its table. */
NODISCARD enum status serving_speculation(struct serving *b, struct err *e);
NODISCARD enum status serving_neighbour(struct serving *b, struct err *e);
NODISCARD enum status serving_threads(struct serving *b, struct err *e);
NODISCARD enum status serving_stall(struct serving *b, struct err *e);
NODISCARD enum status serving_load(struct serving *b, struct err *e);
NODISCARD enum status serving_overhead(struct serving *b, struct err *e);

#endif
