/* SPDX-License-Identifier: MIT
 * merge.h — joins the neighbours of best rank until none can be joined; among equals the leftmost.
 * For:     bpe.c (rank = line of the merge list) and spm.c (rank = from the score); each gives its
 *          look-up as a constant, so that the compiler makes one copy of all this for each.
 * Cost:    up to MERGE_SMALL_MAX symbols: a scan for the best, on the stack.  More: a heap over
 *          linked nodes, O(n log n); stale heap entries are those whose rank is no longer their
 *          node's.  An entry that is equal by chance is as good as a fresh one: it names the
 *          symbol's present neighbours at their present rank. */
#ifndef KVASIR_TOKENIZER_MERGE_H
#define KVASIR_TOKENIZER_MERGE_H

#include "base/mem.h"
#include "tokenizer/tokenizer_int.h"

#define MERGE_SMALL_MAX 48u
#define MERGE_NEVER UINT32_MAX
#define MERGE_END UINT32_MAX

struct symbol {
    uint32_t id; /* or TOKEN_NONE */
    uint32_t start, end; /* in the word */
};

/* Rank of joining two neighbours and the id that it gives, or MERGE_NEVER. */
typedef uint32_t merge_rank_fn(const struct tokenizer *t, const char *word, struct symbol left,
                               struct symbol right, uint32_t *id);

/* symbols[n] → fewer, in place; returns how many.  2 ≤ n ≤ MERGE_SMALL_MAX. */
static inline __attribute__((always_inline)) uint32_t
merge_small(const struct tokenizer *t, const char *word, struct symbol *symbols, uint32_t n,
            merge_rank_fn *rank_of)
{
    uint32_t rank[MERGE_SMALL_MAX], to[MERGE_SMALL_MAX];
    for (uint32_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(t, word, symbols[i], symbols[i + 1], &to[i]);
    while (n > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == MERGE_NEVER)
            break;
        symbols[best].id = to[best];
        symbols[best].end = symbols[best + 1].end;
        for (uint32_t i = best + 1; i + 1 < n; i++) {
            symbols[i] = symbols[i + 1];
            rank[i] = rank[i + 1];
            to[i] = to[i + 1];
        }
        n--;
        if (best + 1 < n)
            rank[best] = rank_of(t, word, symbols[best], symbols[best + 1], &to[best]);
        if (best > 0)
            rank[best - 1] = rank_of(t, word, symbols[best - 1], symbols[best], &to[best - 1]);
    }
    return n;
}

/* A symbol of a long word; it lies at the index of its first byte, so its neighbour to the right lies
 * at end. */
struct merge_node {
    uint32_t id, end;
    uint32_t before;   /* its neighbour to the left, or MERGE_END */
    uint32_t rank, to; /* of joining with the next; MERGE_NEVER also when joined into another */
};

struct merge_long {
    struct merge_node *nodes; /* [word bytes], those at the starts of symbols in use */
    uint64_t *heap;           /* rank << 32 | node; the smallest first; four children each */
    uint32_t n_heap, n_bytes;
};

static inline void merge_sift_down(struct merge_long *m, uint32_t at)
{
    uint64_t moving = m->heap[at];
    for (;;) {
        uint32_t child = 4 * at + 1, least = child;
        if (child >= m->n_heap)
            break;
        uint32_t last = child + 4 < m->n_heap ? child + 4 : m->n_heap;
        while (++child < last)
            if (m->heap[child] < m->heap[least])
                least = child;
        if (moving <= m->heap[least])
            break;
        m->heap[at] = m->heap[least];
        at = least;
    }
    m->heap[at] = moving;
}

static inline void merge_push(struct merge_long *m, uint32_t rank, uint32_t node)
{
    uint64_t entry = (uint64_t)rank << 32 | node;
    uint32_t at = m->n_heap++;
    while (at > 0 && entry < m->heap[(at - 1) / 4]) {
        m->heap[at] = m->heap[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    m->heap[at] = entry;
}

static inline uint64_t merge_pop(struct merge_long *m)
{
    uint64_t top = m->heap[0];
    m->heap[0] = m->heap[--m->n_heap];
    if (m->n_heap > 1)
        merge_sift_down(m, 0);
    return top;
}

/* Bytes of scratch for a long word.  A merge pops one entry and pushes at most two, and there are
 * fewer merges than symbols, so 2n entries are enough. */
static inline size_t merge_scratch_bytes(size_t word_bytes)
{
    return word_bytes * (sizeof(struct merge_node) + 2 * sizeof(uint64_t));
}

/* Lays the arrays out in scratch; the caller adds the symbols from left to right. */
static inline struct merge_long merge_long_in(void *scratch, uint32_t word_bytes)
{
    struct merge_long m = {.heap = scratch, .n_bytes = word_bytes};
    m.nodes = (struct merge_node *)(m.heap + 2 * (size_t)word_bytes);
    return m;
}

static inline void merge_long_add(struct merge_long *m, struct symbol s, uint32_t before)
{
    m->nodes[s.start] = (struct merge_node){s.id, s.end, before, MERGE_NEVER, TOKEN_NONE};
}

/* Looks the pair at a node up again; true when it can be joined. */
static inline __attribute__((always_inline)) bool
merge_refresh(struct merge_long *m, const struct tokenizer *t, const char *word, uint32_t at,
              merge_rank_fn *rank_of)
{
    struct merge_node *n = &m->nodes[at];
    n->rank = MERGE_NEVER;
    if (n->end < m->n_bytes) {
        const struct merge_node *next = &m->nodes[n->end];
        n->rank = rank_of(t, word, (struct symbol){n->id, at, n->end},
                          (struct symbol){next->id, n->end, next->end}, &n->to);
    }
    return n->rank != MERGE_NEVER;
}

/* Joins until nothing can be; what is left is found from node 0 on, each next one at end. */
static inline __attribute__((always_inline)) void
merge_heap(struct merge_long *m, const struct tokenizer *t, const char *word, merge_rank_fn *rank_of)
{
    for (uint32_t at = 0; at < m->n_bytes; at = m->nodes[at].end)
        if (merge_refresh(m, t, word, at, rank_of))
            m->heap[m->n_heap++] = (uint64_t)m->nodes[at].rank << 32 | at;
    for (uint32_t i = m->n_heap / 4 + 1; i-- > 0;)
        if (i < m->n_heap)
            merge_sift_down(m, i);
    while (m->n_heap > 0) {
        uint64_t top = merge_pop(m);
        uint32_t at = (uint32_t)top;
        struct merge_node *n = &m->nodes[at];
        if (n->rank != (uint32_t)(top >> 32))
            continue;
        struct merge_node *gone = &m->nodes[n->end];
        n->id = n->to;
        n->end = gone->end;
        gone->rank = MERGE_NEVER;
        if (n->end < m->n_bytes)
            m->nodes[n->end].before = at;
        if (merge_refresh(m, t, word, at, rank_of))
            merge_push(m, n->rank, at);
        if (n->before != MERGE_END && merge_refresh(m, t, word, n->before, rank_of))
            merge_push(m, m->nodes[n->before].rank, n->before);
    }
}

#endif
