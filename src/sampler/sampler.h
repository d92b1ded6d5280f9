/* SPDX-License-Identifier: MIT
 * sampler.h — from logits to a token: bias, penalties, filters, a counter-based draw.
 * For:     one choice of one request.   Not for: stop strings (engine/stream).
 * Exactness: the draw depends on (seed, choice, position) and the logits alone, penalties on the
 *          tokens of the sequence: a resumed stream equals the uninterrupted one.
 * Order:   grammar's mask → logit_bias → repetition, frequency, presence penalty → top_k → typical_p → top_p → min_p →
 *          temperature → draw (llama.cpp's default order); temperature 0: argmax after bias and
 *          penalties, first of equals.
 * Thread:  a sampler belongs to the engine thread.  sampler_sample does not allocate. */
#ifndef KVASIR_SAMPLER_SAMPLER_H
#define KVASIR_SAMPLER_SAMPLER_H

#include "base/status.h"
#include "kernels/kernels.h"

#define SAMPLER_BIAS_MAX 1024u
#define SAMPLER_TOP_LOGPROBS_MAX 20u
#define SAMPLER_REPEAT_LAST_MAX 65536

struct logit_bias {
    uint32_t token;
    float bias; /* −inf forbids */
};

struct sampler_params {
    float temperature;       /* ≥ 0; 0: greedy */
    int32_t top_k;           /* ≤ 0: all */
    float top_p, min_p, typical_p; /* 1, 0, 1: off */
    float repeat_penalty;    /* 1: off; divides positive, multiplies negative logits */
    float presence_penalty, frequency_penalty; /* 0: off */
    int32_t repeat_last_n;   /* tokens looked at by repeat_penalty: 0 none, −1 all; default 64 */
    uint64_t seed;
    uint32_t choice;         /* index of the choice within the request */
    uint32_t n_top_logprobs; /* ≤ SAMPLER_TOP_LOGPROBS_MAX */
    bool wants_logprob;
    const struct logit_bias *bias; /* borrowed until sampler_free */
    uint32_t n_bias;
};
/* temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, everything else off. */
struct sampler_params sampler_defaults(void);
/* E_INVALID naming the parameter that is out of range. */
NODISCARD enum status sampler_check(const struct sampler_params *p, uint32_t n_vocab,
                                    struct err *e);

struct sampled {
    uint32_t token;
    float logprob;  /* of the token under the raw logits (before bias, penalties, temperature) */
    uint32_t n_top; /* most likely first, same distribution */
    uint32_t top_tokens[SAMPLER_TOP_LOGPROBS_MAX];
    float top_logprobs[SAMPLER_TOP_LOGPROBS_MAX];
};

struct sampler;
NODISCARD enum status sampler_new(const struct sampler_params *p, uint32_t n_vocab,
                                  const struct kernels *k, struct sampler **out, struct err *e);
void sampler_free(struct sampler *s);
/* A token that became part of the sequence: prompt tokens (repeat_penalty sees them, presence and
 * frequency count generated ones only, as OpenAI defines them) and generated ones. */
void sampler_accept(struct sampler *s, uint32_t token, bool is_generated);
/* Logits in a row whose largest is given. */
#define SAMPLER_BLOCK 256u
/* logits [n_vocab], left untouched; maxima: of every SAMPLER_BLOCK of them the largest, NaN passed
 * over, −inf where all are, so that few blocks are looked into; NULL: all are.  position: index in
 * the sequence of the token to be drawn; allowed: bit token % 64 of word token / 64 says whether it
 * may be drawn, at least one is set; NULL: all may.  Log-probabilities do not see it. */
void sampler_sample(struct sampler *s, const float *logits, const float *maxima,
                    const uint64_t *allowed, uint64_t position, struct sampled *out);
/* Of a token that was not drawn: token, log probabilities under these logits, and the likeliest. */
void sampler_score(struct sampler *s, const float *logits, uint32_t token, struct sampled *out);

#endif
