/* SPDX-License-Identifier: MIT
 * draft.c — an index of the pairs of tokens in one sequence, and the place that is being copied.
 *
 *   … the quick brown fox jumps … the quick brown │ ?
 *                     └─ source                   └─ n        agreed = 3
 *
 * Positions of a pair are chained, the latest first; a look-up compares backwards from at most
 * CANDIDATES_MAX of them and takes the longest agreement.  While the guess stays right the source
 * moves along without a look-up. */
#include "engine/draft.h"

#include <string.h>

#include "base/mem.h"

#define CANDIDATES_MAX 32u
#define AGREED_MAX     64u /* longer says nothing more */
#define AGREED_GOOD    12u /* as long as this nobody looks for a better source */
#define PAIR           2u
#define TOKENS_MIN     256u
#define WEIGHT_OWN     (1.0f / 12)
#define WEIGHT_ALL     (1.0f / 64)

struct draft_rates draft_rates_initial(void)
{
    return (struct draft_rates){{0.25f, 0.4f, 0.55f, 0.65f, 0.75f, 0.85f, 0.9f}};
}

void draft_release(struct draft *d)
{
    mem_free(d->heads);
    mem_free(d->previous);
    *d = (struct draft){0};
}

static uint32_t class_of(uint32_t agreed)
{
    static const uint32_t from[DRAFT_CLASSES] = {2, 3, 4, 5, 7, 11, 19};
    uint32_t class = 0;
    while (class + 1 < DRAFT_CLASSES && agreed >= from[class + 1])
        class ++;
    return class;
}

static uint32_t slot_of(const struct draft *d, const uint32_t *behind)
{
    uint64_t pair = (uint64_t)behind[-2] << 32 | behind[-1];
    return (uint32_t)(pair * 0x9E3779B97F4A7C15u >> 40) & (d->n_heads - 1);
}

/* The pair before position `at` is known from now on. */
static void add(struct draft *d, const uint32_t *tokens, uint32_t at)
{
    uint32_t *head = &d->heads[slot_of(d, tokens + at)];
    d->previous[at] = *head;
    *head = at;
}

/* Room for positions up to n; the index is made again when its table grows. */
static bool grow(struct draft *d, const uint32_t *tokens, uint32_t n)
{
    if (n < d->cap)
        return true;
    uint32_t cap = d->cap ? d->cap : TOKENS_MIN;
    while (cap <= n)
        cap *= 2;
    uint32_t *heads = mem_try_new(cap, sizeof *heads);
    uint32_t *previous = mem_try_resize(d->previous, cap, sizeof *previous);
    if (previous)
        d->previous = previous;
    if (!heads || !previous) {
        mem_free(heads);
        return false;
    }
    mem_free(d->heads);
    d->heads = heads;
    d->n_heads = d->cap = cap;
    for (uint32_t at = PAIR; at <= d->n_indexed; at++)
        add(d, tokens, at);
    return true;
}

static void learn(struct draft_rates *r, uint32_t class, bool is_right, float weight)
{
    r->right[class] += weight * ((is_right ? 1.0f : 0.0f) - r->right[class]);
}

/* Token `at` has come: was it the one that the source had? */
static void compare(struct draft *d, const uint32_t *tokens, uint32_t at, struct draft_rates *all)
{
    if (d->source == 0)
        return;
    bool is_right = tokens[d->source] == tokens[at];
    learn(&d->rates, class_of(d->agreed), is_right, WEIGHT_OWN);
    learn(all, class_of(d->agreed), is_right, WEIGHT_ALL);
    if (is_right) {
        d->source++;
        d->agreed += d->agreed < AGREED_MAX;
    } else {
        d->source = d->agreed = 0;
    }
}

static uint32_t agreement(const uint32_t *tokens, uint32_t source, uint32_t n)
{
    uint32_t agreed = 0;
    while (agreed < AGREED_MAX && agreed < source &&
           tokens[source - 1 - agreed] == tokens[n - 1 - agreed])
        agreed++;
    return agreed;
}

static void look_up(struct draft *d, const uint32_t *tokens, uint32_t n)
{
    uint32_t at = d->previous[n];
    for (uint32_t i = 0; at != 0 && i < CANDIDATES_MAX; i++, at = d->previous[at]) {
        uint32_t agreed = agreement(tokens, at, n);
        if (agreed >= PAIR && agreed > d->agreed) {
            d->source = at;
            d->agreed = agreed;
        }
    }
}

void draft_follow(struct draft *d, const uint32_t *tokens, uint32_t n, struct draft_rates *all)
{
    bool is_first = d->n_indexed == 0;
    if (is_first)
        d->rates = *all;
    if (d->has_failed || n < PAIR || n == d->n_indexed)
        return;
    if (!grow(d, tokens, n)) {
        d->has_failed = true;
        d->source = d->agreed = 0;
        return;
    }
    for (uint32_t at = d->n_indexed; at < n; at++) {
        if (!is_first)
            compare(d, tokens, at, all);
        if (at + 1 >= PAIR)
            add(d, tokens, at + 1);
    }
    d->n_indexed = n;
    if (d->agreed < AGREED_GOOD)
        look_up(d, tokens, n);
}

uint32_t draft_guess(const struct draft *d, const uint32_t *tokens, uint32_t n, uint32_t *out,
                     float *right, uint32_t max)
{
    if (d->source == 0)
        return 0;
    for (uint32_t i = 0; i < max; i++) {
        uint32_t at = d->source + i; /* behind the end a repetition goes on with its own guesses */
        out[i] = at < n ? tokens[at] : out[at - n];
        right[i] = d->rates.right[class_of(d->agreed + i)];
    }
    return max;
}
