/* SPDX-License-Identifier: MIT
 * determinize.c — from an automaton with choice to one without: the subset construction (Rabin and
 * Scott, 1959), over ranges of symbols. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "grammar/automaton.h"

/* Members of all subsets together: a hostile expression runs into this before it eats the machine.
 */
#define SUBSET_MEMBERS_MAX (1u << 22)

struct subset {
    uint32_t first, count; /* in members; ascending */
    uint64_t hash;
};

struct work {
    const struct nfa *n;
    uint32_t end;
    struct subset *subsets;
    uint32_t n_subsets, subsets_cap;
    uint32_t *members;
    uint32_t n_members, members_cap;
    uint32_t *slots; /* index of a subset + 1 */
    uint32_t n_slots;
    uint32_t *found, n_found; /* the subset being gathered [n_states] */
    uint32_t *mark, stamp;    /* [n_states]: gathered when mark == stamp */
    struct nfa_edge *edges;   /* symbol edges out of the current subset, by lo */
    uint32_t *borders;
    enum status failed;
};

static void gather(struct work *w, uint32_t state)
{
    if (w->mark[state] == w->stamp)
        return;
    w->mark[state] = w->stamp;
    w->found[w->n_found++] = state;
}

static void gather_begin(struct work *w)
{
    w->stamp++;
    w->n_found = 0;
}

/* Adds what can be reached without a symbol. */
static void close_over(struct work *w, bool at_start, bool at_end)
{
    for (uint32_t i = 0; i < w->n_found; i++)
        for (uint32_t at = w->n->first[w->found[i]]; at != STATE_NONE; at = w->n->edges[at].next) {
            const struct nfa_edge *edge = &w->n->edges[at];
            if (edge->kind == NFA_EMPTY || (edge->kind == NFA_AT_START && at_start) ||
                (edge->kind == NFA_AT_END && at_end))
                gather(w, edge->to);
        }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static bool is_same(const struct work *w, const struct subset *s, uint64_t hash)
{
    return s->hash == hash && s->count == w->n_found &&
           memcmp(w->members + s->first, w->found, w->n_found * sizeof *w->found) == 0;
}

static bool room_for(struct work *w)
{
    while (w->members_cap - w->n_members < w->n_found) {
        uint32_t cap = w->members_cap ? 2 * w->members_cap : 1024;
        uint32_t *more = mem_try_resize(w->members, cap, sizeof *more);
        if (cap > SUBSET_MEMBERS_MAX || !more) {
            w->members = more ? more : w->members;
            w->failed = more ? E_LIMIT : E_NOMEM;
            return false;
        }
        w->members = more;
        w->members_cap = cap;
    }
    if (w->n_subsets < w->subsets_cap)
        return true;
    uint32_t cap = w->subsets_cap ? 2 * w->subsets_cap : 64;
    struct subset *more = mem_try_resize(w->subsets, cap, sizeof *more);
    if (cap > AUTOMATON_STATES_MAX || !more) {
        w->subsets = more ? more : w->subsets;
        w->failed = more ? E_LIMIT : E_NOMEM;
        return false;
    }
    w->subsets = more;
    w->subsets_cap = cap;
    return true;
}

/* Keeps the table at most half full: most automata are small, so it begins small.  Nothing is
 * looked up when it failed. */
static bool slots_grow(struct work *w)
{
    if (2 * w->n_subsets < w->n_slots)
        return true;
    uint32_t n_slots = w->n_slots ? 4 * w->n_slots : 64;
    uint32_t *slots = mem_try_new(n_slots, sizeof *slots);
    if (!slots) {
        w->failed = E_NOMEM;
        return false;
    }
    for (uint32_t i = 0; i < w->n_subsets; i++) {
        uint64_t hash = w->subsets[i].hash;
        uint32_t at = (uint32_t)(hash ^ hash >> 32) & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = i + 1;
    }
    mem_free(w->slots);
    w->slots = slots;
    w->n_slots = n_slots;
    return true;
}

/* The number of the subset in found. */
static uint32_t subset_of_found(struct work *w)
{
    if (!slots_grow(w))
        return 0;
    if (w->n_found > 1)
        qsort(w->found, w->n_found, sizeof *w->found, by_number);
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < w->n_found; i++)
        hash = (hash ^ w->found[i]) * 0x100000001b3u;
    uint32_t at = (uint32_t)(hash ^ hash >> 32) & (w->n_slots - 1);
    for (; w->slots[at]; at = (at + 1) & (w->n_slots - 1))
        if (is_same(w, &w->subsets[w->slots[at] - 1], hash))
            return w->slots[at] - 1;
    if (!room_for(w))
        return 0;
    memcpy(w->members + w->n_members, w->found, w->n_found * sizeof *w->found);
    w->subsets[w->n_subsets] = (struct subset){w->n_members, w->n_found, hash};
    w->n_members += w->n_found;
    w->slots[at] = ++w->n_subsets;
    return w->n_subsets - 1;
}

static int by_lo(const void *a, const void *b)
{
    const struct nfa_edge *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Symbol edges of a subset by lo; borders: each place where the set of open edges changes. */
static uint32_t edges_of(struct work *w, const struct subset *s, uint32_t *n_borders)
{
    uint32_t n = 0;
    *n_borders = 0;
    for (uint32_t i = 0; i < s->count; i++)
        for (uint32_t at = w->n->first[w->members[s->first + i]]; at != STATE_NONE;
             at = w->n->edges[at].next)
            if (w->n->edges[at].kind == NFA_SYMBOL) {
                w->borders[(*n_borders)++] = w->n->edges[at].lo;
                w->borders[(*n_borders)++] = w->n->edges[at].hi + 1;
                w->edges[n++] = w->n->edges[at];
            }
    if (n > 1) {
        qsort(w->edges, n, sizeof *w->edges, by_lo);
        qsort(w->borders, *n_borders, sizeof *w->borders, by_number);
    }
    return n;
}

static void step_subset(struct work *w, struct dfa_maker *m, uint32_t index)
{
    uint32_t n_borders, n = edges_of(w, &w->subsets[index], &n_borders);
    for (uint32_t b = 0; b + 1 < n_borders && w->failed == OK; b++) {
        uint32_t lo = w->borders[b], hi = w->borders[b + 1] - 1;
        if (w->borders[b] == w->borders[b + 1])
            continue;
        gather_begin(w);
        for (uint32_t i = 0; i < n && w->edges[i].lo <= lo; i++)
            if (w->edges[i].hi >= hi)
                gather(w, w->edges[i].to);
        if (w->n_found == 0)
            continue;
        close_over(w, false, false);
        uint32_t to = subset_of_found(w);
        /* Calls stay one symbol an edge, so that is_live can judge each. */
        for (uint32_t c = lo; lo >= SYMBOL_CALL && c < hi; c++)
            dfa_maker_edge(m, c, c, to);
        dfa_maker_edge(m, lo >= SYMBOL_CALL ? hi : lo, hi, to);
    }
}

static bool is_final(struct work *w, uint32_t index, bool at_start)
{
    const struct subset *s = &w->subsets[index];
    gather_begin(w);
    for (uint32_t i = 0; i < s->count; i++)
        gather(w, w->members[s->first + i]);
    close_over(w, at_start, true);
    return w->mark[w->end] == w->stamp;
}

static bool take_memory(struct work *w)
{
    size_t n = w->n->n_states, edges = w->n->n_edges;
    w->found = mem_try_new(n + 1, sizeof *w->found);
    w->mark = mem_try_new(n + 1, sizeof *w->mark);
    w->edges = mem_try_new(edges + 1, sizeof *w->edges);
    w->borders = mem_try_new(2 * edges + 1, sizeof *w->borders);
    return w->found && w->mark && w->edges && w->borders;
}

enum status nfa_to_dfa(const struct nfa *n, uint32_t start, uint32_t end, struct dfa *out,
                       struct err *e)
{
    struct dfa_maker m = {.failed = n->failed};
    struct work w = {.n = n, .end = end};
    if (m.failed == OK && !take_memory(&w))
        m.failed = E_NOMEM;
    if (m.failed == OK) {
        gather_begin(&w);
        gather(&w, start);
        close_over(&w, true, false);
        subset_of_found(&w);
    }
    for (uint32_t i = 0; i < w.n_subsets && m.failed == OK && w.failed == OK; i++) {
        /* The start's subset may be entered again later: with `^` inside a loop its members differ
         * then, because NFA_AT_START is followed only once. */
        dfa_maker_state(&m, is_final(&w, i, i == 0));
        step_subset(&w, &m, i);
    }
    if (m.failed == OK)
        m.failed = w.failed;
    mem_free(w.subsets);
    mem_free(w.members);
    mem_free(w.slots);
    mem_free(w.found);
    mem_free(w.mark);
    mem_free(w.edges);
    mem_free(w.borders);
    return dfa_maker_end(&m, out, e);
}
