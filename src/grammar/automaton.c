/* SPDX-License-Identifier: MIT
 * automaton.c — nondeterministic automata, and finite ones by hand, by product, by complement. */
#include "grammar/automaton.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "text/utf8.h"

/* Makes room for one more; false (and failed set) when memory or the ceiling forbids it. */
static bool grow(void **items, uint32_t count, uint32_t *cap, size_t size, uint32_t max,
                 enum status *failed)
{
    if (*failed != OK)
        return false;
    if (count < *cap)
        return true;
    if (count >= max) {
        *failed = E_LIMIT;
        return false;
    }
    uint32_t wanted = *cap ? 2 * *cap : 16;
    void *more = mem_try_resize(*items, wanted, size);
    if (!more) {
        *failed = E_NOMEM;
        return false;
    }
    *items = more;
    *cap = wanted;
    return true;
}

/* ---- what the readers share ---- */
static int by_lo(const void *a, const void *b)
{
    const struct code_range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

uint32_t ranges_invert(struct code_range *ranges, uint32_t n, struct code_range *gaps)
{
    uint32_t at = 0, n_gaps = 0;
    if (n)
        qsort(ranges, n, sizeof *ranges, by_lo);
    for (uint32_t i = 0; i < n; i++) {
        if (ranges[i].lo > at)
            gaps[n_gaps++] = (struct code_range){at, ranges[i].lo - 1};
        if (ranges[i].hi + 1 > at)
            at = ranges[i].hi + 1;
    }
    if (at <= CODE_POINT_MAX)
        gaps[n_gaps++] = (struct code_range){at, CODE_POINT_MAX};
    return n_gaps;
}

int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ---- nfa ---- */
void nfa_release(struct nfa *n)
{
    mem_free(n->first);
    mem_free(n->edges);
    *n = (struct nfa){0};
}

uint32_t nfa_state(struct nfa *n)
{
    if (!grow((void **)&n->first, n->n_states, &n->states_cap, sizeof *n->first,
              4 * AUTOMATON_STATES_MAX, &n->failed))
        return 0;
    n->first[n->n_states] = STATE_NONE;
    return n->n_states++;
}

static void add_edge(struct nfa *n, uint32_t from, struct nfa_edge edge)
{
    if (!grow((void **)&n->edges, n->n_edges, &n->edges_cap, sizeof *n->edges, AUTOMATON_EDGES_MAX,
              &n->failed))
        return;
    edge.next = n->first[from];
    n->edges[n->n_edges] = edge;
    n->first[from] = n->n_edges++;
}

void nfa_range(struct nfa *n, uint32_t from, uint32_t to, uint32_t lo, uint32_t hi)
{
    if (lo <= hi)
        add_edge(n, from, (struct nfa_edge){.kind = NFA_SYMBOL, .lo = lo, .hi = hi, .to = to});
}

void nfa_empty(struct nfa *n, uint32_t from, uint32_t to, enum nfa_kind kind)
{
    add_edge(n, from, (struct nfa_edge){.kind = kind, .to = to});
}

/* lo and hi have encodings of one length that differ in ranges only: one path. */
static void utf8_path(struct nfa *n, uint32_t from, uint32_t to, uint32_t lo, uint32_t hi)
{
    char first[4], last[4];
    size_t len = utf8_encode(lo, first);
    CHECK(utf8_encode(hi, last) == len);
    for (size_t i = 0; i < len; i++) {
        uint32_t next = i + 1 == len ? to : nfa_state(n);
        nfa_range(n, from, next, (uint8_t)first[i], (uint8_t)last[i]);
        from = next;
    }
}

/* Splits until every part is a product of byte ranges: at lengths, then where continuation bytes
 * would not run over all of 80..BF.  At most a dozen parts. */
static void utf8_split(struct nfa *n, uint32_t from, uint32_t to, uint32_t lo, uint32_t hi)
{
    static const uint32_t last_of_length[] = {0x7F, 0x7FF, 0xFFFF};
    if (lo > hi)
        return;
    for (int i = 0; i < 3; i++)
        if (lo <= last_of_length[i] && last_of_length[i] < hi) {
            utf8_split(n, from, to, lo, last_of_length[i]);
            utf8_split(n, from, to, last_of_length[i] + 1, hi);
            return;
        }
    for (int i = 1; i <= 3 && hi >= 0x80; i++) {
        uint32_t low = (1u << (6 * i)) - 1;
        if ((lo & ~low) == (hi & ~low))
            continue;
        if (lo & low) {
            utf8_split(n, from, to, lo, lo | low);
            utf8_split(n, from, to, (lo | low) + 1, hi);
            return;
        }
        if ((hi & low) != low) {
            utf8_split(n, from, to, lo, (hi & ~low) - 1);
            utf8_split(n, from, to, hi & ~low, hi);
            return;
        }
    }
    utf8_path(n, from, to, lo, hi);
}

void nfa_utf8(struct nfa *n, uint32_t from, uint32_t to, uint32_t lo, uint32_t hi)
{
    if (hi > CODE_POINT_MAX)
        hi = CODE_POINT_MAX;
    utf8_split(n, from, to, lo, hi < 0xD7FF ? hi : 0xD7FF);
    utf8_split(n, from, to, lo > 0xE000 ? lo : 0xE000, hi);
}

/* ---- by hand ---- */
void dfa_release(struct dfa *d)
{
    mem_free(d->first);
    mem_free(d->is_final);
    mem_free(d->edges);
    *d = (struct dfa){0};
}

void dfa_maker_state(struct dfa_maker *m, bool is_final)
{
    uint32_t cap = m->states_cap;
    /* first has one entry more than there are states */
    if (!grow((void **)&m->d.first, m->d.n_states + 1, &m->states_cap, sizeof *m->d.first,
              AUTOMATON_STATES_MAX, &m->failed))
        return;
    if (cap != m->states_cap) {
        bool *more = mem_try_resize(m->d.is_final, m->states_cap, sizeof *more);
        if (!more) {
            m->failed = E_NOMEM;
            return;
        }
        m->d.is_final = more;
    }
    m->d.first[m->d.n_states] = m->d.n_edges;
    m->d.is_final[m->d.n_states++] = is_final;
}

void dfa_maker_edge(struct dfa_maker *m, uint32_t lo, uint32_t hi, uint32_t to)
{
    uint32_t begun = m->d.n_states ? m->d.first[m->d.n_states - 1] : 0;
    struct dfa_edge *last = m->d.n_edges > begun ? &m->d.edges[m->d.n_edges - 1] : NULL;
    if (last && last->to == to && last->hi + 1 == lo && lo < SYMBOL_CALL) {
        last->hi = hi;
        return;
    }
    if (grow((void **)&m->d.edges, m->d.n_edges, &m->edges_cap, sizeof *m->d.edges,
             AUTOMATON_EDGES_MAX, &m->failed))
        m->d.edges[m->d.n_edges++] = (struct dfa_edge){lo, hi, to};
}

enum status dfa_maker_end(struct dfa_maker *m, struct dfa *out, struct err *e)
{
    if (m->failed == OK && m->d.n_states)
        m->d.first[m->d.n_states] = m->d.n_edges;
    if (m->failed == OK && !dfa_prune(&m->d, NULL, NULL))
        m->failed = E_NOMEM;
    if (m->failed != OK) {
        enum status st = m->failed;
        dfa_release(&m->d);
        return st == E_LIMIT ? err_set(e, st, "grammar: more than %u states or %u edges",
                                       AUTOMATON_STATES_MAX, AUTOMATON_EDGES_MAX)
                             : err_set(e, st, "grammar: out of memory");
    }
    *out = m->d;
    return OK;
}

/* ---- running ---- */
uint32_t dfa_next(const struct dfa *d, uint32_t state, uint32_t symbol)
{
    uint32_t low = d->first[state], high = d->first[state + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (d->edges[middle].hi < symbol)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < d->first[state + 1] && d->edges[low].lo <= symbol;
    return found ? d->edges[low].to : STATE_NONE;
}

bool dfa_matches(const struct dfa *d, struct slice utf8)
{
    uint32_t state = d->n_states ? 0 : STATE_NONE;
    for (size_t at = 0; at < utf8.len && state != STATE_NONE;) {
        uint32_t cp;
        at += utf8_decode(utf8.ptr + at, utf8.len - at, &cp);
        state = dfa_next(d, state, cp);
    }
    return state != STATE_NONE && d->is_final[state];
}

/* ---- pruning ---- */
/* Marks what reaches a final state: backwards by repeated sweeps, which end after as many rounds as
 * the longest way has edges against the order of states; few in practice. */
static void mark_useful(const struct dfa *d, bool *useful, bool (*is_live)(void *, uint32_t),
                        void *arg)
{
    memcpy(useful, d->is_final, d->n_states * sizeof *useful);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t s = d->n_states; s-- > 0;)
            for (uint32_t i = d->first[s]; !useful[s] && i < d->first[s + 1]; i++)
                if (useful[d->edges[i].to] && (!is_live || is_live(arg, d->edges[i].lo)))
                    useful[s] = changed = true;
    }
}

bool dfa_prune(struct dfa *d, bool (*is_live)(void *arg, uint32_t symbol), void *arg)
{
    if (d->n_states == 0)
        return true;
    bool *useful = mem_try_new(d->n_states, sizeof *useful);
    uint32_t *moved = mem_try_new(d->n_states, sizeof *moved);
    if (!useful || !moved) {
        mem_free(useful);
        mem_free(moved);
        return false;
    }
    mark_useful(d, useful, is_live, arg);
    uint32_t n = 0, n_edges = 0;
    for (uint32_t s = 0; s < d->n_states; s++)
        moved[s] = useful[s] ? n++ : STATE_NONE;
    for (uint32_t s = 0, begin = d->first[0]; s < d->n_states; s++) {
        uint32_t end = d->first[s + 1];
        if (useful[s]) {
            d->first[moved[s]] = n_edges;
            d->is_final[moved[s]] = d->is_final[s];
            for (uint32_t i = begin; i < end; i++) {
                struct dfa_edge edge = d->edges[i];
                if (!useful[edge.to] || (is_live && !is_live(arg, edge.lo)))
                    continue;
                edge.to = moved[edge.to];
                d->edges[n_edges++] = edge;
            }
        }
        begin = end;
    }
    d->first[n] = n_edges;
    d->n_edges = n_edges;
    d->n_states = useful[0] ? n : 0; /* without its start nothing is accepted */
    mem_free(useful);
    mem_free(moved);
    return true;
}

/* ---- product and complement ---- */
struct pairs {
    uint32_t *a, *b; /* [n] */
    uint32_t n, cap_a, cap_b;
    uint32_t *slots; /* open addressing over pair indices + 1 */
    uint32_t n_slots;
    enum status failed;
};

static uint32_t pair_slot(const struct pairs *p, uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(h >> 32) & (p->n_slots - 1);
    while (p->slots[at] && (p->a[p->slots[at] - 1] != a || p->b[p->slots[at] - 1] != b))
        at = (at + 1) & (p->n_slots - 1);
    return at;
}

/* Keeps the table at most half full. */
static bool pairs_grow(struct pairs *p)
{
    if (2 * p->n < p->n_slots)
        return true;
    uint32_t n_slots = p->n_slots ? 4 * p->n_slots : 64;
    uint32_t *slots = mem_try_new(n_slots, sizeof *slots);
    if (!slots) {
        p->failed = E_NOMEM;
        return false;
    }
    mem_free(p->slots);
    p->slots = slots;
    p->n_slots = n_slots;
    for (uint32_t i = 0; i < p->n; i++)
        p->slots[pair_slot(p, p->a[i], p->b[i])] = i + 1;
    return true;
}

static uint32_t pair_of(struct pairs *p, uint32_t a, uint32_t b)
{
    if (!pairs_grow(p))
        return 0;
    uint32_t at = pair_slot(p, a, b);
    if (p->slots[at])
        return p->slots[at] - 1;
    if (!grow((void **)&p->a, p->n, &p->cap_a, sizeof *p->a, AUTOMATON_STATES_MAX, &p->failed) ||
        !grow((void **)&p->b, p->n, &p->cap_b, sizeof *p->b, AUTOMATON_STATES_MAX, &p->failed))
        return 0;
    p->a[p->n] = a;
    p->b[p->n] = b;
    p->slots[at] = ++p->n;
    return p->n - 1;
}

/* Edges of both, where they overlap. */
static void cross(struct dfa_maker *m, struct pairs *p, const struct dfa *a, uint32_t sa,
                  const struct dfa *b, uint32_t sb)
{
    uint32_t i = a->first[sa], j = b->first[sb];
    while (i < a->first[sa + 1] && j < b->first[sb + 1]) {
        const struct dfa_edge *x = &a->edges[i], *y = &b->edges[j];
        uint32_t lo = x->lo > y->lo ? x->lo : y->lo, hi = x->hi < y->hi ? x->hi : y->hi;
        if (lo <= hi)
            dfa_maker_edge(m, lo, hi, pair_of(p, x->to, y->to));
        if (x->hi < y->hi)
            i++;
        else
            j++;
    }
}

enum status dfa_intersect(const struct dfa *a, const struct dfa *b, struct dfa *out, struct err *e)
{
    struct dfa_maker m = {0};
    struct pairs p = {0};
    if (a->n_states && b->n_states)
        pair_of(&p, 0, 0);
    for (uint32_t i = 0; i < p.n && m.failed == OK && p.failed == OK; i++) {
        uint32_t sa = p.a[i], sb = p.b[i];
        dfa_maker_state(&m, a->is_final[sa] && b->is_final[sb]);
        cross(&m, &p, a, sa, b, sb);
    }
    if (m.failed == OK)
        m.failed = p.failed;
    mem_free(p.a);
    mem_free(p.b);
    mem_free(p.slots);
    return dfa_maker_end(&m, out, e);
}

enum status dfa_complement(const struct dfa *d, struct dfa *out, struct err *e)
{
    struct dfa_maker m = {0};
    uint32_t sink = d->n_states; /* from where everything goes on being accepted */
    for (uint32_t s = 0; s < d->n_states; s++) {
        dfa_maker_state(&m, !d->is_final[s]);
        uint32_t at = 0;
        for (uint32_t i = d->first[s]; i < d->first[s + 1]; i++) {
            if (d->edges[i].lo > at)
                dfa_maker_edge(&m, at, d->edges[i].lo - 1, sink);
            dfa_maker_edge(&m, d->edges[i].lo, d->edges[i].hi, d->edges[i].to);
            at = d->edges[i].hi + 1;
        }
        if (at <= CODE_POINT_MAX)
            dfa_maker_edge(&m, at, CODE_POINT_MAX, sink);
    }
    dfa_maker_state(&m, true);
    dfa_maker_edge(&m, 0, CODE_POINT_MAX, sink);
    return dfa_maker_end(&m, out, e);
}
