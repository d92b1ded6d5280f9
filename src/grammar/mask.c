/* SPDX-License-Identifier: MIT
 * mask.c — which tokens a state allows by itself.
 * The vocabulary's tree is walked once from the state, with a caller that is not known.  A token
 * whose bytes all fit is allowed, whatever lies below.  One that fits up to the end of the rule and
 * has more bytes depends on the caller: what is left of it goes into a tree of its own (`over`),
 * which matcher.c walks from the caller's place; few branches of it fit there.  Where half of the
 * vocabulary goes on (a rule that ends behind a space), only the place in the tree is noted.
 * Most states of JSON are in the middle of a fixed text, where the walk ends at once; inside a
 * string it visits the whole vocabulary, milliseconds.  So a state that may visit much is compared
 * with one whose mask is known and whose edges have the same bytes, or with the one where most of
 * its bytes lead: the tree is walked with both at once, branches by which they are alike for as
 * many bytes as the branch is high (alike.c) are left alone, and what differs is kept as a
 * difference. Most often nothing does, and the mask is shared. */
#include <string.h>

#include "base/mem.h"
#include "grammar/grammar_int.h"

/* More tokens than this are kept as bits. */
#define SPARSE_TOKENS_MAX 1024u
/* A branch of more tokens than this is noted, not copied. */
#define OVER_TOKENS_MAX 64u
/* A state whose first bytes leave fewer tokens than this, or than an eighth of a vocabulary, is not
 * worth a comparison. */
#define FEW_TOKENS 2048u
/* A difference of more than this costs each mask more than bits of its own would. */
#define CUTS_MAX       64u
#define CUT_TOKENS_MAX 4096u
/* Of what a spare walk keeps. */
#define SPARE_NODES_MAX 4096u
/* A state that is compared with the one where it leads, and that with the one where that leads. */
#define LEADS_MAX 3u

/* What kinds_kept said lately. */
#define KEPT_MAX 64u
struct kept {
    uint32_t state; /* + 1 */
    uint8_t kinds;
};
struct walk {
    const struct grammar_vocabulary *v;
    struct kept kept[KEPT_MAX];
    struct nodes nodes;
    struct pairs_alike alike;
    struct matcher_state *at; /* [depth_max + 2] where the text stands at each depth */
    uint32_t *found, n_found, found_cap;
    uint64_t *bits; /* instead of found, when those are many */
    uint32_t n_words;
    struct trie_text *over;
    struct over_token *over_tokens;
    uint32_t n_over, over_cap, over_tokens_cap;
    uint32_t *points, n_points, points_cap;
    uint32_t cut[CUTS_MAX], n_cut, n_cut_tokens;
    const struct byte_set *follow; /* of the rule */
    uint64_t n_visits;
    bool failed;
};

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

static void walk_free(struct walk *w)
{
    if (!w)
        return;
    nodes_release(&w->nodes);
    alike_release(&w->alike);
    mem_free(w->at);
    mem_free(w->found);
    mem_free(w->bits);
    mem_free(w->over);
    mem_free(w->over_tokens);
    mem_free(w->points);
    mem_free(w);
}

/* NULL: out of memory. */
static struct walk *walk_new(const struct grammar_masks *m)
{
    struct walk *w = mem_try_new(1, sizeof *w);
    if (!w)
        return NULL;
    w->v = m->v;
    w->n_words = m->n_words;
    nodes_init(&w->nodes, m->g);
    w->at = mem_try_new((size_t)m->v->trie.depth_max + 2, sizeof *w->at);
    if (!alike_new(&w->alike, m->g, m->v->trie.depth_max) || !w->at) {
        walk_free(w);
        return NULL;
    }
    return w;
}

/* Nothing was found yet. */
static void walk_clear(struct walk *w)
{
    w->n_found = w->n_over = w->n_points = w->n_cut = w->n_cut_tokens = 0;
    mem_free(w->bits);
    w->bits = NULL;
}

static void take_token(struct walk *w, uint32_t token)
{
    if (w->bits) {
        w->bits[token / 64] |= 1ull << token % 64;
        w->n_found++;
        return;
    }
    w->failed |= !grow((void **)&w->found, w->n_found, &w->found_cap, sizeof *w->found);
    if (w->failed)
        return;
    w->found[w->n_found++] = token;
    if (w->n_found <= SPARSE_TOKENS_MAX)
        return;
    w->bits = mem_try_new(w->n_words, sizeof *w->bits);
    w->failed |= !w->bits;
    for (uint32_t i = 0; w->bits && i < w->n_found; i++)
        w->bits[w->found[i] / 64] |= 1ull << w->found[i] % 64;
}

static void take_tokens(struct walk *w, uint32_t node)
{
    const struct trie *t = &w->v->trie;
    for (uint32_t i = t->nodes[node].first_token; i < t->nodes[node + 1].first_token; i++)
        take_token(w, t->tokens[i]);
}

static bool may_follow(const struct walk *w, uint8_t byte)
{
    return w->follow->bits[byte / 64] >> byte % 64 & 1;
}

static void take_over_branch(struct walk *w, uint32_t branch, uint32_t depth)
{
    const struct trie *t = &w->v->trie;
    uint32_t end = t->nodes[t->nodes[branch].end].first_token;
    for (uint32_t i = t->nodes[branch].first_token; i < end; i++) {
        if (!grow((void **)&w->over, w->n_over, &w->over_cap, sizeof *w->over) ||
            !grow((void **)&w->over_tokens, w->n_over, &w->over_tokens_cap,
                  sizeof *w->over_tokens)) {
            w->failed = true;
            return;
        }
        struct slice piece = w->v->pieces[t->tokens[i]];
        w->over_tokens[w->n_over] = (struct over_token){i, depth};
        w->over[w->n_over] = (struct trie_text){{piece.ptr + depth, piece.len - depth}, w->n_over};
        w->n_over++;
    }
}

/* The rule may end at this node: what its longer tokens still have to say is kept, if something can
 * come behind the rule that begins like it. */
static void take_over(struct walk *w, uint32_t node)
{
    const struct trie *t = &w->v->trie;
    uint32_t n = 0;
    for (uint32_t i = node + 1; i < t->nodes[node].end; i = t->nodes[i].end)
        if (may_follow(w, t->nodes[i].byte))
            n += t->nodes[t->nodes[i].end].first_token - t->nodes[i].first_token;
    if (n > OVER_TOKENS_MAX) {
        w->failed |= !grow((void **)&w->points, w->n_points, &w->points_cap, sizeof *w->points);
        if (!w->failed)
            w->points[w->n_points++] = node;
        return;
    }
    for (uint32_t i = node + 1; n && i < t->nodes[node].end && !w->failed; i = t->nodes[i].end)
        if (may_follow(w, t->nodes[i].byte))
            take_over_branch(w, i, t->nodes[node].depth);
}

/* From node on, below it, with stacks.  at[0] is set: where the text stands at the node. */
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

/* The text stands at this state at a node that is no plain one. */
static void begin_stacks(struct walk *w, uint32_t node, uint32_t state)
{
    places_begin(&w->nodes, &w->at[0], node_of(&w->nodes, state, NODE_UNKNOWN));
    w->failed |= w->nodes.failed != OK;
    if (w->at[0].falls_out)
        take_over(w, node);
    walk_stacks(w, node);
}

/* The kinds of bytes of which all lead from a plain state back to it: a branch without others is
 * allowed as a whole. */
static uint8_t kinds_kept(struct walk *w, uint32_t state)
{
    const struct grammar *g = w->nodes.g;
    struct kept *k = &w->kept[state % KEPT_MAX];
    if (k->state == state + 1)
        return k->kinds;
    uint8_t others = 0xFF;
    for (uint32_t i = g->first_edge[state]; i < g->first_edge[state + 1]; i++)
        if (g->edges[i].to == state) { /* worth a look at each byte */
            bool is_own[256] = {false};
            for (; i < g->first_edge[state + 1]; i++)
                if (g->edges[i].to == state)
                    memset(is_own + g->edges[i].lo, true, g->edges[i].hi - g->edges[i].lo + 1);
            others = 0;
            for (uint32_t b = 0; b < 256; b++)
                others |= (uint8_t)(is_own[b] ? 0 : 1u << byte_kind((uint8_t)b));
            break;
        }
    *k = (struct kept){state + 1, (uint8_t)~others};
    return k->kinds;
}

static void take_branch(struct walk *w, uint32_t node)
{
    const struct trie *t = &w->v->trie;
    uint32_t end = t->nodes[t->nodes[node].end].first_token;
    for (uint32_t i = t->nodes[node].first_token; i < end; i++)
        take_token(w, t->tokens[i]);
}

/* Below a node at which the text stands at `state`.  While that is a plain one a table by byte is
 * all that is needed; where that ends the subtree is walked with stacks. */
static void walk_plain(struct walk *w, uint32_t node, uint32_t state)
{
    const struct trie *t = &w->v->trie;
    const struct grammar *g = w->nodes.g;
    const uint32_t base = t->nodes[node].depth;
    uint32_t open[GRAMMAR_TOKEN_MAX + 1];
    open[0] = state;
    for (uint32_t i = node + 1; i < t->nodes[node].end && !w->failed;) {
        const struct trie_node *x = &t->nodes[i];
        w->n_visits++;
        uint32_t next = state_next(g, open[x->depth - base - 1], x->byte);
        if (next == STATE_NONE) {
            i = x->end;
            continue;
        }
        if (next == open[x->depth - base - 1] && !(x->kinds & ~kinds_kept(w, next))) {
            take_branch(w, i);
            i = x->end;
            continue;
        }
        take_tokens(w, i);
        if (state_is_plain(g, next)) {
            open[x->depth - base] = next;
            i++;
            continue;
        }
        begin_stacks(w, i, next);
        i = x->end;
    }
}

/* ---- by the difference from another ---- */
/* What this branch has in the other mask is not meant; what the state allows there is. */
static bool cut_branch(struct walk *w, uint32_t node, uint32_t state, bool was_there)
{
    const struct trie *t = &w->v->trie;
    if (was_there) {
        w->n_cut_tokens += t->nodes[t->nodes[node].end].first_token - t->nodes[node].first_token;
        if (w->n_cut == CUTS_MAX || w->n_cut_tokens > CUT_TOKENS_MAX)
            return false;
        w->cut[w->n_cut++] = node;
    }
    if (state == STATE_NONE)
        return true;
    take_tokens(w, node);
    if (state_is_plain(w->nodes.g, state))
        walk_plain(w, node, state);
    else
        begin_stacks(w, node, state);
    return !w->bits;
}

/* False: they differ too much. */
static bool walk_both(struct walk *w, uint32_t state, uint32_t other)
{
    const struct trie *t = &w->v->trie;
    const struct grammar *g = w->nodes.g;
    struct {
        uint32_t state, other;
    } open[GRAMMAR_TOKEN_MAX + 1] = {{state, other}};
    alike_begin(&w->alike, state, other);
    if (alike_bytes(&w->alike, state, other) >= t->nodes[0].height)
        return true;
    for (uint32_t i = 1; i < t->n_nodes && !w->failed;) {
        const struct trie_node *x = &t->nodes[i];
        w->n_visits++;
        uint32_t a = state_next(g, open[x->depth - 1].state, x->byte);
        uint32_t b = state_next(g, open[x->depth - 1].other, x->byte);
        const bool both = a != STATE_NONE && b != STATE_NONE;
        if (both && states_look_alike(g, a, b)) {
            open[x->depth].state = a;
            open[x->depth].other = b;
            bool is_alike = !(x->kinds & ~(kinds_kept(w, a) & kinds_kept(w, b))) ||
                            alike_bytes(&w->alike, a, b) >= x->height;
            i = is_alike ? x->end : i + 1;
            continue;
        }
        if ((a != STATE_NONE || b != STATE_NONE) && !cut_branch(w, i, a, b != STATE_NONE))
            return false;
        i = x->end;
    }
    return !w->failed;
}

/* ---- masks ---- */
static void mask_free(struct state_mask *m)
{
    if (!m)
        return;
    mem_free(m->cut);
    mem_free(m->bits);
    mem_free(m->tokens);
    mem_free(m->points);
    mem_free(m->over_tokens);
    trie_release(&m->over);
    mem_free(m);
}

/* items [n] of their own; false: out of memory. */
static bool copy_items(void *to, const void *items, uint32_t n, size_t size)
{
    void *copy = mem_try_new((size_t)n + 1, size);
    if (copy && n)
        memcpy(copy, items, n * size);
    memcpy(to, &copy, sizeof copy);
    return copy != NULL;
}

static struct state_mask *mask_new(struct walk *w, uint32_t state, const struct state_mask *base)
{
    struct state_mask *out = mem_try_new(1, sizeof *out);
    struct err e;
    if (!out)
        return NULL;
    out->state = state;
    out->base = base;
    out->bits = w->bits;
    w->bits = NULL;
    out->n_tokens = w->n_found;
    out->n_cut = w->n_cut;
    out->n_points = w->n_points;
    bool ok = out->bits || copy_items(&out->tokens, w->found, w->n_found, sizeof *w->found);
    ok = ok && copy_items(&out->cut, w->cut, w->n_cut, sizeof *w->cut);
    ok = ok && copy_items(&out->points, w->points, w->n_points, sizeof *w->points);
    ok = ok && copy_items(&out->over_tokens, w->over_tokens, w->n_over, sizeof *w->over_tokens);
    if (!ok || trie_new(&out->over, w->over, w->n_over, &e) != OK) {
        mask_free(out);
        return NULL;
    }
    return out;
}

/* ---- families ---- */
static uint64_t add_bytes(uint64_t h, const struct grammar *g, uint32_t s)
{
    for (uint32_t i = g->first_edge[s]; i < g->first_edge[s + 1]; i++)
        h = (h ^ (g->edges[i].lo << 8 | g->edges[i].hi)) * 0x100000001b3u;
    return h;
}

/* A state's edges, and the edges where they lead. */
static uint64_t edge_bytes_of(const struct grammar *g, uint32_t s)
{
    uint64_t h = add_bytes(0xcbf29ce484222325u, g, s);
    for (uint32_t i = g->first_edge[s]; i < g->first_edge[s + 1]; i++)
        h = add_bytes(h * 31, g, g->edges[i].to);
    return (h ^ h >> 32) | 1;
}

static uint32_t tokens_ahead(const struct grammar_masks *m, uint32_t s)
{
    const struct grammar *g = m->g;
    uint32_t n = 0;
    for (uint32_t i = g->first_edge[s]; i < g->first_edge[s + 1]; i++)
        n += m->v->before[g->edges[i].hi + 1] - m->v->before[g->edges[i].lo];
    return n;
}

static bool is_large(const struct grammar_masks *m, uint32_t s)
{
    const uint32_t part = m->v->trie.n_tokens / 8;
    return state_is_plain(m->g, s) && tokens_ahead(m, s) >= (part < FEW_TOKENS ? part : FEW_TOKENS);
}

/* What the other's mask says of tokens that run over the end of its rule is enough for this one. */
static bool is_model(const struct grammar_masks *m, const struct state_mask *other, uint32_t state)
{
    if (!other || !state_is_plain(m->g, other->state))
        return false;
    const struct byte_set *own = grammar_follow(m->g, state);
    const struct byte_set *its = grammar_follow(m->g, other->state);
    return !((own->bits[0] & ~its->bits[0]) | (own->bits[1] & ~its->bits[1]) |
             (own->bits[2] & ~its->bits[2]) | (own->bits[3] & ~its->bits[3]));
}

/* Where most of the tokens that go on do. */
static uint32_t lead_of(const struct grammar_masks *m, uint32_t s)
{
    const struct grammar *g = m->g;
    uint32_t most = 0, lead = STATE_NONE;
    for (uint32_t i = g->first_edge[s]; i < g->first_edge[s + 1]; i++) {
        uint32_t n = m->v->before[g->edges[i].hi + 1] - m->v->before[g->edges[i].lo];
        if (n > most) {
            most = n;
            lead = g->edges[i].to;
        }
    }
    return lead;
}

static struct family *family_of(struct grammar_masks *m, uint64_t bytes)
{
    uint32_t at = (uint32_t)bytes & (FAMILIES_MAX - 1);
    while (m->families[at].bytes && m->families[at].bytes != bytes)
        at = (at + 1) & (FAMILIES_MAX - 1);
    return &m->families[at];
}

static const struct state_mask *mask_in_family(struct grammar_masks *m, uint64_t bytes)
{
    pthread_mutex_lock(&m->mutex);
    const struct state_mask *mask = family_of(m, bytes)->mask;
    pthread_mutex_unlock(&m->mutex);
    return mask;
}

static struct walk *take_walk(struct grammar_masks *m)
{
    pthread_mutex_lock(&m->mutex);
    struct walk *w = m->spare;
    m->spare = NULL;
    pthread_mutex_unlock(&m->mutex);
    if (!w)
        return walk_new(m);
    walk_clear(w);
    w->n_visits = 0;
    return w;
}

static void give_walk(struct grammar_masks *m, struct walk *w)
{
    if (w->nodes.n > SPARE_NODES_MAX) {
        nodes_release(&w->nodes);
        nodes_init(&w->nodes, m->g);
    }
    pthread_mutex_lock(&m->mutex);
    if (!m->spare && !w->failed) {
        m->spare = w;
        w = NULL;
    }
    pthread_mutex_unlock(&m->mutex);
    walk_free(w);
}

static const struct state_mask *mask_at(struct grammar_masks *m, uint32_t state, uint32_t n_leads);

/* A mask without a base that this state's probably looks like; NULL: none is known. */
static const struct state_mask *model_for(struct grammar_masks *m, uint32_t state, uint64_t bytes,
                                          uint32_t n_leads)
{
    const struct state_mask *model = mask_in_family(m, bytes);
    if (is_model(m, model, state))
        return model;
    uint32_t lead = lead_of(m, state);
    if (n_leads == LEADS_MAX || lead == state || !is_large(m, lead))
        return NULL;
    model = mask_at(m, lead, n_leads + 1);
    model = model && model->base ? model->base : model;
    return is_model(m, model, state) ? model : NULL;
}

/* Worked out: *found is one that was there, or else the result is new. */
static struct state_mask *work_out(struct grammar_masks *m, uint32_t state, uint32_t n_leads,
                                   const struct state_mask **found)
{
    const struct state_mask *model =
        is_large(m, state) ? model_for(m, state, edge_bytes_of(m->g, state), n_leads) : NULL;
    struct walk *w = take_walk(m);
    struct state_mask *out = NULL;
    *found = NULL;
    if (!w)
        return NULL;
    w->follow = grammar_follow(m->g, state);
    if (model && !walk_both(w, state, model->state)) {
        walk_clear(w);
        model = NULL;
    }
    if (model && !w->n_cut && !w->n_found && !w->n_over && !w->n_points)
        *found = w->failed ? NULL : model;
    else if (!model)
        walk_plain(w, 0, state);
    if (!w->failed && !*found)
        out = mask_new(w, state, model);
    m->n_visits += w->n_visits;
    give_walk(m, w);
    return out;
}

/* Two threads may have worked it out: the first one's stays. */
static const struct state_mask *keep(struct grammar_masks *m, uint32_t state,
                                     struct state_mask *made, const struct state_mask *found)
{
    const struct state_mask *known = NULL, *mine = made ? made : found;
    const uint64_t bytes = edge_bytes_of(m->g, state);
    if (!mine)
        return NULL;
    pthread_mutex_lock(&m->mutex);
    if (!atomic_compare_exchange_strong(&m->states[state], &known, mine)) {
        mine = known;
    } else if (made) {
        struct family *f = family_of(m, bytes);
        made->next = m->all;
        m->all = made;
        made = NULL;
        if (!mine->base && mine->bits && (f->bytes || 2 * m->n_families < FAMILIES_MAX)) {
            m->n_families += !f->bytes;
            *f = (struct family){bytes, mine};
        }
    }
    pthread_mutex_unlock(&m->mutex);
    mask_free(made);
    return mine;
}

/* Where more characters may come than a token has bytes it does not matter how many. */
static uint32_t alike_by_count(const struct grammar_masks *m, uint32_t state)
{
    const struct count *c = &m->g->counts[grammar_rule_of(m->g, state)];
    bool has_room = state > c->first && state <= c->last && c->last - state >= m->v->trie.depth_max;
    return has_room ? c->first : state;
}

/* Depth: LEADS_MAX, and one more each. */
static const struct state_mask *mask_at(struct grammar_masks *m, uint32_t state, uint32_t n_leads)
{
    const struct state_mask *found = atomic_load_explicit(&m->states[state], memory_order_acquire);
    if (found)
        return found;
    const uint32_t like = alike_by_count(m, state);
    struct state_mask *made = NULL;
    if (like != state)
        found = mask_at(m, like, n_leads);
    else
        made = work_out(m, state, n_leads, &found);
    return keep(m, state, made, found);
}

const struct state_mask *state_mask_of(struct grammar_masks *m, uint32_t state)
{
    return mask_at(m, state, 0);
}

/* ---- preparing ---- */
/* One state of each family that allows much: the others are worked out by their difference from it,
 * in microseconds, when a text meets them. */
static bool prepare(struct grammar_masks *m, uint64_t n_visits_max)
{
    const struct grammar *g = m->g;
    for (uint32_t s = 0; s < g->n_states && m->n_visits < n_visits_max; s++)
        if (is_large(m, s) && !mask_in_family(m, edge_bytes_of(g, s)) && !state_mask_of(m, s))
            return false;
    return true;
}

enum status grammar_prepare(struct grammar *g, const struct grammar_vocabulary *v,
                            struct grammar_masks **out, struct err *e)
{
    struct grammar_masks *m = mem_try_new(1, sizeof *m);
    if (!m)
        return err_set(e, E_NOMEM, "grammar: out of memory");
    pthread_mutex_init(&m->mutex, NULL);
    m->g = grammar_hold(g);
    m->v = v;
    m->n_words = (v->n_vocab + 63) / 64;
    m->n_owners = 1;
    m->states = mem_try_new((size_t)g->n_states + 1, sizeof *m->states);
    m->families = mem_try_new(FAMILIES_MAX, sizeof *m->families);
    if (!m->states || !m->families || !prepare(m, PREPARE_VISITS_MAX)) {
        grammar_masks_free(m);
        return err_set(e, E_NOMEM, "grammar: out of memory for its masks");
    }
    *out = m;
    return OK;
}

void grammar_prepare_more(struct grammar_masks *m)
{
    if (!atomic_exchange(&m->is_prepared, true))
        (void)prepare(m, PREPARE_MORE_VISITS_MAX); /* without memory a text that needs it says so */
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
    while (m->all) {
        struct state_mask *next = m->all->next;
        mask_free(m->all);
        m->all = next;
    }
    walk_free(m->spare);
    mem_free(m->families);
    mem_free((void *)m->states);
    grammar_free(m->g);
    pthread_mutex_destroy(&m->mutex);
    mem_free(m);
}
