/* SPDX-License-Identifier: MIT
 * tree.c — nodes: one page of one chain each, children sorted by tokens, all in use order.
 * Because children are sorted lexicographically, the one with the longest common prefix is a
 * neighbour of the place where the tokens would be inserted: O(log children). */
#include <string.h>

#include "base/mem.h"
#include "cache/cache_int.h"

uint32_t tokens_common(const uint32_t *a, const uint32_t *b, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* < 0, 0, > 0: a before, equal to, after b; a prefix comes before its extensions. */
static int compare_tokens(const uint32_t *a, uint32_t na, const uint32_t *b, uint32_t nb)
{
    uint32_t n = min_u32(na, nb);
    uint32_t i = tokens_common(a, b, n);
    if (i < n)
        return a[i] < b[i] ? -1 : 1;
    return na < nb ? -1 : na > nb;
}

static int compare_child(const struct node *child, const struct digest *owner,
                         const uint32_t *tokens, uint32_t n_tokens)
{
    int order = memcmp(&child->owner, owner, sizeof *owner);
    return order ? order : compare_tokens(child->tokens, child->n_tokens, tokens, n_tokens);
}

/* Index of the first child that is not before owner's tokens. */
static uint32_t lower_bound(const struct node *n, const struct digest *owner,
                            const uint32_t *tokens, uint32_t n_tokens)
{
    uint32_t low = 0, high = n->n_children;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct node *child = n->children[mid];
        if (compare_child(child, owner, tokens, n_tokens) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct node *node_best_child(const struct node *n, const struct digest *owner,
                             const uint32_t *tokens, uint32_t n_tokens, uint32_t *common)
{
    struct node *best = NULL;
    *common = 0;
    uint32_t at = lower_bound(n, owner, tokens, n_tokens);
    for (uint32_t i = at > 0 ? at - 1 : 0; i <= at && i < n->n_children; i++) {
        struct node *child = n->children[i];
        if (!digest_equal(&child->owner, owner))
            continue;
        uint32_t k = tokens_common(child->tokens, tokens, min_u32(child->n_tokens, n_tokens));
        if (k > *common) {
            *common = k;
            best = child;
        }
    }
    return best;
}

const struct node *node_some_child(const struct node *n, const struct digest *owner)
{
    uint32_t at = lower_bound(n, owner, NULL, 0);
    return at < n->n_children && digest_equal(&n->children[at]->owner, owner) ? n->children[at]
                                                                              : NULL;
}

bool node_has_child(const struct node *n, const struct digest *owner)
{
    return node_some_child(n, owner) != NULL;
}

struct node *node_find_child(const struct node *n, const struct digest *owner,
                             const uint32_t *tokens, uint32_t n_tokens)
{
    uint32_t at = lower_bound(n, owner, tokens, n_tokens);
    if (at == n->n_children)
        return NULL;
    struct node *child = n->children[at];
    return compare_child(child, owner, tokens, n_tokens) == 0 ? child : NULL;
}

void node_list_remove(struct cache *c, struct node *n, enum node_list list)
{
    struct node *older = n->in[list].older, *newer = n->in[list].newer;
    *(older ? &older->in[list].newer : &c->lists[list].oldest) = newer;
    *(newer ? &newer->in[list].older : &c->lists[list].newest) = older;
    n->in[list].older = n->in[list].newer = NULL;
}

void node_list_append(struct cache *c, struct node *n, enum node_list list)
{
    struct node *last = c->lists[list].newest;
    n->in[list].older = last;
    n->in[list].newer = NULL;
    *(last ? &last->in[list].newer : &c->lists[list].oldest) = n;
    c->lists[list].newest = n;
}

struct node *node_add_child(struct cache *c, struct node *parent, const struct digest *owner,
                            const uint32_t *tokens, uint32_t n_tokens, const struct digest *chain)
{
    CHECK(n_tokens >= 1 && n_tokens <= PAGE_TOKENS);
    if (parent->n_children == parent->cap_children) {
        uint32_t cap = parent->cap_children ? parent->cap_children * 2 : 1;
        struct node **grown = mem_try_resize(parent->children, cap, sizeof(struct node *));
        if (!grown)
            return NULL;
        parent->children = grown;
        parent->cap_children = cap;
    }
    struct node *n = mem_try_new(1, sizeof *n);
    if (!n)
        return NULL;
    n->parent = parent;
    n->chain = *chain;
    n->owner = *owner;
    n->depth = parent == &c->root ? 0 : parent->depth + 1;
    n->n_tokens = n_tokens;
    memcpy(n->tokens, tokens, n_tokens * sizeof *tokens);
    uint32_t at = lower_bound(parent, owner, tokens, n_tokens);
    memmove(parent->children + at + 1, parent->children + at,
            (parent->n_children - at) * sizeof(struct node *));
    parent->children[at] = n;
    parent->n_children++;
    node_list_append(c, n, NODES_USED);
    c->stats.n_nodes++;
    return n;
}

void node_touch(struct cache *c, struct node *n)
{
    for (; n && n != &c->root; n = n->parent) {
        node_list_remove(c, n, NODES_USED);
        node_list_append(c, n, NODES_USED);
        node_touch_idle(c, n);
    }
}

static bool is_removable(const struct cache *c, const struct node *n)
{
    if (n->holds > 0 || n->n_children > 0)
        return false;
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        if (n->pages[g].refs > 0 || n->pages[g].is_queued)
            return false;
    return true;
}

static void node_free(struct cache *c, struct node *n)
{
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        page_drop(c, n, g);
    struct node *parent = n->parent;
    uint32_t at = lower_bound(parent, &n->owner, n->tokens, n->n_tokens);
    CHECK(at < parent->n_children && parent->children[at] == n);
    parent->n_children--;
    memmove(parent->children + at, parent->children + at + 1,
            (parent->n_children - at) * sizeof(struct node *));
    node_list_remove(c, n, NODES_USED);
    c->stats.n_nodes--;
    mem_free(n->children);
    mem_free(n);
}

void node_trim(struct cache *c)
{
    struct node *n = c->lists[NODES_USED].oldest;
    while (n && c->stats.n_nodes > NODES_MAX) {
        struct node *next = n->in[NODES_USED].newer;
        if (is_removable(c, n))
            node_free(c, n);
        n = next;
    }
}

void node_free_all(struct cache *c)
{
    /* Oldest first meets parents before children; so walk until nothing is left. */
    while (c->lists[NODES_USED].newest) {
        struct node *n = c->lists[NODES_USED].oldest;
        while (n) {
            struct node *next = n->in[NODES_USED].newer;
            if (n->n_children == 0)
                node_free(c, n);
            n = next;
        }
    }
    mem_free(c->root.children);
    c->root.children = NULL;
}
