/* SPDX-License-Identifier: MIT
 * compile.c — from rules of expressions to one table of states.
 * Each rule becomes an automaton over bytes and calls; what can't produce any text is cut away; a
 * rule that may call itself before it consumed a byte is refused, because stacks would grow without
 * end (left recursion). */
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "grammar/expr.h"
#include "grammar/grammar_int.h"

/* ---- expression → automaton with choice ---- */
struct lowering {
    struct nfa n;
    enum status st;
    struct err *e;
};

static void lower(struct lowering *l, const struct expr *x, uint32_t from, uint32_t to,
                  uint32_t depth);

static void lower_text(struct lowering *l, struct slice text, uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < text.len; i++) {
        uint32_t next = i + 1 == text.len ? to : nfa_state(&l->n);
        nfa_range(&l->n, from, next, (uint8_t)text.ptr[i], (uint8_t)text.ptr[i]);
        from = next;
    }
    if (text.len == 0)
        nfa_empty(&l->n, from, to, NFA_EMPTY);
}

static void lower_dfa(struct lowering *l, const struct dfa *d, uint32_t from, uint32_t to)
{
    if (d->n_states == 0)
        return;
    uint32_t first = nfa_state(&l->n);
    for (uint32_t s = 1; s < d->n_states; s++)
        nfa_state(&l->n);
    if (l->n.failed != OK)
        return;
    nfa_empty(&l->n, from, first, NFA_EMPTY);
    for (uint32_t s = 0; s < d->n_states; s++) {
        for (uint32_t i = d->first[s]; i < d->first[s + 1]; i++) {
            const struct dfa_edge *edge = &d->edges[i];
            nfa_range(&l->n, first + s, first + edge->to, edge->lo, edge->hi);
        }
        if (d->is_final[s])
            nfa_empty(&l->n, first + s, to, NFA_EMPTY);
    }
}

static void lower_repeat(struct lowering *l, const struct expr *x, uint32_t from, uint32_t to,
                         uint32_t depth)
{
    uint32_t at = from, copies = x->most == EXPR_MANY ? x->least : x->most;
    for (uint32_t i = 0; i < copies && l->n.failed == OK; i++) {
        uint32_t next = nfa_state(&l->n);
        if (i >= x->least)
            nfa_empty(&l->n, at, to, NFA_EMPTY);
        lower(l, x->items[0], at, next, depth + 1);
        at = next;
    }
    if (x->most == EXPR_MANY) {
        uint32_t loop = nfa_state(&l->n), back = nfa_state(&l->n);
        nfa_empty(&l->n, at, loop, NFA_EMPTY);
        lower(l, x->items[0], loop, back, depth + 1);
        nfa_empty(&l->n, back, loop, NFA_EMPTY);
        at = loop;
    }
    nfa_empty(&l->n, at, to, NFA_EMPTY);
}

static void lower_graph(struct lowering *l, const struct expr *x, uint32_t from, uint32_t to,
                        uint32_t depth)
{
    uint32_t first = nfa_state(&l->n);
    for (uint32_t i = 1; i < x->n_nodes; i++)
        nfa_state(&l->n);
    if (l->n.failed != OK)
        return;
    nfa_empty(&l->n, from, first, NFA_EMPTY);
    nfa_empty(&l->n, first + 1, to, NFA_EMPTY);
    for (uint32_t i = 0; i < x->n; i++)
        lower(l, x->edges[i].what, first + x->edges[i].from, first + x->edges[i].to, depth + 1);
}

static void lower(struct lowering *l, const struct expr *x, uint32_t from, uint32_t to,
                  uint32_t depth)
{
    if (depth > EXPR_DEPTH_MAX && l->st == OK)
        l->st = err_set(l->e, E_LIMIT, "grammar: nested deeper than %u", EXPR_DEPTH_MAX);
    if (l->st != OK || l->n.failed != OK)
        return;
    switch (x->kind) {
    case EXPR_TEXT:
        lower_text(l, x->text, from, to);
        break;
    case EXPR_NEVER:
        break;
    case EXPR_CLASS:
        for (uint32_t i = 0; i < x->n; i++)
            nfa_utf8(&l->n, from, to, x->ranges[i].lo, x->ranges[i].hi);
        break;
    case EXPR_SEQUENCE:
        for (uint32_t i = 0; i < x->n; i++) {
            uint32_t next = i + 1 == x->n ? to : nfa_state(&l->n);
            lower(l, x->items[i], from, next, depth + 1);
            from = next;
        }
        break;
    case EXPR_CHOICE:
        for (uint32_t i = 0; i < x->n; i++)
            lower(l, x->items[i], from, to, depth + 1);
        break;
    case EXPR_REPEAT:
        lower_repeat(l, x, from, to, depth);
        break;
    case EXPR_CALL:
        nfa_range(&l->n, from, to, SYMBOL_CALL + x->rule, SYMBOL_CALL + x->rule);
        break;
    case EXPR_BYTES:
        lower_dfa(l, x->dfa, from, to);
        break;
    case EXPR_GRAPH:
        lower_graph(l, x, from, to, depth);
        break;
    }
}

/* ---- all rules ---- */
struct compiler {
    const struct rules *rules;
    struct dfa *dfas;  /* [n] */
    bool *is_live;     /* [n] some text satisfies the rule */
    bool *is_nullable; /* [n] the empty text does */
    uint8_t *seen;     /* [n] of the search for left recursion: 1 on the way, 2 done */
    uint32_t n;
    struct err *e;
};

static enum status lower_rule(struct compiler *c, uint32_t index)
{
    const struct rule *rule = &c->rules->rules[index];
    if (rule->text) { /* no calls, never empty: the sweeps below have nothing to find out */
        enum status st = dfa_json_text(rule->text, &c->dfas[index], c->e);
        c->is_live[index] = c->dfas[index].n_states > 0;
        return st;
    }
    if (!rule->body)
        return err_set(c->e, E_INVALID, "grammar: rule \"" SLICE_FMT "\" is not defined",
                       SLICE_ARG(rule->name));
    struct lowering l = {.e = c->e};
    uint32_t from = nfa_state(&l.n), to = nfa_state(&l.n);
    lower(&l, rule->body, from, to, 0);
    if (l.st == OK)
        l.st = nfa_to_dfa(&l.n, from, to, &c->dfas[index], c->e);
    nfa_release(&l.n);
    return l.st;
}

static bool symbol_is_live(void *arg, uint32_t symbol)
{
    const struct compiler *c = arg;
    return symbol < SYMBOL_CALL || c->is_live[symbol - SYMBOL_CALL];
}

/* Can the rule end, when only calls for which `is_free` holds cost nothing and, with `bytes`, bytes
 * do neither?  One sweep over its states, repeated until nothing changes. */
static bool reaches_end(const struct dfa *d, const bool *is_free, bool bytes, bool *reached)
{
    if (d->n_states == 0)
        return false;
    memset(reached, 0, d->n_states * sizeof *reached);
    reached[0] = true;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t s = 0; s < d->n_states; s++)
            for (uint32_t i = d->first[s]; reached[s] && i < d->first[s + 1]; i++) {
                uint32_t symbol = d->edges[i].lo;
                bool passes = symbol < SYMBOL_CALL ? bytes : is_free[symbol - SYMBOL_CALL];
                if (passes && !reached[d->edges[i].to])
                    reached[d->edges[i].to] = changed = true;
            }
    }
    for (uint32_t s = 0; s < d->n_states; s++)
        if (reached[s] && d->is_final[s])
            return true;
    return false;
}

/* Least fixed point over all rules. */
static void settle(struct compiler *c, bool *claim, bool bytes, bool *reached)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t r = 0; r < c->n; r++)
            if (!claim[r] && !c->rules->rules[r].text &&
                reaches_end(&c->dfas[r], claim, bytes, reached))
                claim[r] = changed = true;
    }
}

/* Walks calls that can be reached without a byte; a rule met again on its own way is left
 * recursion.  Depth ≤ rules: each is entered once; the stack is explicit. */
static enum status find_left_recursion(struct compiler *c, uint32_t root, uint32_t *stack,
                                       bool *reached)
{
    uint32_t n = 0;
    stack[n++] = root;
    while (n) {
        uint32_t r = stack[n - 1];
        const struct dfa *d = &c->dfas[r];
        bool deeper = false;
        c->seen[r] = 1;
        (void)reaches_end(d, c->is_nullable, false, reached);
        for (uint32_t s = 0; s < d->n_states && !deeper; s++)
            for (uint32_t i = d->first[s]; reached[s] && i < d->first[s + 1] && !deeper; i++) {
                if (d->edges[i].lo < SYMBOL_CALL)
                    continue;
                uint32_t to = d->edges[i].lo - SYMBOL_CALL;
                if (c->rules->rules[to].text)
                    continue;
                if (c->seen[to] == 1)
                    return err_set(c->e, E_INVALID,
                                   "grammar: rule \"" SLICE_FMT
                                   "\" is left-recursive; put the recursion last",
                                   SLICE_ARG(c->rules->rules[to].name));
                if (c->seen[to] == 0) {
                    stack[n++] = to;
                    deeper = true;
                }
            }
        if (!deeper) {
            c->seen[r] = 2;
            n--;
        }
    }
    return OK;
}

static enum status check_rules(struct compiler *c, uint32_t root)
{
    uint32_t most = 1;
    for (uint32_t r = 0; r < c->n; r++)
        most = c->dfas[r].n_states > most ? c->dfas[r].n_states : most;
    bool *reached = mem_try_new(most, sizeof *reached);
    uint32_t *stack = mem_try_new((size_t)c->n + 1, sizeof *stack);
    enum status st = reached && stack ? OK : err_set(c->e, E_NOMEM, "grammar: out of memory");
    if (st == OK) {
        settle(c, c->is_live, true, reached);
        if (!c->is_live[root])
            st = err_set(c->e, E_NOT_FOUND, "grammar: nothing can satisfy it");
    }
    for (uint32_t r = 0; st == OK && r < c->n; r++)
        if (!c->rules->rules[r].text && !dfa_prune(&c->dfas[r], symbol_is_live, c))
            st = err_set(c->e, E_NOMEM, "grammar: out of memory");
    if (st == OK)
        settle(c, c->is_nullable, false, reached);
    for (uint32_t r = 0; st == OK && r < c->n; r++)
        if (c->seen[r] == 0 && c->is_live[r] && !c->rules->rules[r].text)
            st = find_left_recursion(c, r, stack, reached);
    mem_free(reached);
    mem_free(stack);
    return st;
}

/* ---- one table ---- */
/* Texts are alike inside, so that masks of one serve for others (mask.c): as far as those look, all
 * of them are followed by whatever follows any. */
static void share_follow(const struct compiler *c, struct grammar *g)
{
    struct byte_set all = {0};
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t r = 0; r < c->n; r++)
            for (int i = 0; i < 4 && (c->rules->rules[r].text || r == c->rules->string); i++) {
                if (pass == 0)
                    all.bits[i] |= g->follow[r].bits[i];
                else
                    g->follow[r].bits[i] = all.bits[i];
            }
}

static void put_state(struct grammar *g, const struct dfa *d, uint32_t s, uint32_t base,
                      uint32_t *n_edges, uint32_t *n_calls)
{
    g->first_edge[base + s] = *n_edges;
    g->first_call[base + s] = *n_calls;
    g->is_final[base + s] = d->is_final[s];
    for (uint32_t i = d->first[s]; i < d->first[s + 1]; i++) {
        struct dfa_edge edge = d->edges[i];
        edge.to += base;
        if (edge.lo < SYMBOL_CALL)
            g->edges[(*n_edges)++] = edge;
        else
            g->calls[(*n_calls)++] = (struct call){edge.lo - SYMBOL_CALL, edge.to};
    }
}

static enum status join(struct compiler *c, uint32_t root, struct grammar **out)
{
    uint32_t n_states = 0, n_edges = 0, n_calls = 0, base = 0;
    for (uint32_t r = 0; r < c->n; r++) {
        n_states += c->dfas[r].n_states;
        n_edges += c->dfas[r].n_edges;
        if (n_states > GRAMMAR_STATES_MAX)
            return err_set(c->e, E_LIMIT, "grammar: more than %u states", GRAMMAR_STATES_MAX);
    }
    struct grammar *g = mem_try_new(1, sizeof *g);
    if (!g)
        return err_set(c->e, E_NOMEM, "grammar: out of memory");
    *g = (struct grammar){.n_states = n_states, .n_rules = c->n, .root = root, .n_owners = 1};
    g->first_edge = mem_try_new((size_t)n_states + 1, sizeof *g->first_edge);
    g->first_call = mem_try_new((size_t)n_states + 1, sizeof *g->first_call);
    g->is_final = mem_try_new((size_t)n_states + 1, sizeof *g->is_final);
    g->edges = mem_try_new((size_t)n_edges + 1, sizeof *g->edges);
    g->calls = mem_try_new((size_t)n_edges + 1, sizeof *g->calls);
    g->start = mem_try_new((size_t)c->n + 1, sizeof *g->start);
    g->rule_end = mem_try_new((size_t)c->n + 1, sizeof *g->rule_end);
    g->follow = mem_try_new((size_t)c->n + 1, sizeof *g->follow);
    g->counts = mem_try_new((size_t)c->n + 1, sizeof *g->counts);
    if (!g->first_edge || !g->first_call || !g->is_final || !g->edges || !g->calls || !g->start ||
        !g->rule_end || !g->follow || !g->counts) {
        grammar_free(g);
        return err_set(c->e, E_NOMEM, "grammar: out of memory");
    }
    n_edges = 0;
    for (uint32_t r = 0; r < c->n; base += c->dfas[r++].n_states) {
        g->start[r] = c->dfas[r].n_states ? base : STATE_NONE;
        g->rule_end[r] = base + c->dfas[r].n_states;
        if (c->rules->rules[r].text &&
            dfa_json_counts(c->rules->rules[r].text, &g->counts[r].first, &g->counts[r].last))
            g->counts[r] = (struct count){base + g->counts[r].first, base + g->counts[r].last};
        for (uint32_t s = 0; s < c->dfas[r].n_states; s++)
            put_state(g, &c->dfas[r], s, base, &n_edges, &n_calls);
    }
    g->first_edge[n_states] = n_edges;
    g->first_call[n_states] = n_calls;
    if (!grammar_find_follow(g, c->is_nullable)) {
        grammar_free(g);
        return err_set(c->e, E_NOMEM, "grammar: out of memory");
    }
    share_follow(c, g);
    *out = g;
    return OK;
}

enum status grammar_compile(const struct rules *r, uint32_t root, struct grammar **out,
                            struct err *e)
{
    struct compiler c = {.rules = r, .n = r->n, .e = e};
    c.dfas = mem_try_new(c.n, sizeof *c.dfas);
    c.is_live = mem_try_new(c.n, sizeof *c.is_live);
    c.is_nullable = mem_try_new(c.n, sizeof *c.is_nullable);
    c.seen = mem_try_new(c.n, sizeof *c.seen);
    enum status st = OK;
    if (!c.dfas || !c.is_live || !c.is_nullable || !c.seen || r->arena.failed)
        st = err_set(e, r->arena.failed ? E_LIMIT : E_NOMEM, "grammar: it needs too much memory");
    for (uint32_t i = 0; st == OK && i < c.n; i++)
        st = lower_rule(&c, i);
    if (st == OK)
        st = check_rules(&c, root);
    if (st == OK)
        st = join(&c, root, out);
    for (uint32_t i = 0; c.dfas && i < c.n; i++)
        dfa_release(&c.dfas[i]);
    mem_free(c.dfas);
    mem_free(c.is_live);
    mem_free(c.is_nullable);
    mem_free(c.seen);
    return st;
}

/* ---- life ---- */
struct grammar *grammar_hold(struct grammar *g)
{
    atomic_fetch_add(&g->n_owners, 1);
    return g;
}

void grammar_free(struct grammar *g)
{
    if (!g || atomic_fetch_sub(&g->n_owners, 1) > 1)
        return;
    mem_free(g->first_edge);
    mem_free(g->first_call);
    mem_free(g->is_final);
    mem_free(g->edges);
    mem_free(g->calls);
    mem_free(g->start);
    mem_free(g->rule_end);
    mem_free(g->follow);
    mem_free(g->counts);
    mem_free(g);
}

uint32_t state_next(const struct grammar *g, uint32_t s, uint8_t byte)
{
    for (uint32_t i = g->first_edge[s]; i < g->first_edge[s + 1] && g->edges[i].lo <= byte; i++)
        if (byte <= g->edges[i].hi)
            return g->edges[i].to;
    return STATE_NONE;
}
