/* SPDX-License-Identifier: MIT
 * sampler.h — from logits to a token: bias, penalties, filters, a counter-based draw.
 * For:     one choice of one request.   Not for: stop strings (engine/stream).
 * Exactness: the draw depends on (seed, choice, position) and the logits alone, penalties and DRY on
 *          the tokens of the sequence: a resumed stream equals the uninterrupted one.  Mirostat and
 *          adaptive_p also depend on what they drew before, from the reply's first token on.
 * Order:   grammar's mask → logit_bias → filters, in the order of enum sampler_filter (llama.cpp's)
 *          or in one that is given → draw; temperature 0: the likeliest of what is left then,
 *          first of equals.
 * Thread:  a sampler belongs to the engine thread.  sampler_sample does not allocate. */
#ifndef KVASIR_SAMPLER_SAMPLER_H
#define KVASIR_SAMPLER_SAMPLER_H

#include "base/slice.h"
#include "base/status.h"
#include "kernels/kernels.h"

#define SAMPLER_BIAS_MAX 1024u
#define SAMPLER_TOP_LOGPROBS_MAX 20u
#define SAMPLER_REPEAT_LAST_MAX 65536

struct logit_bias {
    uint32_t token;
    float bias; /* −inf forbids */
};

/* What is done with the candidates, as llama.cpp defines each. */
enum sampler_filter {
    FILTER_PENALTIES, /* repeat, presence, frequency */
    FILTER_DRY,
    FILTER_TOP_N_SIGMA,
    FILTER_TOP_K,
    FILTER_TYPICAL_P,
    FILTER_TOP_P,
    FILTER_MIN_P,
    FILTER_XTC,
    FILTER_TEMPERATURE,
    FILTER_ADAPTIVE_P, /* only in an order that is given; it draws, so it comes last anyway */
    FILTERS,
};
#define SAMPLER_ORDER_MAX 16u
struct filter_order {
    uint8_t at[SAMPLER_ORDER_MAX]; /* enum sampler_filter; one may come twice */
    uint8_t n;
    bool is_given; /* filters that are not in it are off; else: those that the parameters turn on */
};

/* A text behind which nothing counts as a repeat of what stood before it. */
#define SAMPLER_BREAKERS_MAX    64u
#define SAMPLER_BREAKER_BYTES   40u /* llama.cpp cuts longer ones */
#define SAMPLER_BREAKER_TOKENS  20u /* and their rests */
struct dry_rest {
    const uint32_t *tokens;
    uint32_t n;
};
struct dry_breaker {
    struct slice text;
    /* [text.len]: what the tokenizer makes of the text from byte i on, at most
     * SAMPLER_BREAKER_TOKENS; [0] is not looked at.  NULL where the text has one byte. */
    const struct dry_rest *rests;
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
    bool wants_drawn; /* log probabilities are those of what was drawn from */
    const struct logit_bias *bias; /* borrowed until sampler_free */
    uint32_t n_bias;
    struct filter_order order;
    uint32_t min_keep;       /* typical_p, top_p, min_p and xtc leave so many; 0 and 1: one */
    float top_n_sigma;       /* standard deviations below the best; ≤ 0: off */
    float dynatemp_range, dynatemp_exponent; /* temperature ± range, by entropy; range 0: off */
    float xtc_probability;   /* 0: off */
    float xtc_threshold;     /* above 0.5: off */
    float dry_multiplier;    /* 0: off */
    float dry_base;          /* below 1: off */
    int32_t dry_allowed_length;
    int32_t dry_penalty_last_n; /* −1: all */
    const struct dry_breaker *breakers; /* borrowed until sampler_free */
    uint32_t n_breakers;
    uint32_t n_context; /* the most tokens of a sequence: what DRY remembers at most */
    /* A token's text, control tokens' too; NULL: none breaks a repeat. */
    struct slice (*piece)(const void *arg, uint32_t token);
    const void *piece_arg;
    /* 1, 2: instead of all filters but the temperature; 0: off */
    uint32_t mirostat;
    float mirostat_tau, mirostat_eta;
    float adaptive_target; /* a probability; < 0: off */
    float adaptive_decay;  /* above 0.99: 0.99 */
};
/* temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, everything else off; what belongs to filters
 * that are off has llama.cpp's defaults. */
struct sampler_params sampler_defaults(void);
/* E_INVALID naming the parameter that is out of range. */
NODISCARD enum status sampler_check(const struct sampler_params *p, uint32_t n_vocab,
                                    struct err *e);

struct sampled {
    uint32_t token;
    float logprob;  /* of the token under the raw logits (before bias, penalties, temperature), or
                       of what it was drawn from (wants_drawn) */
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
