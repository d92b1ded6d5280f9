/* SPDX-License-Identifier: MIT
 * chain.c — filters in any order: a list of candidates goes from one to the next.
 * The list begins as all tokens that are allowed, in their order, and is sorted when a filter asks
 * for the best.  A temperature only divides the logits once something behind it looks at them: the
 * last one's division is the draw's, in double precision, as on the plain way.
 * Source: llama.cpp defines the filters and what each leaves; the bits are our own. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/prng.h"
#include "sampler/sampler_int.h"

#define DRAW_OF_XTC 1u /* of prng_uniform; 0 draws the token */

struct chain {
    struct sampler *s; /* candidates: the list */
    uint32_t n;
    bool is_sorted;
    double temperature; /* that logits are still to be divided by */
    uint64_t position;
};

/* ---- the plan ---- */
static bool is_on(const struct sampler_params *p, enum sampler_filter f)
{
    switch (f) {
    case FILTER_PENALTIES:
        return sampler_has_penalty(p);
    case FILTER_DRY:
        return p->dry_multiplier > 0 && p->dry_base >= 1 && p->dry_penalty_last_n != 0;
    case FILTER_TOP_N_SIGMA:
        return p->top_n_sigma > 0;
    case FILTER_TOP_K:
        return p->top_k > 0;
    case FILTER_TYPICAL_P:
        return p->typical_p < 1;
    case FILTER_TOP_P:
        return p->top_p < 1;
    case FILTER_MIN_P:
        return p->min_p > 0;
    case FILTER_XTC:
        return p->xtc_probability > 0 && p->xtc_threshold <= 0.5f;
    case FILTER_TEMPERATURE:
        return p->temperature != 1 || p->dynatemp_range > 0;
    case FILTER_ADAPTIVE_P:
        return p->adaptive_target >= 0;
    case FILTERS:
        break;
    }
    return false;
}

static void turn_off(struct sampler_params *p, enum sampler_filter f)
{
    switch (f) {
    case FILTER_PENALTIES:
        p->repeat_penalty = 1;
        p->presence_penalty = p->frequency_penalty = 0;
        break;
    case FILTER_DRY:
        p->dry_multiplier = 0;
        break;
    case FILTER_TOP_N_SIGMA:
        p->top_n_sigma = 0;
        break;
    case FILTER_TOP_K:
        p->top_k = 0;
        break;
    case FILTER_TYPICAL_P:
        p->typical_p = 1;
        break;
    case FILTER_TOP_P:
        p->top_p = 1;
        break;
    case FILTER_MIN_P:
        p->min_p = 0;
        break;
    case FILTER_XTC:
        p->xtc_probability = 0;
        break;
    case FILTER_TEMPERATURE:
        p->temperature = 1;
        p->dynatemp_range = 0;
        break;
    case FILTER_ADAPTIVE_P:
        p->adaptive_target = -1;
        break;
    case FILTERS:
        break;
    }
}

/* What was asked for, in which order. */
static struct filter_order wanted(struct sampler_params *p)
{
    struct filter_order o = {.is_given = true};
    if (p->mirostat) {
        p->dynatemp_range = 0;
        o.at[o.n++] = FILTER_TEMPERATURE;
        return o;
    }
    if (p->order.is_given)
        return p->order;
    for (uint8_t f = 0; f < FILTER_ADAPTIVE_P; f++)
        o.at[o.n++] = f;
    return o;
}

void chain_plan(struct sampler *s)
{
    struct sampler_params *p = &s->p;
    const struct filter_order order = wanted(p);
    bool is_in[FILTERS] = {false};
    for (uint8_t i = 0; i < order.n; i++)
        is_in[order.at[i]] = true;
    for (enum sampler_filter f = 0; f < FILTERS; f++)
        if (!is_in[f])
            turn_off(p, f);
    s->order = (struct filter_order){.is_given = true};
    s->is_chain = p->mirostat > 0 || p->dynatemp_range > 0;
    for (uint8_t i = 0; i < order.n; i++) {
        const enum sampler_filter f = order.at[i];
        if (!is_on(p, f))
            continue;
        const bool is_new =
            f == FILTER_DRY || f == FILTER_TOP_N_SIGMA || f == FILTER_XTC || f == FILTER_ADAPTIVE_P;
        const bool keeps_more =
            p->min_keep > 1 && (f == FILTER_TYPICAL_P || f == FILTER_TOP_P || f == FILTER_MIN_P);
        if (is_new || keeps_more || (s->order.n > 0 && f <= s->order.at[s->order.n - 1]))
            s->is_chain = true;
        s->order.at[s->order.n++] = (uint8_t)f;
    }
}

/* ---- the list ---- */
static void sort(struct chain *l)
{
    struct sampler *s = l->s;
    if (l->is_sorted)
        return;
    select_sort(s->candidates, s->sorted, l->n);
    struct candidate *swap = s->candidates;
    s->candidates = s->sorted;
    s->sorted = swap;
    l->is_sorted = true;
}

/* The k best, best first. */
static void keep_best(struct chain *l, uint32_t k)
{
    if (k >= l->n)
        return;
    if (!l->is_sorted && k <= TOP_K_HEAP_MAX) {
        select_front(l->s->candidates, l->n, k);
        l->is_sorted = true;
    }
    sort(l);
    l->n = k;
}

static float max_of(const struct chain *l)
{
    const struct candidate *c = l->s->candidates;
    float max = c[0].logit;
    for (uint32_t i = 1; i < l->n; i++)
        max = c[i].logit > max ? c[i].logit : max;
    return max;
}

static uint32_t count_above(const struct chain *l, double floor)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++)
        n += (double)l->s->candidates[i].logit >= floor;
    return n;
}

static void keep_above(struct chain *l, double floor)
{
    struct candidate *c = l->s->candidates;
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++)
        if ((double)c[i].logit >= floor)
            c[n++] = c[i];
    l->n = n;
}

/* Divides by the temperature that waits; by 0: the first of the best stays. */
static void settle(struct chain *l)
{
    struct candidate *c = l->s->candidates;
    if (l->temperature <= 0)
        keep_best(l, 1);
    else
        for (uint32_t i = 0; l->temperature != 1 && i < l->n; i++) {
            const double v = (double)c[i].logit / l->temperature;
            c[i].logit = v > (double)FLT_MAX ? FLT_MAX : v < -(double)FLT_MAX ? -FLT_MAX : (float)v;
        }
    l->temperature = 1;
}

/* ---- filters ---- */
static uint32_t at_least(const struct chain *l, uint32_t n)
{
    const uint32_t keep = l->s->p.min_keep < l->n ? l->s->p.min_keep : l->n;
    return n > keep ? n : keep;
}

static void apply_penalties(struct chain *l)
{
    struct candidate *c = l->s->candidates;
    for (uint32_t i = 0; i < l->n; i++)
        c[i].logit = sampler_penalized(l->s, c[i].token, c[i].logit);
    l->is_sorted = false;
}

static void apply_dry(struct chain *l)
{
    dry_apply(l->s->dry, l->s->candidates, l->n);
    l->is_sorted = false;
}

static void apply_top_n_sigma(struct chain *l)
{
    const struct candidate *c = l->s->candidates;
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < l->n; i++)
        sum += (double)c[i].logit;
    const double mean = sum / l->n;
    for (uint32_t i = 0; i < l->n; i++)
        squares += ((double)c[i].logit - mean) * ((double)c[i].logit - mean);
    keep_above(l, (double)max_of(l) - (double)l->s->p.top_n_sigma * sqrt(squares / l->n));
}

static void apply_typical_p(struct chain *l)
{
    struct sampler *s = l->s;
    sort(l);
    l->n = filter_typical(s->candidates, l->n, s->p.typical_p, s->p.min_keep, s->scratch);
}

static void apply_top_p(struct chain *l)
{
    sort(l);
    const struct candidate *c = l->s->candidates;
    const double mass = filter_mass(c, l->n, c[0].logit);
    l->n = at_least(l, filter_top_p(c, l->n, c[0].logit, mass, l->s->p.top_p));
}

static void apply_min_p(struct chain *l)
{
    const double floor = (double)max_of(l) + sampler_log(l->s->p.min_p);
    if (count_above(l, floor) < l->s->p.min_keep)
        keep_best(l, at_least(l, 1));
    else
        keep_above(l, floor);
}

/* Sometimes all that are likely enough go, but for the least likely of them. */
static void apply_xtc(struct chain *l)
{
    struct sampler *s = l->s;
    const struct sampler_params *p = &s->p;
    uint32_t n_likely = 0;
    if (l->n < 2 ||
        prng_uniform(p->seed, p->choice, l->position, DRAW_OF_XTC) > (double)p->xtc_probability)
        return;
    sort(l);
    struct candidate *c = s->candidates;
    const double least = (double)p->xtc_threshold * filter_mass(c, l->n, c[0].logit);
    while (n_likely < l->n && sampler_exp((double)c[n_likely].logit - (double)c[0].logit) >= least)
        n_likely++;
    if (n_likely < 2 || l->n - (n_likely - 1) < p->min_keep)
        return;
    l->n -= n_likely - 1;
    memmove(c, c + n_likely - 1, l->n * sizeof *c);
}

/* From temperature − range where one token is certain to + range where all are alike. */
static double dynamic_temperature(struct chain *l)
{
    const struct sampler_params *p = &l->s->p;
    const struct candidate *c = l->s->candidates;
    const double max = max_of(l), range = p->dynatemp_range;
    const double lowest = p->temperature > p->dynatemp_range ? p->temperature - range : 0;
    double mass = 0, weighted = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        const double x = (double)c[i].logit - max, weight = sampler_exp(x);
        mass += weight;
        weighted += weight * x;
    }
    const double entropy = (sampler_log(mass) - weighted / mass) / sampler_log(l->n);
    double share = p->dynatemp_exponent > 0 ? 0 : 1; /* entropy to the power of exponent */
    if (entropy >= 1)
        share = 1;
    else if (entropy > 0)
        share = sampler_exp((double)p->dynatemp_exponent * sampler_log(entropy));
    return lowest + ((double)p->temperature + range - lowest) * share;
}

static void apply_temperature(struct chain *l)
{
    const struct sampler_params *p = &l->s->p;
    if (p->dynatemp_range <= 0) {
        l->temperature *= p->temperature;
        return;
    }
    settle(l);
    if (l->n > 1)
        l->temperature = dynamic_temperature(l);
}

static void apply(struct chain *l, enum sampler_filter f)
{
    if (f != FILTER_TEMPERATURE && f != FILTER_ADAPTIVE_P)
        settle(l);
    switch (f) {
    case FILTER_PENALTIES:
        apply_penalties(l);
        break;
    case FILTER_DRY:
        apply_dry(l);
        break;
    case FILTER_TOP_N_SIGMA:
        apply_top_n_sigma(l);
        break;
    case FILTER_TOP_K:
        keep_best(l, (uint32_t)l->s->p.top_k);
        break;
    case FILTER_TYPICAL_P:
        apply_typical_p(l);
        break;
    case FILTER_TOP_P:
        apply_top_p(l);
        break;
    case FILTER_MIN_P:
        apply_min_p(l);
        break;
    case FILTER_XTC:
        apply_xtc(l);
        break;
    case FILTER_TEMPERATURE:
        apply_temperature(l);
        break;
    case FILTER_ADAPTIVE_P: /* at the end */
    case FILTERS:
        break;
    }
}

/* ---- the end ---- */
/* Of mirostat 1 the best so many, of mirostat 2 those that surprise at most so much. */
static void apply_mirostat(struct chain *l)
{
    struct sampler *s = l->s;
    if (l->temperature <= 0) {
        settle(l);
    } else if (s->p.mirostat == 1) {
        const uint32_t n_best = l->n < MIROSTAT_BEST ? l->n : MIROSTAT_BEST;
        select_front(s->candidates, l->n, n_best);
        l->is_sorted = n_best == l->n;
        keep_best(l, steer_count(s, s->candidates, n_best, l->temperature));
    } else {
        const struct candidate *c = s->candidates;
        const double max = max_of(l);
        double mass = 0;
        for (uint32_t i = 0; i < l->n; i++)
            mass += sampler_exp(((double)c[i].logit - max) / l->temperature);
        const double floor = max + l->temperature * (sampler_log(mass) - s->steer.mu * SAMPLER_LN2);
        if (floor > max)
            keep_best(l, 1);
        else
            keep_above(l, floor);
    }
}

static void apply_adaptive_p(struct chain *l)
{
    struct sampler *s = l->s;
    settle(l);
    sort(l);
    steer_adapt(s, s->candidates, l->n, s->scratch);
    l->is_sorted = false;
}

uint32_t chain_choose(struct sampler *s, const float *logits, const uint64_t *allowed,
                      uint64_t position)
{
    struct chain l = {.s = s, .temperature = 1, .position = position};
    l.n = select_above(logits, s->n_vocab, allowed, -INFINITY, s->candidates);
    if (l.n == 0) /* everything is forbidden or not a number; any answer is as good */
        return allowed ? select_best(logits, s->n_vocab, allowed)
                       : s->k->argmax(logits, s->n_vocab);
    for (uint8_t i = 0; i < s->order.n; i++)
        apply(&l, s->order.at[i]);
    if (s->p.mirostat)
        apply_mirostat(&l);
    if (s->p.adaptive_target >= 0)
        apply_adaptive_p(&l);
    if (l.temperature <= 0)
        settle(&l);
    sort(&l);
    s->from = (struct drawn_from){.c = s->candidates, .n = l.n, .temperature = l.temperature};
    const uint32_t token = sampler_draw(s, position);
    steer_drawn(s, s->scratch, l.n);
    return token;
}
