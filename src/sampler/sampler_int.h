/* SPDX-License-Identifier: MIT
 * sampler_int.h — the sampler, and the candidates that the filters work on.
 *
 *   logits ─ bias ─▶ plain: penalties, heap or sort, filters ─┐
 *             └─────▶ chain: a list through filters in order ──┴▶ draw, or steer.c draws
 *
 * Most requests use filters in the usual order, and those take the plain way (sampler.c); the
 * others take the chain (chain.c).  Both draw the same token where both can serve.
 * Everything here is plain double arithmetic in a fixed order, without libm, so that a draw is the
 * same on every machine (-ffp-contract=off; math.c has exp and log). */
#ifndef KVASIR_SAMPLER_SAMPLER_INT_H
#define KVASIR_SAMPLER_SAMPLER_INT_H

#include "sampler/sampler.h"

struct candidate {
    float logit;
    uint32_t token;
};

struct token_count {
    uint32_t n_generated; /* times generated */
    uint32_t n_recent;    /* times among the last repeat_last_n */
    bool is_seen;         /* in the list of seen tokens */
};

/* What was drawn from: a token has the weight exp((logit − logit of the best) / temperature). */
struct drawn_from {
    const struct candidate *c; /* [n] best first, within the sampler */
    uint32_t n;
    double temperature;
    double sum; /* of weights */
    uint32_t index; /* of the one that was drawn */
};

/* State of mirostat or adaptive_p.  A draw leaves what it found, accepting the token takes it. */
struct steer {
    double mu;                         /* mirostat: the surprise allowed, in bits */
    double weighted_sum, total_weight; /* adaptive_p: of the probabilities that were drawn */
    double found;                      /* surprise, or probability, of the last draw */
    bool has_found;
};

struct dry;

struct sampler {
    struct sampler_params p; /* filters that are not in the order are off here */
    uint32_t n_vocab;
    const struct kernels *k;
    float *changed; /* [n_vocab] logits after bias and penalties; NULL: neither is set */
    struct candidate *candidates, *sorted, *scratch;
    struct candidate top[SAMPLER_TOP_LOGPROBS_MAX];
    struct drawn_from from; /* the last draw's */
    bool is_chain;
    struct filter_order order; /* is_chain: of the filters that are on */
    /* Penalties; NULL when off. */
    struct token_count *counts; /* [n_vocab] */
    uint32_t *seen;             /* [n_vocab] tokens accepted so far, each once */
    uint32_t n_seen;
    uint32_t *recent; /* [repeat_last_n] ring; NULL when all tokens count */
    uint32_t recent_at, recent_count;
    struct dry *dry; /* NULL: off */
    struct steer steer;
};

/* ---- sampler.c ---- */
/* Up to here a bounded heap beats sorting 262,144 logits. */
#define TOP_K_HEAP_MAX 1024u
bool sampler_has_penalty(const struct sampler_params *p);
/* The logit of a token after the penalties. */
float sampler_penalized(const struct sampler *s, uint32_t token, float logit);
/* One of s->from, which is complete but for sum and index. */
uint32_t sampler_draw(struct sampler *s, uint64_t position);

/* ---- chain.c: filters in any order ---- */
/* s->order: of s->p.order, or the usual one, the filters that are on; those that are not in it are
 * turned off in s->p.  s->is_chain: the plain way can't serve it. */
void chain_plan(struct sampler *s);
uint32_t chain_choose(struct sampler *s, const float *logits, const uint64_t *allowed,
                      uint64_t position);

/* ---- dry.c: tokens that would go on with what was said before ---- */
NODISCARD bool dry_new(const struct sampler_params *p, uint32_t n_vocab, struct dry **out);
void dry_free(struct dry *d);
void dry_accept(struct dry *d, uint32_t token);
void dry_apply(struct dry *d, struct candidate *c, uint32_t n);

/* ---- steer.c: draws that look at earlier draws ---- */
void steer_init(struct steer *t, const struct sampler_params *p);
/* Mirostat 1: how many of the best may be drawn.  c [n]: the MIROSTAT_BEST best, best first, or all
 * that there are. */
#define MIROSTAT_BEST 100u
uint32_t steer_count(const struct sampler *s, const struct candidate *c, uint32_t n,
                     double temperature);
/* adaptive_p: c [n] under other logits, of temperature 1; before [n]: as they were. */
void steer_adapt(const struct sampler *s, struct candidate *c, uint32_t n,
                 struct candidate *before);
/* One was drawn, before [n]: as for steer_adapt, best first; and became part of the reply. */
void steer_drawn(struct sampler *s, const struct candidate *before, uint32_t n);
void steer_accept(struct sampler *s);

/* exp for x ≤ 0 and log for normal x > 0, within 1 ulp or so; exp below −700 is 0. */
double sampler_exp(double x);
double sampler_log(double x);
#define SAMPLER_LN2 0.69314718055994530942

/* allowed: see sampler_sample.
 * The k best of logits [n] into best [k], best first; of equals the lower token first.  Values that
 * are −inf or NaN are left out.  Returns how many there are. */
uint32_t select_top(const float *logits, uint32_t n, const uint64_t *allowed,
                    struct candidate *best, uint32_t k);
/* The same, all allowed, from the largest of each SAMPLER_BLOCK of them. */
uint32_t select_top_of_blocks(const float *logits, uint32_t n, const float *maxima,
                              struct candidate *best, uint32_t k);
/* The first of the best: kernels' argmax. */
uint32_t select_best_of_blocks(const float *logits, uint32_t n, const float *maxima);
/* All of logits [n] that are ≥ floor into out [n], in order of tokens. */
uint32_t select_above(const float *logits, uint32_t n, const uint64_t *allowed, double floor,
                      struct candidate *out);
/* The first of the best that are allowed; one that is, when all are NaN. */
uint32_t select_best(const float *logits, uint32_t n, const uint64_t *allowed);
/* The k best of c [n] come to c [0..k), best first; of equals the lower token first. */
void select_front(struct candidate *c, uint32_t n, uint32_t k);
/* sorted [n] = c [n] best first, stable; c is overwritten.  No recursion, no allocation, O(n). */
void select_sort(struct candidate *c, struct candidate *sorted, uint32_t n);

/* Σ exp(logit − max) in the order given. */
double filter_mass(const struct candidate *c, uint32_t n, float max);
/* Each returns how many of c [n] (best first) stay, at least 1 of n ≥ 1.  mass: of all that the
 * filter shall see as 1. */
uint32_t filter_top_p(const struct candidate *c, uint32_t n, float max, double mass, double top_p);
uint32_t filter_min_p(const struct candidate *c, uint32_t n, double min_p);
/* Keeps those whose surprise is nearest to the expected one, until more than typical_p of the mass
 * and min_keep of them are in; they lie at c [0..] again, best first.  scratch [2 n]. */
uint32_t filter_typical(struct candidate *c, uint32_t n, double typical_p, uint32_t min_keep,
                        struct candidate *scratch);

#endif
