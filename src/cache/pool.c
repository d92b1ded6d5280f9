/* SPDX-License-Identifier: MIT
 * pool.c — memory of KV pages: taken from the kernel page by page, so that what is given back is
 * really gone from RssAnon. */
#include <string.h>
#include <sys/mman.h>

#include "cache/sequence_int.h"

static uint64_t mapped_bytes(const struct cache *c, uint32_t group)
{
    return (c->options.groups[group].page_bytes + 4095) & ~(uint64_t)4095;
}

enum status pool_take(struct cache *c, uint32_t group, void **data, struct err *e)
{
    uint64_t bytes = mapped_bytes(c, group);
    if (c->n_free_pages[group] > 0) {
        *data = c->free_pages[group][--c->n_free_pages[group]];
    } else {
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return err_set(e, E_LIMIT, "no memory for a KV page of %llu bytes",
                           (unsigned long long)bytes);
        *data = p;
    }
    c->memory_bytes += bytes;
    c->stats.n_pages_memory++;
    return OK;
}

void pool_give(struct cache *c, uint32_t group, void *data)
{
    uint64_t bytes = mapped_bytes(c, group);
    CHECK(c->memory_bytes >= bytes);
    c->memory_bytes -= bytes;
    c->stats.n_pages_memory--;
    if (c->n_free_pages[group] < FREE_PAGES_MAX)
        c->free_pages[group][c->n_free_pages[group]++] = data;
    else
        munmap(data, bytes);
}

void page_drop(struct cache *c, struct node *n, uint32_t group)
{
    struct page *p = &n->pages[group];
    CHECK(p->refs == 0 && !p->is_queued);
    if (p->where == PAGE_MEMORY) {
        pool_give(c, group, p->data);
    } else if (p->where == PAGE_MAPPED) {
        c->stats.n_pages_mapped--;
        c->stats.mapped_bytes -= p->pin.payload_len;
        if (p->pin.clear)
            c->memory_bytes -= p->pin.payload_len;
        store_unpin(c->options.store, &p->pin);
    }
    p->where = PAGE_NONE;
    p->data = NULL;
    p->n_verified = 0;
    node_update_idle(c, n);
}

static bool is_droppable(const struct page *p)
{
    bool is_ours = p->where == PAGE_MEMORY || (p->where == PAGE_MAPPED && p->pin.clear);
    return is_ours && p->refs == 0 && !p->is_queued;
}

/* ---- spare pages ----
 * Out of every window and part of no resumable point: not worth a place on disk, but for as long as
 * memory is at hand a prompt that parts from the chain there need not compute its window again. */

static bool is_spare(const struct cache *c, const struct node *n, uint32_t group)
{
    const struct page *p = &n->pages[group];
    return c->options.groups[group].window && !p->is_kept && p->where == PAGE_MEMORY &&
           is_droppable(p);
}

static void update_spare(struct cache *c, struct node *n)
{
    uint64_t bytes = 0;
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        bytes += is_spare(c, n, g) ? mapped_bytes(c, g) : 0;
    if (bytes == n->spare_bytes)
        return;
    if (n->spare_bytes)
        node_list_remove(c, n, NODES_SPARE);
    if (bytes)
        node_list_append(c, n, NODES_SPARE);
    c->spare_bytes += bytes - n->spare_bytes;
    n->spare_bytes = bytes;
}

static void trim_spare(struct cache *c)
{
    while (c->spare_bytes > c->options.spare_max_bytes) {
        struct node *n = c->lists[NODES_SPARE].oldest;
        for (uint32_t g = 0; g < c->options.n_groups; g++)
            if (is_spare(c, n, g))
                page_drop(c, n, g);
    }
}

void page_unref(struct cache *c, struct node *n, uint32_t group)
{
    struct page *p = &n->pages[group];
    CHECK(p->refs > 0 && c->stats.n_references > 0);
    c->stats.n_references--;
    if (--p->refs > 0 || p->is_queued)
        return;
    node_update_idle(c, n);
    if (p->is_bad) {
        page_drop(c, n, group);
    } else if (is_spare(c, n, group)) {
        trim_spare(c);
    } else if (p->where == PAGE_MEMORY && p->is_durable && !store_encrypts(c->options.store)) {
        page_drop(c, n, group); /* from now on the copy in the store's map serves */
        (void)persist_map(c, n, group);
    }
}

/* ---- pages that could be dropped ----
 * The nodes that have one are a list, in the order of last use, so that a full memory costs a step
 * a page, however many nodes there are. */

void node_update_idle(struct cache *c, struct node *n)
{
    bool is_idle = false;
    update_spare(c, n);
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        is_idle = is_idle || is_droppable(&n->pages[g]);
    if (is_idle && !n->is_idle)
        node_list_append(c, n, NODES_IDLE);
    else if (!is_idle && n->is_idle)
        node_list_remove(c, n, NODES_IDLE);
    n->is_idle = is_idle;
}

void node_touch_idle(struct cache *c, struct node *n)
{
    if (!n->is_idle)
        return;
    node_list_remove(c, n, NODES_IDLE);
    node_list_append(c, n, NODES_IDLE);
}

static bool drop_oldest(struct cache *c)
{
    struct node *n = c->lists[NODES_IDLE].oldest;
    if (!n)
        return false;
    uint32_t g = 0;
    for (; g < c->options.n_groups && !is_droppable(&n->pages[g]); g++)
        ;
    CHECK(g < c->options.n_groups);
    page_drop(c, n, g);
    c->stats.n_evicted++;
    return true;
}

bool pool_make_room(struct cache *c, uint64_t bytes)
{
    while (c->memory_bytes + bytes > c->options.max_bytes)
        if (!drop_oldest(c))
            return false;
    return true;
}

/* ---- compact tails ----
 * A chunk is planes of rows of 64 units, one unit a token (kernels.h); the compact form keeps n of
 * every 64. */

uint64_t pool_compact_bytes(const struct cache *c, uint32_t group, uint32_t n_tokens)
{
    return c->options.groups[group].page_bytes / PAGE_TOKENS * n_tokens;
}

struct copy {
    uint8_t *page, *compact; /* where it stands */
    uint32_t n_tokens;
    bool is_expand;
};

static void copy_planes(struct copy *c, const struct kv_plane *planes, uint32_t n_planes)
{
    for (uint32_t i = 0; i < n_planes; i++) {
        const size_t used = (size_t)c->n_tokens * planes[i].unit_bytes;
        for (uint32_t row = 0; row < planes[i].n_rows; row++) {
            memcpy(c->is_expand ? c->page : c->compact, c->is_expand ? c->compact : c->page, used);
            c->page += (size_t)PAGE_TOKENS * planes[i].unit_bytes;
            c->compact += used;
        }
    }
}

/* Copies between a page and its compact form, in the direction that c says. */
static void copy_tail(const struct cache *cache, uint32_t group, struct copy c)
{
    const struct cache_options *o = &cache->options;
    struct kv_plane k[2], v[2];
    const uint32_t n_planes = kv_planes(o->kv_type, false, o->head_dim, k);
    CHECK(kv_planes(o->kv_type, true, o->head_dim, v) == n_planes);
    for (uint32_t layer = 0; layer < o->groups[group].n_layers; layer++) {
        for (uint32_t head = 0; head < o->n_kv_heads; head++)
            copy_planes(&c, k, n_planes);
        for (uint32_t head = 0; head < o->n_kv_heads; head++)
            copy_planes(&c, v, n_planes);
    }
}

void pool_compact(const struct cache *c, uint32_t group, void *dst, const void *page,
                  uint32_t n_tokens)
{
    copy_tail(c, group, (struct copy){(uint8_t *)(uintptr_t)page, dst, n_tokens, false});
}

void pool_expand(const struct cache *c, uint32_t group, void *page, const void *src,
                 uint32_t n_tokens)
{
    copy_tail(c, group, (struct copy){page, (uint8_t *)(uintptr_t)src, n_tokens, true});
}

void pool_drain(struct cache *c, uint32_t group)
{
    while (c->n_free_pages[group] > 0)
        munmap(c->free_pages[group][--c->n_free_pages[group]], mapped_bytes(c, group));
}
