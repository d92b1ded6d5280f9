/* SPDX-License-Identifier: MIT
 * merge.h — joins the neighbours of best rank until none can be joined; among equals the leftmost.
 * For:     bpe.c (rank = line of the merge list) and spm.c (rank = from the score); each gives its
 *          look-up as a constant, so that the compiler makes one copy of all this for each.
 * Cost:    up to MERGE_SMALL_MAX symbols: a scan for the best, on the stack.  More: a heap over a
 *          linked list, O(n log n); stale heap entries are those whose rank is no longer their
 *          symbol's.  An entry that is equal by chance is as good as a fresh one: it names the
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

struct merge_link {
    uint32_t next, prev; /* MERGE_END at the ends */
    uint32_t rank, to;   /* of joining with next; MERGE_NEVER also when joined into another */
};

struct merge_long {
    struct symbol *symbols;
    struct merge_link *links;
    uint64_t *heap; /* rank << 32 | symbol; the smallest first */
    uint32_t n_heap;
};

static inline void merge_sift_down(struct merge_long *m, uint32_t at)
{
    uint64_t moving = m->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= m->n_heap)
            break;
        if (child + 1 < m->n_heap && m->heap[child + 1] < m->heap[child])
            child++;
        if (moving <= m->heap[child])
            break;
        m->heap[at] = m->heap[child];
        at = child;
    }
    m->heap[at] = moving;
}

static inline void merge_push(struct merge_long *m, uint64_t entry)
{
    uint32_t at = m->n_heap++;
    while (at > 0 && entry < m->heap[(at - 1) / 2]) {
        m->heap[at] = m->heap[(at - 1) / 2];
        at = (at - 1) / 2;
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

/* Bytes of scratch that merge_heap() needs: a merge pops one entry and pushes at most two, and there
 * are fewer merges than symbols, so 2n entries are enough. */
static inline size_t merge_scratch_bytes(size_t n)
{
    return n * (sizeof(struct symbol) + sizeof(struct merge_link) + 2 * sizeof(uint64_t));
}

/* Lays the arrays out in scratch; the caller fills symbols[n]. */
static inline struct merge_long merge_long_in(void *scratch, size_t n)
{
    struct merge_long m = {0};
    m.heap = scratch;
    m.links = (struct merge_link *)(m.heap + 2 * n);
    m.symbols = (struct symbol *)(m.links + n);
    return m;
}

static inline __attribute__((always_inline)) void
merge_refresh(struct merge_long *m, const struct tokenizer *t, const char *word, uint32_t at,
              merge_rank_fn *rank_of)
{
    struct merge_link *link = &m->links[at];
    link->rank = link->next == MERGE_END
                     ? MERGE_NEVER
                     : rank_of(t, word, m->symbols[at], m->symbols[link->next], &link->to);
}

/* symbols[n] → fewer, in place; returns how many. */
static inline __attribute__((always_inline)) uint32_t
merge_heap(struct merge_long *m, const struct tokenizer *t, const char *word, uint32_t n,
           merge_rank_fn *rank_of)
{
    for (uint32_t i = 0; i < n; i++)
        m->links[i] = (struct merge_link){i + 1 < n ? i + 1 : MERGE_END, i ? i - 1 : MERGE_END,
                                          MERGE_NEVER, TOKEN_NONE};
    for (uint32_t i = 0; i < n; i++) {
        merge_refresh(m, t, word, i, rank_of);
        if (m->links[i].rank != MERGE_NEVER)
            m->heap[m->n_heap++] = (uint64_t)m->links[i].rank << 32 | i;
    }
    for (uint32_t i = m->n_heap / 2; i-- > 0;)
        merge_sift_down(m, i);
    while (m->n_heap > 0) {
        uint64_t top = merge_pop(m);
        uint32_t at = (uint32_t)top;
        struct merge_link *link = &m->links[at];
        if (link->rank != (uint32_t)(top >> 32))
            continue;
        uint32_t gone = link->next;
        m->symbols[at].id = link->to;
        m->symbols[at].end = m->symbols[gone].end;
        link->next = m->links[gone].next;
        m->links[gone].rank = MERGE_NEVER;
        if (link->next != MERGE_END)
            m->links[link->next].prev = at;
        merge_refresh(m, t, word, at, rank_of);
        if (link->rank != MERGE_NEVER)
            merge_push(m, (uint64_t)link->rank << 32 | at);
        if (link->prev != MERGE_END) {
            uint32_t before = link->prev;
            merge_refresh(m, t, word, before, rank_of);
            if (m->links[before].rank != MERGE_NEVER)
                merge_push(m, (uint64_t)m->links[before].rank << 32 | before);
        }
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i != MERGE_END; i = m->links[i].next)
        m->symbols[count++] = m->symbols[i];
    return count;
}

#endif
