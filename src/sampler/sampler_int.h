/* SPDX-License-Identifier: MIT
 * sampler_int.h — the candidates that the filters work on.
 * Everything here is plain double arithmetic in a fixed order, without libm, so that a draw is the
 * same on every machine (-ffp-contract=off; math.c has exp and log). */
#ifndef KVASIR_SAMPLER_SAMPLER_INT_H
#define KVASIR_SAMPLER_SAMPLER_INT_H

#include "sampler/sampler.h"

struct candidate {
    float logit;
    uint32_t token;
};

/* exp for x ≤ 0 and log for normal x > 0, within 1 ulp or so; exp below −700 is 0. */
double sampler_exp(double x);
double sampler_log(double x);

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
/* sorted [n] = c [n] best first, stable; c is overwritten.  No recursion, no allocation, O(n). */
void select_sort(struct candidate *c, struct candidate *sorted, uint32_t n);

/* Σ exp(logit − max) in the order given. */
double filter_mass(const struct candidate *c, uint32_t n, float max);
/* Each returns how many of c [n] (best first) stay, at least 1 of n ≥ 1.  mass: of all that the
 * filter shall see as 1. */
uint32_t filter_top_p(const struct candidate *c, uint32_t n, float max, double mass, double top_p);
uint32_t filter_min_p(const struct candidate *c, uint32_t n, double min_p);
/* Keeps those whose surprise is nearest to the expected one, until more than typical_p of the mass
 * is in; they lie at c [0..] again, best first.  scratch [2 n]. */
uint32_t filter_typical(struct candidate *c, uint32_t n, double typical_p,
                        struct candidate *scratch);

#endif
