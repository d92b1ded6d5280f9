/* SPDX-License-Identifier: MIT
 * matcher.c — one text in the making: where it stands, what may come, what came. */
#include <string.h>

#include "base/mem.h"
#include "grammar/grammar_int.h"

struct matcher {
    struct grammar_masks *masks;
    struct nodes nodes;
    struct matcher_state at;
    uint32_t n_extra;           /* of all nodes */
    struct matcher_state *walk; /* [depth_max + 2] of tokens that run over the end of a rule */
    uint64_t *bits;             /* [words] of one node, before the others' are added */
};

static enum status failure(const struct matcher *m, struct err *e)
{
    if (m->nodes.failed == E_NOMEM)
        return err_set(e, E_NOMEM, "grammar: out of memory");
    return err_set(e, E_LIMIT,
                   "grammar: the text is nested too deep, or can be read in more than %u ways",
                   MATCHER_STACKS_MAX);
}

enum status matcher_new(struct grammar_masks *masks, struct matcher **out, struct err *e)
{
    struct matcher *m = mem_try_new(1, sizeof *m);
    if (m)
        m->walk = mem_try_new((size_t)masks->v->trie.depth_max + 2, sizeof *m->walk);
    if (m)
        m->bits = mem_try_new(masks->n_words, sizeof *m->bits);
    if (!m || !m->walk || !m->bits) {
        if (m)
            mem_free(m->walk);
        mem_free(m);
        return err_set(e, E_NOMEM, "grammar: out of memory");
    }
    m->masks = grammar_masks_hold(masks);
    nodes_init(&m->nodes, masks->g);
    places_begin(&m->nodes, &m->at, node_of(&m->nodes, masks->g->start[masks->g->root], NODE_NONE));
    if (m->nodes.failed != OK) {
        enum status st = failure(m, e);
        matcher_free(m);
        return st;
    }
    *out = m;
    return OK;
}

void matcher_free(struct matcher *m)
{
    if (!m)
        return;
    nodes_release(&m->nodes);
    grammar_masks_free(m->masks);
    mem_free(m->walk);
    mem_free(m->bits);
    mem_free(m);
}

uint32_t matcher_mask_words(const struct matcher *m)
{
    return m->masks->n_words;
}

struct found {
    uint32_t *tokens;
    uint32_t n, cap;
};

static void find_token(struct matcher *m, struct found *f, uint32_t token)
{
    if (m->n_extra++ >= EXTRA_MAX) {
        m->nodes.failed = E_LIMIT;
        return;
    }
    if (f->n == f->cap) {
        uint32_t cap = f->cap ? 2 * f->cap : 32;
        uint32_t *more = mem_try_resize(f->tokens, cap, sizeof *more);
        if (!more) {
            m->nodes.failed = E_NOMEM;
            return;
        }
        f->tokens = more;
        f->cap = cap;
    }
    f->tokens[f->n++] = token;
}

/* Is the end at this depth of the token at this position in a branch that the mask leaves out? */
static bool is_cut(const struct matcher *m, const struct state_mask *mask, struct over_token over)
{
    const struct trie *t = &m->masks->v->trie;
    for (uint32_t i = 0; mask && i < mask->n_cut; i++) {
        const struct trie_node *x = &t->nodes[mask->cut[i]];
        if (over.depth >= x->depth && over.position >= x->first_token &&
            over.position < t->nodes[x->end].first_token)
            return true;
    }
    return false;
}

/* Tokens below this node of the tree that go on from walk[0]: those of the mask's own tree, which
 * `by` may leave out, or (over NULL) of the vocabulary's. */
static void find_below(struct matcher *m, struct found *f, const struct state_mask *over,
                       const struct state_mask *by, uint32_t node)
{
    const struct trie *vocabulary = &m->masks->v->trie, *t = over ? &over->over : vocabulary;
    uint32_t base = t->nodes[node].depth;
    for (uint32_t i = node + 1; i < t->nodes[node].end && m->nodes.failed == OK;) {
        const struct trie_node *x = &t->nodes[i];
        struct matcher_state *out = &m->walk[x->depth - base];
        if (!places_step(&m->nodes, &m->walk[x->depth - base - 1], x->byte, out)) {
            i = x->end;
            continue;
        }
        for (uint32_t j = x->first_token; j < x[1].first_token; j++)
            if (!over)
                find_token(m, f, t->tokens[j]);
            else if (!is_cut(m, by, over->over_tokens[t->tokens[j]]))
                find_token(m, f, vocabulary->tokens[over->over_tokens[t->tokens[j]].position]);
        i = out->n ? i + 1 : x->end;
    }
}

static void find_over(struct matcher *m, struct found *f, const struct state_mask *mask,
                      const struct state_mask *by)
{
    const struct trie_node *nodes = m->masks->v->trie.nodes;
    find_below(m, f, mask, by, 0);
    for (uint32_t i = 0; i < mask->n_points; i++) {
        const struct trie_node *x = &nodes[mask->points[i]];
        if (!is_cut(m, by, (struct over_token){x->first_token, x->depth}))
            find_below(m, f, NULL, NULL, mask->points[i]);
    }
}

/* Tokens that go on behind the end of the node's rule, by its real callers; once per node. */
static bool find_extra(struct matcher *m, uint32_t id, const struct state_mask *mask)
{
    struct found f = {0};
    uint32_t below = m->nodes.nodes[id].below;
    if (below != NODE_NONE) {
        places_begin(&m->nodes, &m->walk[0], below);
        find_over(m, &f, mask, NULL);
        if (mask->base)
            find_over(m, &f, mask->base, mask);
    }
    m->nodes.nodes[id].extra = f.tokens;
    m->nodes.nodes[id].n_extra = f.n;
    m->nodes.nodes[id].knows_extra = true;
    return m->nodes.failed == OK;
}

static void set_bits(uint64_t *bits, const uint32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        bits[tokens[i] / 64] |= 1ull << tokens[i] % 64;
}

/* bits = those that the mask allows. */
static void put_mask(const struct matcher *m, const struct state_mask *mask, uint64_t *bits)
{
    const uint32_t n_words = m->masks->n_words;
    const struct trie *t = &m->masks->v->trie;
    if (mask->bits) {
        memcpy(bits, mask->bits, n_words * sizeof *bits);
        return;
    }
    if (mask->base)
        put_mask(m, mask->base, bits); /* which has none */
    else
        memset(bits, 0, n_words * sizeof *bits);
    for (uint32_t i = 0; i < mask->n_cut; i++) {
        const struct trie_node *x = &t->nodes[mask->cut[i]];
        for (uint32_t j = x->first_token; j < t->nodes[x->end].first_token; j++)
            bits[t->tokens[j] / 64] &= ~(1ull << t->tokens[j] % 64);
    }
    set_bits(bits, mask->tokens, mask->n_tokens);
}

static bool add_node(struct matcher *m, uint32_t id, uint64_t *bits, bool is_first)
{
    const struct state_mask *mask = state_mask_of(m->masks, m->nodes.nodes[id].state);
    if (!mask) {
        m->nodes.failed = E_NOMEM;
        return false;
    }
    const uint64_t *more = mask->bits;
    if (is_first) {
        put_mask(m, mask, bits);
    } else if (!mask->bits && !mask->base) {
        set_bits(bits, mask->tokens, mask->n_tokens);
    } else {
        if (!more) {
            put_mask(m, mask, m->bits);
            more = m->bits;
        }
        for (uint32_t i = 0; i < m->masks->n_words; i++)
            bits[i] |= more[i];
    }
    if (!m->nodes.nodes[id].knows_extra && !find_extra(m, id, mask))
        return false;
    set_bits(bits, m->nodes.nodes[id].extra, m->nodes.nodes[id].n_extra);
    return true;
}

enum status matcher_mask(struct matcher *m, uint64_t *bits, bool *may_end, struct err *e)
{
    if (m->at.n == 0)
        memset(bits, 0, m->masks->n_words * sizeof *bits);
    for (uint32_t i = 0; i < m->at.n; i++)
        if (!add_node(m, m->at.ids[i], bits, i == 0))
            return failure(m, e);
    *may_end = m->at.may_end;
    return OK;
}

enum status matcher_accept_text(struct matcher *m, struct slice bytes, struct err *e)
{
    struct matcher_state *now = &m->walk[0], *next = &m->walk[1];
    *now = m->at;
    for (size_t i = 0; i < bytes.len; i++) {
        if (!places_step(&m->nodes, now, (uint8_t)bytes.ptr[i], next))
            return m->nodes.failed != OK ? failure(m, e)
                                         : err_set(e, E_INVALID, "grammar: it does not allow that");
        struct matcher_state *swap = now;
        now = next;
        next = swap;
    }
    m->at = *now;
    return OK;
}

enum status matcher_accept(struct matcher *m, uint32_t token, struct err *e)
{
    const struct grammar_vocabulary *v = m->masks->v;
    struct slice piece = token < v->n_vocab ? v->pieces[token] : (struct slice){0};
    if (piece.len == 0)
        return err_set(e, E_INVALID, "grammar: token %u has no text", token);
    return matcher_accept_text(m, piece, e);
}

const struct matcher_state *matcher_state(const struct matcher *m)
{
    return &m->at;
}

void matcher_restore(struct matcher *m, const struct matcher_state *state)
{
    m->at = *state;
}

/* ---- whole texts ---- */
enum status grammar_matches(const struct grammar *g, struct slice text, bool *matches,
                            struct err *e)
{
    struct nodes nodes;
    struct matcher_state at[2], *now = &at[0], *next = &at[1];
    nodes_init(&nodes, g);
    places_begin(&nodes, now, node_of(&nodes, g->start[g->root], NODE_NONE));
    *matches = true;
    for (size_t i = 0; i < text.len && *matches; i++) {
        *matches = places_step(&nodes, now, (uint8_t)text.ptr[i], next);
        struct matcher_state *swap = now;
        now = next;
        next = swap;
    }
    *matches = *matches && now->may_end;
    enum status st = nodes.failed;
    nodes_release(&nodes);
    return st == OK ? OK : err_set(e, st, "grammar: the text can't be followed");
}
