/* SPDX-License-Identifier: MIT
 * evict.c — which records go when the budget is full.
 *
 * A record's worth is the prefill that it saves a byte, halved for each EVICT_HALF_LIFE_MS since it
 * was used, and raised a little by hits:
 *
 *     log2(cost ms / bytes) − age / half life + HITS_WEIGHT · log2(hits)
 *
 * A chain is of use only from its root on, so a record is worth at least what its best descendant
 * is: leaves go first, whatever their cost.  Descendants are found by the digests of chain and
 * parent, of which the table holds eight bytes each; two chains that share them by chance share a
 * fate, no more.
 *
 * Three classes, in this order:
 *   1. heads: they save one token's prefill,
 *   2. records whose `reach` is over (pages of windowed layers, far from any end of their chain):
 *      without them a divergence there falls back to an earlier point, nothing else,
 *   3. all others.
 * Pinned chains and all they hang on are spared in classes 1 and 3.
 * An evicted record gets no tombstone: should a rebuild bring it back, it is a cache entry more. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "store/store_int.h"

#define EVICT_HALF_LIFE_MS 86400e3
#define HITS_WEIGHT        0.25  /* of half a life for each doubling */
#define GATHER_SLICE       4096u /* entries looked at under one hold of the lock */

enum victim_class { CLASS_HEAD, CLASS_OUT_OF_REACH, CLASS_OTHER };

struct victim {
    uint64_t chain, parent;
    double worth; /* INFINITY: pinned.  A float would forget milliseconds of age */
    uint32_t id, depth;
    uint8_t reach, class;
};

/* What is known of a chain: the best record that hangs under it, and how far its end is. */
struct branch {
    uint64_t chain; /* 0: free */
    double best;
    uint32_t height;
};
struct branches {
    struct branch *at;
    uint64_t mask;
};

static struct branch *branch_of(const struct branches *b, uint64_t chain)
{
    uint64_t i = chain * 0x9e3779b97f4a7c15ull >> 20 & b->mask;
    while (b->at[i].chain != 0 && b->at[i].chain != chain)
        i = (i + 1) & b->mask;
    return &b->at[i];
}

static void branch_raise(const struct branches *b, uint64_t chain, double worth, uint32_t height)
{
    struct branch *at = branch_of(b, chain);
    if (at->chain == 0)
        *at = (struct branch){chain, worth, height};
    if (worth > at->best)
        at->best = worth;
    if (height > at->height)
        at->height = height;
}

static double worth_of(const struct entry *entry, uint64_t now_ms)
{
    /* A cost that nobody measured counts as 1 ms a unit, so that age alone decides. */
    double cost = entry->cost_ms > 0 ? (double)entry->cost_ms : (double)entry->n_units;
    double age = now_ms > entry->last_used_ms ? (double)(now_ms - entry->last_used_ms) : 0;
    double hits = entry->hits > 1 ? log2((double)entry->hits) : 0;
    return log2(cost / (double)entry->n_units) - age / EVICT_HALF_LIFE_MS + HITS_WEIGHT * hits;
}

static struct victim *gather(struct store *s, uint32_t *n_out)
{
    uint64_t now = (uint64_t)clock_unix_ms();
    uint32_t n = 0, most = s->table.count;
    struct victim *v = mem_try_new(most ? most : 1, sizeof *v);
    for (uint32_t at = 0; v && at < s->table.n_used; at += GATHER_SLICE) {
        pthread_mutex_lock(&s->lock);
        for (uint32_t id = at; id < at + GATHER_SLICE && id < s->table.n_used; id++) {
            const struct entry *entry = table_at(&s->table, id);
            if (!kind_is_kv(entry->kind) || n == most)
                continue;
            v[n++] =
                (struct victim){.chain = entry->chain,
                                .parent = entry->parent,
                                .worth = worth_of(entry, now),
                                .id = id,
                                .depth = entry->depth,
                                .reach = entry->reach,
                                .class = entry->kind == RECORD_HEAD ? CLASS_HEAD : CLASS_OTHER};
        }
        pthread_mutex_unlock(&s->lock);
    }
    *n_out = n;
    return v;
}

static int deepest_first(const void *a, const void *b)
{
    const struct victim *x = a, *y = b;
    return x->depth > y->depth ? -1 : x->depth < y->depth;
}

static int victim_order(const void *a, const void *b)
{
    const struct victim *x = a, *y = b;
    if (x->class != y->class)
        return x->class < y->class ? -1 : 1;
    if (x->worth < y->worth || x->worth > y->worth)
        return x->worth < y->worth ? -1 : 1;
    if (x->depth != y->depth)
        return x->depth > y->depth ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id; /* so that a run can be repeated */
}

/* Lets each record know of what hangs under it: children before parents. */
static enum status weigh(struct store *s, struct victim *v, uint32_t n)
{
    struct branches b = {.mask = 1023};
    while (b.mask < (uint64_t)n * 2 + s->n_pinned)
        b.mask = b.mask * 2 + 1;
    b.at = mem_try_new(b.mask + 1, sizeof *b.at);
    if (!b.at)
        return E_NOMEM;
    for (uint32_t i = 0; i < s->n_pinned; i++)
        branch_raise(&b, s->pinned[i], INFINITY, 0);
    qsort(v, n, sizeof *v, deepest_first);
    for (uint32_t i = 0; i < n; i++) {
        struct victim *one = &v[i];
        if (one->chain == 0)
            continue;
        const struct branch *under = branch_of(&b, one->chain);
        bool is_known = under->chain != 0;
        uint32_t height = is_known ? under->height : 0;
        if (is_known && under->best > one->worth)
            one->worth = under->best;
        if (one->class == CLASS_HEAD)
            continue; /* its parent is the chain itself, or the page before the last */
        if (one->reach > 0 && height >= one->reach)
            one->class = CLASS_OUT_OF_REACH;
        if (one->parent != 0 && one->parent != one->chain)
            branch_raise(&b, one->parent, one->worth, height + 1);
    }
    mem_free(b.at);
    return OK;
}

/* The list that any thread may have set becomes the store thread's own. */
static void take_pins(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t *next = s->pinned_next;
    uint32_t n = s->n_pinned_next;
    s->pinned_next = NULL;
    pthread_mutex_unlock(&s->lock);
    if (!next)
        return;
    mem_free(s->pinned);
    s->pinned = next;
    s->n_pinned = n;
}

uint64_t evict_records(struct store *s, uint64_t bytes)
{
    uint32_t n, gone = 0;
    uint64_t done = 0;
    take_pins(s);
    struct victim *v = gather(s, &n);
    if (!v || weigh(s, v, n) != OK) {
        log_warn("store", "no memory to choose what to evict");
        mem_free(v);
        return 0;
    }
    qsort(v, n, sizeof *v, victim_order);
    for (uint32_t i = 0; i < n && done < bytes; i++) {
        if (isinf(v[i].worth) && v[i].class != CLASS_OUT_OF_REACH)
            continue;
        done += (uint64_t)table_at(&s->table, v[i].id)->n_units * RECORD_UNIT;
        commit_forget(s, v[i].id, true);
        gone++;
        if (s->n_changes >= STORE_PENDING_MAX / 4)
            commit_changes(s);
    }
    mem_free(v);
    commit_changes(s);
    pthread_mutex_lock(&s->lock);
    s->stat.n_evicted += gone;
    s->stat.evicted_bytes += done;
    pthread_mutex_unlock(&s->lock);
    if (gone > 0)
        log_debug("store", "evicted records=%u bytes=%llu", gone, (unsigned long long)done);
    return done;
}

uint64_t evict_name_of(const struct digest *chain)
{
    return get_le64(chain->b);
}

enum status store_keep_chains(struct store *s, const struct digest *chains, uint32_t n_chains,
                              struct err *e)
{
    if (s->is_read_only)
        return err_set(e, E_DENIED, "%s is open read-only", s->dir);
    uint64_t *names = mem_try_new(n_chains ? n_chains : 1, sizeof *names);
    if (!names)
        return err_set(e, E_NOMEM, "%u pinned chains", n_chains);
    for (uint32_t i = 0; i < n_chains; i++)
        names[i] = evict_name_of(&chains[i]);
    pthread_mutex_lock(&s->lock);
    uint64_t *old = s->pinned_next;
    s->pinned_next = names;
    s->n_pinned_next = n_chains;
    pthread_mutex_unlock(&s->lock);
    mem_free(old);
    return OK;
}
