/* SPDX-License-Identifier: MIT
 * nodes.c — interned stacks, and the set of places at which a text stands. */
#include <string.h>

#include "base/mem.h"
#include "grammar/grammar_int.h"

void nodes_init(struct nodes *n, const struct grammar *g)
{
    *n = (struct nodes){.g = g};
}

void nodes_release(struct nodes *n)
{
    for (uint32_t i = 0; i < n->n; i++)
        mem_free(n->nodes[i].extra);
    mem_free(n->nodes);
    mem_free(n->slots);
    mem_free(n->places);
    mem_free(n->mark);
    mem_free(n->todo);
    *n = (struct nodes){0};
}

static uint32_t slot_of(const struct nodes *n, uint32_t state, uint32_t below)
{
    uint64_t h = ((uint64_t)state << 32 | below) * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(h >> 32) & (n->n_slots - 1);
    for (; n->slots[at]; at = (at + 1) & (n->n_slots - 1)) {
        const struct node *node = &n->nodes[n->slots[at] - 1];
        if (node->state == state && node->below == below)
            break;
    }
    return at;
}

/* Room for twice as many; sets failed. */
static bool nodes_grow(struct nodes *n)
{
    uint32_t cap = n->cap ? 2 * n->cap : 64;
    if (cap > MATCHER_NODES_MAX) {
        n->failed = E_LIMIT;
        return false;
    }
    struct node *nodes = mem_try_resize(n->nodes, cap, sizeof *nodes);
    n->nodes = nodes ? nodes : n->nodes;
    uint32_t *mark = mem_try_resize(n->mark, cap, sizeof *mark);
    n->mark = mark ? mark : n->mark;
    uint32_t *todo = mem_try_resize(n->todo, cap, sizeof *todo);
    n->todo = todo ? todo : n->todo;
    uint32_t *slots = mem_try_new(4 * (size_t)cap, sizeof *slots);
    if (!nodes || !mark || !todo || !slots) {
        mem_free(slots);
        n->failed = E_NOMEM;
        return false;
    }
    memset(n->mark + n->cap, 0, (cap - n->cap) * sizeof *mark);
    mem_free(n->slots);
    n->slots = slots;
    n->n_slots = 4 * cap;
    n->cap = cap;
    for (uint32_t i = 0; i < n->n; i++)
        n->slots[slot_of(n, n->nodes[i].state, n->nodes[i].below)] = i + 1;
    return true;
}

uint32_t node_of(struct nodes *n, uint32_t state, uint32_t below)
{
    if (n->n == n->cap && !nodes_grow(n))
        return 0;
    uint32_t at = slot_of(n, state, below);
    if (n->slots[at])
        return n->slots[at] - 1;
    n->nodes[n->n] = (struct node){.state = state, .below = below};
    n->slots[at] = n->n + 1;
    return n->n++;
}

static void put_place(struct nodes *n, uint32_t node)
{
    if (n->n_places == n->places_cap) {
        uint32_t cap = n->places_cap ? 2 * n->places_cap : 128;
        uint32_t *more = cap <= PLACES_MAX ? mem_try_resize(n->places, cap, sizeof *more) : NULL;
        if (!more) {
            n->failed = cap <= PLACES_MAX ? E_NOMEM : E_LIMIT;
            return;
        }
        n->places = more;
        n->places_cap = cap;
    }
    n->places[n->n_places++] = node;
}

/* Calls are entered, ends of rules left; where bytes are consumed the walk stops.  It ends: rules
 * are not left-recursive, so only finitely many nodes can be met without a byte. */
void node_open(struct nodes *n, uint32_t start)
{
    if (n->failed != OK || n->nodes[start].is_open)
        return;
    const struct grammar *g = n->g;
    uint32_t n_todo = 0, first = n->n_places, stamp = ++n->stamp;
    bool may_end = false, falls_out = false;
    n->mark[start] = stamp;
    n->todo[n_todo++] = start;
    for (uint32_t i = 0; i < n_todo && n->failed == OK; i++) {
        uint32_t id = n->todo[i], s = n->nodes[id].state, below = n->nodes[id].below;
        if (g->first_edge[s] < g->first_edge[s + 1])
            put_place(n, id);
        for (uint32_t c = g->first_call[s]; c < g->first_call[s + 1] && n->failed == OK; c++) {
            uint32_t next = g->calls[c].next;
            /* Nothing follows: return to the caller's caller, so that right recursion is a loop. */
            uint32_t back = state_is_end(g, next) ? below : node_of(n, next, below);
            uint32_t inner = node_of(n, g->start[g->calls[c].rule], back);
            if (n->failed == OK && n->mark[inner] != stamp) {
                n->mark[inner] = stamp;
                n->todo[n_todo++] = inner;
            }
        }
        if (!g->is_final[s])
            continue;
        may_end |= below == NODE_NONE;
        falls_out |= below == NODE_UNKNOWN;
        if (below < NODE_UNKNOWN && n->mark[below] != stamp) {
            n->mark[below] = stamp;
            n->todo[n_todo++] = below;
        }
    }
    struct node *node = &n->nodes[start];
    node->first = first;
    node->count = n->n_places - first;
    node->may_end = may_end;
    node->falls_out = falls_out;
    node->is_open = true;
}

/* ---- sets ---- */
static void places_add(struct nodes *n, struct matcher_state *p, uint32_t node)
{
    node_open(n, node);
    if (n->failed != OK)
        return;
    const struct node *from = &n->nodes[node];
    p->may_end |= from->may_end;
    p->falls_out |= from->falls_out;
    for (uint32_t i = 0; i < from->count; i++) {
        uint32_t id = n->places[from->first + i], j = 0;
        while (j < p->n && p->ids[j] != id)
            j++;
        if (j < p->n)
            continue;
        if (p->n == MATCHER_STACKS_MAX) {
            n->failed = E_LIMIT;
            return;
        }
        p->ids[p->n++] = id;
    }
}

void places_begin(struct nodes *n, struct matcher_state *p, uint32_t node)
{
    p->n = 0;
    p->may_end = p->falls_out = false;
    places_add(n, p, node);
}

bool places_step(struct nodes *n, const struct matcher_state *p, uint8_t byte,
                 struct matcher_state *out)
{
    out->n = 0;
    out->may_end = out->falls_out = false;
    for (uint32_t i = 0; i < p->n && n->failed == OK; i++) {
        const struct node *node = &n->nodes[p->ids[i]];
        uint32_t next = state_next(n->g, node->state, byte);
        if (next != STATE_NONE)
            places_add(n, out, node_of(n, next, node->below));
    }
    return n->failed == OK && (out->n || out->may_end || out->falls_out);
}
