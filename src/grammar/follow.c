/* SPDX-License-Identifier: MIT
 * follow.c — the bytes that may come behind each rule, whoever called it.
 * A token that runs over the end of a rule matters only if its next byte is one of them; a name
 * that ends at any letter has 150,000 such tokens in a large vocabulary, and those with a colon
 * there are a hundred.  Textbook first and follow sets, as least fixed points over bits. */
#include <string.h>

#include "base/mem.h"
#include "grammar/grammar_int.h"

struct behind {
    struct byte_set bytes;
    bool may_end; /* the rule may end there without a byte */
};
struct work {
    const struct grammar *g;
    const bool *is_nullable;       /* [n_rules] */
    struct byte_set *first;        /* [n_rules] */
    uint32_t *stack, *mark, stamp; /* [n_states] */
};

static bool add_set(struct byte_set *to, const struct byte_set *more)
{
    uint64_t new = 0;
    for (int i = 0; i < 4; i++) {
        new |= more->bits[i] & ~to->bits[i];
        to->bits[i] |= more->bits[i];
    }
    return new != 0;
}

/* What may come at this state, as far as `first` knows. */
static struct behind at_state(struct work *w, uint32_t state)
{
    const struct grammar *g = w->g;
    struct behind out = {0};
    uint32_t n = 0;
    w->mark[state] = ++w->stamp;
    w->stack[n++] = state;
    while (n) {
        uint32_t s = w->stack[--n];
        out.may_end |= g->is_final[s];
        for (uint32_t i = g->first_edge[s]; i < g->first_edge[s + 1]; i++)
            for (uint32_t b = g->edges[i].lo; b <= g->edges[i].hi; b++)
                out.bytes.bits[b / 64] |= 1ull << b % 64;
        for (uint32_t i = g->first_call[s]; i < g->first_call[s + 1]; i++) {
            const struct call *c = &g->calls[i];
            (void)add_set(&out.bytes, &w->first[c->rule]);
            if (w->is_nullable[c->rule] && w->mark[c->next] != w->stamp) {
                w->mark[c->next] = w->stamp;
                w->stack[n++] = c->next;
            }
        }
    }
    return out;
}

static void find_first(struct work *w)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t r = 0; r < w->g->n_rules; r++)
            if (w->g->start[r] != STATE_NONE) {
                struct behind x = at_state(w, w->g->start[r]);
                changed |= add_set(&w->first[r], &x.bytes);
            }
    }
}

/* behind [calls] and the caller of each. */
static void find_follow(struct grammar *g, const struct behind *behind, const uint32_t *callers)
{
    const uint32_t n_calls = g->first_call[g->n_states];
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < n_calls; i++) {
            changed |= add_set(&g->follow[g->calls[i].rule], &behind[i].bytes);
            if (behind[i].may_end)
                changed |= add_set(&g->follow[g->calls[i].rule], &g->follow[callers[i]]);
        }
    }
}

bool grammar_find_follow(struct grammar *g, const bool *is_nullable)
{
    const uint32_t n_calls = g->first_call[g->n_states];
    struct work w = {.g = g, .is_nullable = is_nullable};
    w.first = mem_try_new((size_t)g->n_rules + 1, sizeof *w.first);
    w.stack = mem_try_new((size_t)g->n_states + 1, sizeof *w.stack);
    w.mark = mem_try_new((size_t)g->n_states + 1, sizeof *w.mark);
    struct behind *behind = mem_try_new((size_t)n_calls + 1, sizeof *behind);
    uint32_t *callers = mem_try_new((size_t)n_calls + 1, sizeof *callers);
    bool ok = w.first && w.stack && w.mark && behind && callers;
    if (ok) {
        find_first(&w);
        for (uint32_t s = 0, r = 0; s < g->n_states; s++) {
            while (s >= g->rule_end[r])
                r++;
            for (uint32_t i = g->first_call[s]; i < g->first_call[s + 1]; i++) {
                callers[i] = r;
                behind[i] = at_state(&w, g->calls[i].next);
            }
        }
        find_follow(g, behind, callers);
    }
    mem_free(w.first);
    mem_free(w.stack);
    mem_free(w.mark);
    mem_free(behind);
    mem_free(callers);
    return ok;
}

uint32_t grammar_rule_of(const struct grammar *g, uint32_t state)
{
    uint32_t low = 0, high = g->n_rules - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (g->rule_end[middle] <= state)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct byte_set *grammar_follow(const struct grammar *g, uint32_t state)
{
    return &g->follow[grammar_rule_of(g, state)];
}
