/* SPDX-License-Identifier: MIT
 * steer.c — draws that look at earlier draws: mirostat keeps the surprise near tau bits, adaptive_p
 * the mean probability of what is drawn near its target.
 * Both only learn from tokens that became part of the reply: with guesses several are drawn in one
 * step, one after the other, and a token that was drawn in vain teaches nothing.
 * Source: Basu et al., "Mirostat", 2021; as llama.cpp has it: mu begins at 2 tau, and of the
 * 100 best the exponent of Zipf's law is estimated.  adaptive_p: llama.cpp #17927. */
#include <math.h>
#include <string.h>

#include "sampler/sampler_int.h"

#define DECAY_MAX 0.99
/* Of adaptive_p's curve: quadratic near the target, a line far from it. */
#define CURVE_WIDTH     0.3
#define CURVE_PEAK      5.0
#define CURVE_SHARPNESS 10.0

static double decay_of(const struct sampler_params *p)
{
    return (double)p->adaptive_decay < DECAY_MAX ? (double)p->adaptive_decay : DECAY_MAX;
}

static double within(double v, double least, double most)
{
    return v < least ? least : v > most ? most : v;
}

void steer_init(struct steer *t, const struct sampler_params *p)
{
    const double decay = decay_of(p);
    *t = (struct steer){.mu = 2 * (double)p->mirostat_tau,
                        .weighted_sum = (double)p->adaptive_target / (1 - decay),
                        .total_weight = 1 / (1 - decay)};
}

/* eᵃ for any a. */
static double power_of_e(double a)
{
    return a <= 0 ? sampler_exp(a) : 1 / sampler_exp(-a);
}

uint32_t steer_count(const struct sampler *s, const struct candidate *c, uint32_t n,
                     double temperature)
{
    double products = 0, squares = 0;
    for (uint32_t i = 0; i + 1 < n; i++) {
        const double rank = sampler_log((i + 2.0) / (i + 1.0));
        const double fall = ((double)c[i].logit - (double)c[i + 1].logit) / temperature;
        products += rank * fall;
        squares += rank * rank;
    }
    if (products <= 0)
        return n < 2 ? 1 : s->n_vocab; /* all alike */
    /* k = (epsilon 2^mu / (1 − N^−epsilon))^(1 / exponent), by logarithms; 1 / ln N where epsilon
     * is 0. */
    const double exponent = products / squares, epsilon = exponent - 1;
    const double log_vocab = sampler_log(s->n_vocab);
    const double rest = 1 - power_of_e(-epsilon * log_vocab);
    const double factor = rest == 0 ? 1 / log_vocab : epsilon / rest;
    const double log_k = (sampler_log(factor) + s->steer.mu * SAMPLER_LN2) / exponent;
    if (log_k >= log_vocab)
        return s->n_vocab;
    return log_k <= 0 ? 1 : (uint32_t)within(power_of_e(log_k), 1, s->n_vocab);
}

void steer_adapt(const struct sampler *s, struct candidate *c, uint32_t n, struct candidate *before)
{
    const struct steer *t = &s->steer;
    const double target =
        within(2 * (double)s->p.adaptive_target - t->weighted_sum / t->total_weight, 0, 1);
    const double max = c[0].logit, mass = filter_mass(c, n, c[0].logit);
    memcpy(before, c, n * sizeof *c);
    for (uint32_t i = 0; i < n; i++) {
        const double p = sampler_exp((double)c[i].logit - max) / mass;
        const double distance = fabs(p - target) / CURVE_WIDTH;
        c[i].logit = (float)(CURVE_PEAK - CURVE_SHARPNESS * distance * distance / (1 + distance));
    }
}

void steer_drawn(struct sampler *s, const struct candidate *before, uint32_t n)
{
    const struct drawn_from *from = &s->from;
    s->steer.has_found = s->p.mirostat > 0 || s->p.adaptive_target >= 0;
    if (s->p.mirostat > 0) {
        const double fall = (double)from->c[0].logit - (double)from->c[from->index].logit;
        s->steer.found = (fall / from->temperature + sampler_log(from->sum)) / SAMPLER_LN2;
    } else if (s->p.adaptive_target >= 0) {
        uint32_t i = 0;
        while (before[i].token != from->c[from->index].token)
            i++;
        s->steer.found = sampler_exp((double)before[i].logit - (double)before[0].logit) /
                         filter_mass(before, n, before[0].logit);
    }
}

void steer_accept(struct sampler *s)
{
    struct steer *t = &s->steer;
    if (!t->has_found)
        return;
    t->has_found = false;
    if (s->p.mirostat > 0) {
        t->mu -= (double)s->p.mirostat_eta * (t->found - (double)s->p.mirostat_tau);
    } else {
        t->weighted_sum = t->found + decay_of(&s->p) * t->weighted_sum;
        t->total_weight = 1 + decay_of(&s->p) * t->total_weight;
    }
}
