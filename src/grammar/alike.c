/* SPDX-License-Identifier: MIT
 * alike.c — for how many bytes two states can't be told apart.
 * Grammars of JSON are full of states that allow nearly the same tokens: the inside of every
 * string, of every name that is not one of an object's own, of a text of at most 4,000 characters
 * wherever it is not nearly full.  A token is a few bytes, so where two states are alike for that
 * many bytes a mask of one is a mask of the other (mask.c). All pairs that can be met from the
 * first are gathered breadth first; then each pair's count is the least of those behind it and one
 * more, until nothing changes. */
#include <string.h>

#include "base/mem.h"
#include "grammar/grammar_int.h"

#define ALIKE_FOR_EVER UINT32_MAX

bool alike_new(struct pairs_alike *p, const struct grammar *g, uint32_t depth)
{
    *p = (struct pairs_alike){.g = g, .depth = depth};
    p->pairs = mem_try_new(PAIRS_MAX, sizeof *p->pairs);
    p->slots = mem_try_new(2 * PAIRS_MAX, sizeof *p->slots);
    return p->pairs && p->slots;
}

void alike_release(struct pairs_alike *p)
{
    mem_free(p->pairs);
    mem_free(p->slots);
    *p = (struct pairs_alike){0};
}

static uint32_t slot_of(const struct pairs_alike *p, uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(h >> 32) & (2 * PAIRS_MAX - 1);
    for (; p->slots[at]; at = (at + 1) & (2 * PAIRS_MAX - 1)) {
        const struct pair *pair = &p->pairs[p->slots[at] - 1];
        if (pair->a == a && pair->b == b)
            break;
    }
    return at;
}

/* What a and b become by the same bytes, in order of the bytes. */
struct both {
    const struct grammar *g;
    uint32_t i, i_end, j, j_end;
    uint32_t at;
};

static struct both both_of(const struct grammar *g, uint32_t a, uint32_t b)
{
    return (struct both){
        g, g->first_edge[a], g->first_edge[a + 1], g->first_edge[b], g->first_edge[b + 1], 0};
}

/* The next run of bytes; STATE_NONE: nothing.  False: there is no more. */
static bool both_next(struct both *x, uint32_t *a, uint32_t *b)
{
    const struct dfa_edge *e = x->g->edges;
    while (x->i < x->i_end && e[x->i].hi < x->at)
        x->i++;
    while (x->j < x->j_end && e[x->j].hi < x->at)
        x->j++;
    if (x->i == x->i_end && x->j == x->j_end)
        return false;
    uint32_t lo_a = x->i < x->i_end ? e[x->i].lo : UINT32_MAX;
    uint32_t lo_b = x->j < x->j_end ? e[x->j].lo : UINT32_MAX;
    uint32_t lo = lo_a < lo_b ? lo_a : lo_b, hi;
    lo = lo > x->at ? lo : x->at;
    *a = lo_a <= lo ? e[x->i].to : STATE_NONE;
    *b = lo_b <= lo ? e[x->j].to : STATE_NONE;
    hi = lo_a <= lo ? e[x->i].hi : lo_a - 1;
    if ((lo_b <= lo ? e[x->j].hi : lo_b - 1) < hi)
        hi = lo_b <= lo ? e[x->j].hi : lo_b - 1;
    x->at = hi + 1;
    return true;
}

static void meet(struct pairs_alike *p, uint32_t a, uint32_t b)
{
    if (a == b || a == STATE_NONE || b == STATE_NONE || p->n == PAIRS_MAX ||
        !state_is_plain(p->g, a) || !state_is_plain(p->g, b))
        return;
    uint32_t at = slot_of(p, a, b);
    if (p->slots[at])
        return;
    p->pairs[p->n++] = (struct pair){a, b, ALIKE_FOR_EVER};
    p->slots[at] = (uint16_t)p->n;
}

/* Of a pair's successors. */
static uint32_t known_bytes(const struct pairs_alike *p, uint32_t a, uint32_t b)
{
    if (a == b || (state_is_end(p->g, a) && state_is_end(p->g, b)))
        return ALIKE_FOR_EVER;
    uint32_t at = slot_of(p, a, b);
    return p->slots[at] ? p->pairs[p->slots[at] - 1].bytes : 0;
}

static uint32_t count_of(const struct pairs_alike *p, const struct pair *pair)
{
    struct both x = both_of(p->g, pair->a, pair->b);
    uint32_t least = ALIKE_FOR_EVER, a, b;
    while (least && both_next(&x, &a, &b)) {
        uint32_t bytes = 0;
        if (a != STATE_NONE && b != STATE_NONE && states_look_alike(p->g, a, b)) {
            bytes = known_bytes(p, a, b);
            bytes += bytes != ALIKE_FOR_EVER;
        }
        least = bytes < least ? bytes : least;
    }
    return least;
}

void alike_begin(struct pairs_alike *p, uint32_t a, uint32_t b)
{
    memset(p->slots, 0, 2 * PAIRS_MAX * sizeof *p->slots);
    p->n = 0;
    meet(p, a, b);
    for (uint32_t i = 0, row_end = p->n, depth = 0; i < p->n; i++) {
        if (i == row_end) {
            depth++;
            row_end = p->n;
        }
        if (depth >= p->depth) /* beyond every token: not known, which counts as 0 */
            break;
        struct both x = both_of(p->g, p->pairs[i].a, p->pairs[i].b);
        for (uint32_t s, t; both_next(&x, &s, &t);)
            meet(p, s, t);
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = p->n; i-- > 0;) {
            uint32_t bytes = count_of(p, &p->pairs[i]);
            if (bytes < p->pairs[i].bytes) {
                p->pairs[i].bytes = bytes;
                changed = true;
            }
        }
    }
}

uint32_t alike_bytes(const struct pairs_alike *p, uint32_t a, uint32_t b)
{
    return known_bytes(p, a, b);
}
