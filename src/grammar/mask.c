/* SPDX-License-Identifier: MIT
 * mask.c — which tokens a state allows by itself.
 * The vocabulary's tree is walked once from the state, with a caller that is not known.  A token
 * whose bytes all fit is allowed, whatever lies below.  One that fits up to the end of the rule and
 * has more bytes depends on the caller: what is left of it goes into a tree of its own (`over`),
 * which matcher.c walks from the caller's place; few branches of it fit there.  Where half of the
 * vocabulary goes on (a rule that ends behind a space), only the place in the tree is noted.
 * Most states of JSON are in the middle of a fixed text, where the walk ends at once; inside a
 * string it visits the whole vocabulary, and takes the loop without stacks below. */
#include <string.h>

#include "base/mem.h"
#include "grammar/grammar_int.h"

/* More tokens than this are kept as bits. */
#define SPARSE_TOKENS_MAX 1024u
/* A branch of more tokens than this is noted, not copied. */
#define OVER_TOKENS_MAX 64u

struct walk {
    const struct grammar_vocabulary *v;
    struct nodes nodes;
    struct matcher_state *at; /* [depth_max + 2] where the text stands at each depth */
    uint32_t *found;          /* [n_tokens] */
    uint32_t n_found;
    struct trie_text *over; /* [over_cap] */
    uint32_t n_over, over_cap;
    uint32_t *points, n_points, points_cap;
    uint64_t n_visits;
    bool failed;
};

static void take_tokens(struct walk *w, uint32_t node)
{
    const struct trie *t = &w->v->trie;
    for (uint32_t i = t->nodes[node].first_token; i < t->nodes[node + 1].first_token; i++)
        w->found[w->n_found++] = t->tokens[i];
}

/* Room for one more; false: out of memory. */
static bool grow(void **items, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    uint32_t wanted = *cap ? 2 * *cap : 64;
    void *more = mem_try_resize(*items, wanted, size);
    if (!more)
        return false;
    *items = more;
    *cap = wanted;
    return true;
}

/* The rule may end at this node: what its longer tokens still have to say is kept. */
static void take_over(struct walk *w, uint32_t node)
{
    const struct trie *t = &w->v->trie;
    uint32_t first = t->nodes[node + 1].first_token, end = t->nodes[t->nodes[node].end].first_token;
    if (end - first > OVER_TOKENS_MAX) {
        w->failed |= !grow((void **)&w->points, w->n_points, &w->points_cap, sizeof *w->points);
        if (!w->failed)
            w->points[w->n_points++] = node;
        return;
    }
    for (uint32_t i = first; i < end; i++) {
        if (!grow((void **)&w->over, w->n_over, &w->over_cap, sizeof *w->over)) {
            w->failed = true;
            return;
        }
        struct slice piece = w->v->pieces[t->tokens[i]];
        uint32_t depth = t->nodes[node].depth;
        w->over[w->n_over++] =
            (struct trie_text){{piece.ptr + depth, piece.len - depth}, t->tokens[i]};
    }
}

/* From node on, below it, with stacks.  at[depth of node] is set. */
static void walk_stacks(struct walk *w, uint32_t node)
{
    const struct trie *t = &w->v->trie;
    uint32_t base = t->nodes[node].depth;
    for (uint32_t i = node + 1; i < t->nodes[node].end && !w->failed;) {
        const struct trie_node *x = &t->nodes[i];
        w->n_visits++;
        struct matcher_state *out = &w->at[x->depth - base];
        if (!places_step(&w->nodes, &w->at[x->depth - base - 1], x->byte, out)) {
            w->failed |= w->nodes.failed != OK;
            i = x->end;
            continue;
        }
        take_tokens(w, i);
        if (out->falls_out)
            take_over(w, i);
        i = out->n ? i + 1 : x->end;
    }
}

/* While the text stands at one plain state, a table by byte is all that is needed; where that ends
 * the subtree is walked with stacks. */
static void walk_plain(struct walk *w, uint32_t state)
{
    const struct trie *t = &w->v->trie;
    const struct grammar *g = w->nodes.g;
    uint32_t open[GRAMMAR_TOKEN_MAX + 1];
    open[0] = state;
    for (uint32_t i = 1; i < t->n_nodes && !w->failed;) {
        const struct trie_node *x = &t->nodes[i];
        w->n_visits++;
        uint32_t next = state_next(g, open[x->depth - 1], x->byte);
        if (next == STATE_NONE) {
            i = x->end;
            continue;
        }
        take_tokens(w, i);
        if (state_is_plain(g, next)) {
            open[x->depth] = next;
            i++;
            continue;
        }
        places_begin(&w->nodes, &w->at[0], node_of(&w->nodes, next, NODE_UNKNOWN));
        w->failed |= w->nodes.failed != OK;
        if (w->at[0].falls_out)
            take_over(w, i);
        walk_stacks(w, i);
        i = x->end;
    }
}

static struct state_mask *mask_new(struct walk *w, uint32_t n_words)
{
    struct state_mask *out = mem_try_new(1, sizeof *out);
    if (!out)
        return NULL;
    out->n_tokens = w->n_found;
    if (w->n_found > SPARSE_TOKENS_MAX) {
        out->bits = mem_try_new(n_words, sizeof *out->bits);
        for (uint32_t i = 0; out->bits && i < w->n_found; i++)
            out->bits[w->found[i] / 64] |= 1ull << w->found[i] % 64;
    } else {
        out->tokens = mem_try_new((size_t)w->n_found + 1, sizeof *out->tokens);
        if (out->tokens)
            memcpy(out->tokens, w->found, w->n_found * sizeof *w->found);
    }
    struct err e;
    if ((!out->bits && !out->tokens) || trie_new(&out->over, w->over, w->n_over, &e) != OK) {
        mem_free(out->bits);
        mem_free(out->tokens);
        mem_free(out);
        return NULL;
    }
    out->points = w->points;
    out->n_points = w->n_points;
    w->points = NULL;
    return out;
}

static void mask_free(struct state_mask *m)
{
    if (!m)
        return;
    mem_free(m->bits);
    mem_free(m->tokens);
    mem_free(m->points);
    trie_release(&m->over);
    mem_free(m);
}

static struct state_mask *work_out(struct grammar_masks *m, uint32_t state)
{
    const struct trie *t = &m->v->trie;
    struct walk w = {.v = m->v};
    nodes_init(&w.nodes, m->g);
    w.at = mem_try_new((size_t)t->depth_max + 2, sizeof *w.at);
    w.found = mem_try_new((size_t)t->n_tokens + 1, sizeof *w.found);
    w.failed = !w.at || !w.found;
    if (!w.failed)
        walk_plain(&w, state);
    struct state_mask *out = w.failed ? NULL : mask_new(&w, m->n_words);
    m->n_visits += w.n_visits;
    nodes_release(&w.nodes);
    mem_free(w.at);
    mem_free(w.found);
    mem_free(w.over);
    mem_free(w.points);
    return out;
}

const struct state_mask *state_mask_of(struct grammar_masks *m, uint32_t state)
{
    struct state_mask *known = atomic_load_explicit(&m->states[state], memory_order_acquire);
    if (known)
        return known;
    struct state_mask *made = work_out(m, state);
    /* Two threads may have worked it out: the first one's stays. */
    if (made && !atomic_compare_exchange_strong(&m->states[state], &known, made)) {
        mask_free(made);
        made = known;
    }
    return made;
}

/* ---- preparing ---- */
enum status grammar_prepare(struct grammar *g, const struct grammar_vocabulary *v,
                            struct grammar_masks **out, struct err *e)
{
    struct grammar_masks *m = mem_try_new(1, sizeof *m);
    if (m)
        m->states = mem_try_new((size_t)g->n_states + 1, sizeof *m->states);
    if (!m || !m->states) {
        mem_free(m);
        return err_set(e, E_NOMEM, "grammar: out of memory");
    }
    m->g = grammar_hold(g);
    m->v = v;
    m->n_words = (v->n_vocab + 63) / 64;
    m->n_owners = 1;
    for (uint32_t s = 0; s < g->n_states && m->n_visits < PREPARE_VISITS_MAX; s++)
        if (g->first_edge[s] < g->first_edge[s + 1] && !state_mask_of(m, s)) {
            grammar_masks_free(m);
            return err_set(e, E_NOMEM, "grammar: out of memory for its masks");
        }
    *out = m;
    return OK;
}

struct grammar_masks *grammar_masks_hold(struct grammar_masks *m)
{
    atomic_fetch_add(&m->n_owners, 1);
    return m;
}

void grammar_masks_free(struct grammar_masks *m)
{
    if (!m || atomic_fetch_sub(&m->n_owners, 1) > 1)
        return;
    for (uint32_t s = 0; s < m->g->n_states; s++)
        mask_free(atomic_load(&m->states[s]));
    mem_free((void *)m->states);
    grammar_free(m->g);
    mem_free(m);
}
