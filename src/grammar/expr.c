/* SPDX-License-Identifier: MIT
 * expr.c — making expressions and rules. */
#include "grammar/expr.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

void rules_init(struct rules *r, size_t max_bytes)
{
    *r = (struct rules){.space = UINT32_MAX, .string = UINT32_MAX, .value = UINT32_MAX};
    arena_init(&r->arena, max_bytes);
}

void rules_cut(struct rules *r, uint32_t n)
{
    uint32_t *const shared[] = {&r->space, &r->string, &r->value};
    r->n = n < r->n ? n : r->n;
    for (size_t i = 0; i < ARRAY_COUNT(shared); i++)
        if (*shared[i] >= r->n)
            *shared[i] = UINT32_MAX;
}

void rules_release(struct rules *r)
{
    for (uint32_t i = 0; i < r->n_dfas; i++) {
        dfa_release(r->dfas[i]);
        mem_free(r->dfas[i]);
    }
    mem_free(r->dfas);
    mem_free(r->rules);
    arena_release(&r->arena);
    *r = (struct rules){0};
}

enum status rules_add(struct rules *r, struct slice name, uint32_t *out, struct err *e)
{
    if (r->n == RULES_MAX)
        return err_set(e, E_LIMIT, "grammar: more than %u rules", RULES_MAX);
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? 2 * r->cap : 16;
        struct rule *more = mem_try_resize(r->rules, cap, sizeof *more);
        if (!more)
            return err_set(e, E_NOMEM, "grammar: out of memory");
        r->rules = more;
        r->cap = cap;
    }
    r->rules[r->n] = (struct rule){.name = name};
    *out = r->n++;
    return OK;
}

const struct dfa *rules_keep(struct rules *r, struct dfa *d)
{
    struct dfa *kept = mem_try_new(1, sizeof *kept);
    if (kept && r->n_dfas == r->dfas_cap) {
        uint32_t cap = r->dfas_cap ? 2 * r->dfas_cap : 16;
        struct dfa **more = mem_try_resize(r->dfas, cap, sizeof *more);
        if (more) {
            r->dfas = more;
            r->dfas_cap = cap;
        }
    }
    if (!kept || r->n_dfas == r->dfas_cap) {
        mem_free(kept);
        dfa_release(d);
        return NULL;
    }
    *kept = *d;
    *d = (struct dfa){0};
    r->dfas[r->n_dfas++] = kept;
    return kept;
}

static bool is_same(const struct dfa *a, const struct dfa *b)
{
    return a->n_states == b->n_states && a->n_edges == b->n_edges &&
           memcmp(a->first, b->first, (a->n_states + 1) * sizeof *a->first) == 0 &&
           memcmp(a->is_final, b->is_final, a->n_states * sizeof *a->is_final) == 0 &&
           (a->n_edges == 0 || memcmp(a->edges, b->edges, a->n_edges * sizeof *a->edges) == 0);
}

enum status rules_text(struct rules *r, struct dfa *d, uint32_t *out, struct err *e)
{
    for (uint32_t i = 0; i < r->n && d->n_states; i++)
        if (r->rules[i].text && is_same(r->rules[i].text, d)) {
            dfa_release(d);
            *out = i;
            return OK;
        }
    const struct dfa *kept = rules_keep(r, d);
    if (!kept)
        return err_set(e, E_NOMEM, "grammar: out of memory");
    enum status st = rules_add(r, SLICE_LIT("text"), out, e);
    if (st == OK)
        r->rules[*out].text = kept;
    return st;
}

static struct expr *expr_new(struct arena *a, enum expr_kind kind)
{
    struct expr *x = arena_alloc(a, 1, sizeof *x);
    if (x)
        x->kind = kind;
    return x;
}

const struct expr *expr_text(struct arena *a, struct slice text)
{
    struct expr *x = expr_new(a, EXPR_TEXT);
    char *copy = arena_text(a, text.len ? text.ptr : "", text.len);
    if (!x || !copy)
        return NULL;
    x->text = (struct slice){copy, text.len};
    return x;
}

const struct expr *expr_lit(struct arena *a, const char *text)
{
    struct expr *x = expr_new(a, EXPR_TEXT);
    if (x)
        x->text = slice_of(text);
    return x;
}

const struct expr *expr_never(struct arena *a)
{
    return expr_new(a, EXPR_NEVER);
}

const struct expr *expr_class(struct arena *a, const struct code_range *ranges, uint32_t n)
{
    struct expr *x = expr_new(a, EXPR_CLASS);
    struct code_range *copy = arena_alloc(a, n + 1, sizeof *copy);
    if (!x || !copy)
        return NULL;
    memcpy(copy, ranges, n * sizeof *copy);
    x->ranges = copy;
    x->n = n;
    return x;
}

const struct expr *expr_list(struct arena *a, enum expr_kind kind, const struct expr *const *items,
                             uint32_t n)
{
    if (n == 1)
        return items[0];
    struct expr *x = expr_new(a, n == 0 && kind == EXPR_CHOICE ? EXPR_NEVER : kind);
    const struct expr **copy = arena_alloc(a, n + 1, sizeof *copy);
    if (!x || !copy)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        if (!items[i])
            return NULL;
        copy[i] = items[i];
    }
    x->items = copy;
    x->n = n;
    return x;
}

const struct expr *expr_repeat(struct arena *a, const struct expr *what, uint32_t least,
                               uint32_t most)
{
    struct expr *x = expr_new(a, EXPR_REPEAT);
    const struct expr **item = arena_alloc(a, 1, sizeof *item);
    if (!x || !item || !what)
        return NULL;
    *item = what;
    x->items = item;
    x->n = 1;
    x->least = least;
    x->most = most;
    return x;
}

const struct expr *expr_call(struct arena *a, uint32_t rule)
{
    struct expr *x = expr_new(a, EXPR_CALL);
    if (x)
        x->rule = rule;
    return x;
}

const struct expr *expr_bytes(struct arena *a, const struct dfa *d)
{
    struct expr *x = expr_new(a, EXPR_BYTES);
    if (!x || !d)
        return NULL;
    x->dfa = d;
    return x;
}

const struct expr *expr_graph(struct arena *a, uint32_t n_nodes, const struct expr_edge *edges,
                              uint32_t n)
{
    struct expr *x = expr_new(a, EXPR_GRAPH);
    struct expr_edge *copy = arena_alloc(a, n + 1, sizeof *copy);
    if (!x || !copy)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        if (!edges[i].what)
            return NULL;
        copy[i] = edges[i];
    }
    x->edges = copy;
    x->n = n;
    x->n_nodes = n_nodes;
    return x;
}
