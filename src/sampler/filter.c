/* SPDX-License-Identifier: MIT
 * filter.c — which candidates stay: typical_p, top_p, min_p over candidates sorted best first.
 * Source: as llama.cpp defines them; typical_p: Meister et al., "Locally typical sampling", 2022.
 */
#include "sampler/sampler_int.h"

double filter_mass(const struct candidate *c, uint32_t n, float max)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += sampler_exp((double)c[i].logit - max);
    return sum;
}

uint32_t filter_top_p(const struct candidate *c, uint32_t n, float max, double mass, double top_p)
{
    double sum = 0, wanted = top_p * mass;
    for (uint32_t i = 0; i < n; i++) {
        sum += sampler_exp((double)c[i].logit - max);
        if (sum >= wanted)
            return i + 1;
    }
    return n;
}

uint32_t filter_min_p(const struct candidate *c, uint32_t n, double min_p)
{
    double floor = (double)c[0].logit + sampler_log(min_p);
    uint32_t kept = 1;
    while (kept < n && (double)c[kept].logit >= floor)
        kept++;
    return kept;
}

uint32_t filter_typical(struct candidate *c, uint32_t n, double typical_p, uint32_t min_keep,
                        struct candidate *scratch)
{
    float max = c[0].logit;
    double mass = 0, weighted = 0;
    for (uint32_t i = 0; i < n; i++) {
        double x = (double)c[i].logit - max, w = sampler_exp(x);
        mass += w;
        weighted += w * x;
    }
    /* Surprise of i: ln mass − x.  Expected: Σ p (ln mass − x).  Their difference: mean − x. */
    double mean = weighted / mass;
    struct candidate *by_index = scratch, *nearest = scratch + n;
    for (uint32_t i = 0; i < n; i++) {
        double distance = mean - ((double)c[i].logit - max);
        by_index[i].logit = (float)(distance > 0 ? -distance : distance);
        by_index[i].token = i;
    }
    select_sort(by_index, nearest, n);
    struct candidate *kept = scratch;
    uint32_t n_kept = 0;
    double sum = 0;
    do {
        kept[n_kept] = c[nearest[n_kept].token];
        sum += sampler_exp((double)kept[n_kept].logit - max);
        n_kept++;
    } while (n_kept < n && (n_kept < min_keep || sum <= typical_p * mass));
    /* Equal logits are equally far from the mean, so the stable sorts keep the lower token first.
     */
    select_sort(kept, c, n_kept);
    return n_kept;
}
