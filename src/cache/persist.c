/* SPDX-License-Identifier: MIT
 * persist.c — pages and heads on their way to the store and back.
 * A put reads a page's memory until it is durable; the page is is_queued meanwhile, nobody writes
 * to it (full pages and finished tails never change) and nobody frees it.  `done` runs on the
 * store's thread: it only pushes the job onto c->finished, cache_poll does the rest on the
 * engine's. */
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/cache_int.h"

/* meta of a page: u32 group, u32 n_tokens, token ids.   meta of a head: u32 n_vocab. */
#define META_PREFIX_BYTES 8u

static void on_done(void *arg, enum status st, const struct err *e)
{
    struct put_job *job = arg;
    job->st = st;
    if (st != OK && e)
        job->err = *e;
    struct put_job *head = atomic_load_explicit(&job->cache->finished, memory_order_relaxed);
    do
        job->next = head;
    while (!atomic_compare_exchange_weak_explicit(&job->cache->finished, &head, job,
                                                  memory_order_release, memory_order_relaxed));
}

/* Queues; on failure the job is freed and the data stays in memory only. */
static bool queue_put(struct cache *c, struct put_job *job, struct store_put *put)
{
    struct err e;
    put->done = on_done;
    put->arg = job;
    if (store_put(c->options.store, put, &e) == OK) {
        c->n_jobs++;
        return true;
    }
    c->stats.n_put_failed++;
    mem_free(job->buffer);
    mem_free(job);
    return false;
}

static struct put_job *job_new(struct cache *c, struct node *n, uint32_t group, size_t buffer_bytes)
{
    struct put_job *job = mem_try_new(1, sizeof *job);
    if (!job)
        return NULL;
    *job = (struct put_job){.cache = c, .node = n, .group = group};
    if (buffer_bytes) {
        job->buffer = mem_try_aligned(64, buffer_bytes);
        if (!job->buffer) {
            mem_free(job);
            return NULL;
        }
    }
    return job;
}

static bool can_write(const struct cache *c)
{
    return c->options.store && !c->options.store_read_only;
}

static void fill_meta(uint8_t *meta, uint32_t group, const struct node *n)
{
    put_le32(meta, group);
    put_le32(meta + 4, n->n_tokens);
    memcpy(meta + META_PREFIX_BYTES, n->tokens, n->n_tokens * sizeof n->tokens[0]);
}

void cache_note_pace(struct cache *c, double ms_per_token)
{
    c->ms_per_token = ms_per_token;
}

/* Of computing this group's page again.  Groups share the cost by their bytes, so that the pages of
 * one chain are worth the same a byte and go together. */
static float cost_of(const struct cache *c, uint32_t group, uint32_t n_tokens)
{
    uint64_t all = 0;
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        all += c->options.groups[g].page_bytes;
    double share = (double)c->options.groups[group].page_bytes / (double)all;
    return (float)(c->ms_per_token * n_tokens * share);
}

/* A windowed page serves only what lies less than a window behind it. */
static uint32_t reach_of(const struct cache *c, uint32_t group)
{
    uint32_t window = c->options.groups[group].window;
    uint32_t n = window ? (window + PAGE_TOKENS - 2) / PAGE_TOKENS + 1 : 0;
    return n <= STORE_REACH_MAX ? n : 0;
}

void persist_page(struct cache *c, struct node *n, uint32_t group)
{
    struct page *p = &n->pages[group];
    if (!can_write(c) || p->where != PAGE_MEMORY || p->is_durable || p->is_queued)
        return;
    const struct cache_group *g = &c->options.groups[group];
    bool is_tail = n->n_tokens < PAGE_TOKENS;
    uint64_t tail_bytes = is_tail ? pool_compact_bytes(c, group, n->n_tokens) : 0;
    struct put_job *job = job_new(c, n, group, tail_bytes);
    struct store_chunk *chunks = mem_try_new(g->n_layers * 2, sizeof *chunks);
    if (!job || !chunks)
        goto out;
    uint32_t n_chunks = 0;
    if (is_tail) {
        pool_compact(c, group, job->buffer, p->data, n->n_tokens);
        chunks[n_chunks++] = (struct store_chunk){job->buffer, tail_bytes};
    } else {
        for (; n_chunks < g->n_layers * 2; n_chunks++)
            chunks[n_chunks] = (struct store_chunk){
                (const uint8_t *)p->data + n_chunks * g->chunk_bytes, g->chunk_bytes};
    }
    uint8_t meta[META_PREFIX_BYTES + PAGE_TOKENS * 4];
    fill_meta(meta, group, n);
    struct store_put put = {
        .kind = RECORD_PAGE,
        .key = key_page(c, group, &n->chain),
        .chain = n->chain,
        .parent = n->parent == &c->root ? c->options.root : n->parent->chain,
        .layout = key_layout(c, group, n->n_tokens),
        .depth = n->depth,
        .cost_ms = cost_of(c, group, n->n_tokens),
        .reach = p->is_shared ? 0 : reach_of(c, group),
        .owner = store_owner_of(&n->owner),
        .meta = meta,
        .meta_len = META_PREFIX_BYTES + n->n_tokens * 4,
        .chunks = chunks,
        .n_chunks = n_chunks,
    };
    if (group == 0) { /* siblings are found through the pages of group 0 */
        put.family = key_family(c, &n->owner, &put.parent);
        put.order_len = key_order(n->tokens, n->n_tokens, put.order);
    }
    p->is_queued = true;
    n->holds++;
    if (!queue_put(c, job, &put)) {
        p->is_queued = false;
        n->holds--;
    }
    node_update_idle(c, n);
    job = NULL;
out:
    if (job) {
        mem_free(job->buffer);
        mem_free(job);
    }
    mem_free(chunks);
}

void persist_head(struct cache *c, const struct node *parent, uint32_t depth,
                  const struct digest *chain, const float *logits)
{
    if (!can_write(c))
        return;
    struct digest key = key_head(c, chain);
    if (store_has(c->options.store, &key))
        return;
    size_t bytes = (size_t)c->options.n_vocab * sizeof(float);
    struct put_job *job = job_new(c, NULL, 0, bytes);
    if (!job)
        return;
    memcpy(job->buffer, logits, bytes);
    uint8_t meta[4];
    put_le32(meta, c->options.n_vocab);
    struct store_chunk chunk = {job->buffer, bytes};
    struct store_put put = {
        .kind = RECORD_HEAD,
        .key = key,
        .chain = *chain,
        .parent = parent == &c->root ? c->options.root : parent->chain,
        .layout = c->options.n_vocab,
        .depth = depth,
        .cost_ms = (float)c->ms_per_token,
        .owner = store_owner_of(&parent->owner),
        .meta = meta,
        .meta_len = sizeof meta,
        .chunks = &chunk,
        .n_chunks = 1,
    };
    (void)queue_put(c, job, &put);
}

static void finish_page(struct cache *c, struct put_job *job)
{
    struct node *n = job->node;
    struct page *p = &n->pages[job->group];
    CHECK(p->is_queued && n->holds > 0);
    p->is_queued = false;
    n->holds--;
    if (job->st == OK)
        p->is_durable = true;
    node_update_idle(c, n);
    if (p->refs == 0 && p->where == PAGE_MEMORY && p->is_durable &&
        !store_encrypts(c->options.store)) {
        page_drop(c, n, job->group);
        (void)persist_map(c, n, job->group);
    }
}

void cache_poll(struct cache *c)
{
    struct put_job *job = atomic_exchange_explicit(&c->finished, NULL, memory_order_acquire);
    while (job) {
        struct put_job *next = job->next;
        if (job->st != OK) {
            c->stats.n_put_failed++;
            if (!c->has_put_warned)
                log_warn("cache", "not kept on disk: %s; serving goes on from memory",
                         job->err.msg);
            c->has_put_warned = true;
        }
        if (job->node)
            finish_page(c, job);
        c->n_jobs--;
        mem_free(job->buffer);
        mem_free(job);
        job = next;
    }
    node_trim(c);
}

/* ---- and back ---- */

/* A pinned record is the page it should be: kind, group, token ids, payload size. */
static bool is_page(const struct cache *c, const struct store_pin *pin, uint32_t group)
{
    if (pin->kind != RECORD_PAGE || pin->meta_len < META_PREFIX_BYTES ||
        get_le32(pin->meta) != group)
        return false;
    uint32_t n = get_le32(pin->meta + 4);
    if (n < 1 || n > PAGE_TOKENS || pin->meta_len != META_PREFIX_BYTES + n * 4 ||
        pin->layout != key_layout(c, group, n))
        return false;
    if (n < PAGE_TOKENS)
        return pin->n_chunks == 1 && pin->payload_len == pool_compact_bytes(c, group, n);
    return pin->n_chunks == c->options.groups[group].n_layers * 2 &&
           pin->payload_len == c->options.groups[group].page_bytes;
}

static void attach(struct cache *c, struct node *n, uint32_t group, const struct store_pin *pin)
{
    struct page *p = &n->pages[group];
    CHECK(p->where == PAGE_NONE);
    p->where = PAGE_MAPPED;
    p->pin = *pin;
    p->data = (void *)(uintptr_t)pin->payload; /* never written: MAPPED pages are not private */
    p->is_durable = true;
    p->is_kept = true;
    p->is_bad = false;
    p->n_verified = 0;
    c->stats.n_pages_mapped++;
    c->stats.mapped_bytes += pin->payload_len;
    c->stats.read_bytes += pin->payload_len;
    if (pin->clear) /* decrypted into memory: it counts as such, and may be dropped as such */
        c->memory_bytes += pin->payload_len;
    node_update_idle(c, n);
}

static bool is_page_of(const struct cache *c, const struct store_pin *pin, const struct node *n,
                       uint32_t group)
{
    return is_page(c, pin, group) && get_le32(pin->meta + 4) == n->n_tokens &&
           memcmp(pin->meta + META_PREFIX_BYTES, n->tokens, n->n_tokens * 4) == 0 &&
           digest_equal(&pin->chain, &n->chain);
}

/* Of a page whose tokens are known the key says all: it is read, and compared with what it should
 * be, when it is about to be used (verify.c).  Tails are copied at once, and read at once. */
static enum status get_page(struct cache *c, const struct digest *key, uint32_t group,
                            uint32_t n_tokens, struct store_pin *pin)
{
    struct err e;
    return n_tokens == PAGE_TOKENS ? store_get_unread(c->options.store, key,
                                                      c->options.groups[group].page_bytes, pin, &e)
                                   : store_get(c->options.store, key, pin, &e);
}

bool persist_map(struct cache *c, struct node *n, uint32_t group)
{
    if (!c->options.store)
        return false;
    struct digest key = key_page(c, group, &n->chain);
    struct store_pin pin;
    if (get_page(c, &key, group, n->n_tokens, &pin) != OK) {
        n->pages[group].is_durable = false; /* evicted meanwhile, or damaged */
        return false;
    }
    if (!pin.is_unread && !is_page_of(c, &pin, n, group)) {
        store_unpin(c->options.store, &pin);
        return false;
    }
    attach(c, n, group, &pin);
    return true;
}

enum status persist_fault_in(const struct cache *c, struct node *n, uint32_t group, struct err *e)
{
    struct store_pin *pin = &n->pages[group].pin;
    bool was_unread = pin->is_unread;
    enum status st = store_fault_in(pin, e);
    if (st == OK && was_unread && !is_page_of(c, pin, n, group))
        st = err_set(e, E_CORRUPT, "not the page that its key names");
    return st;
}

struct node *persist_load_full(struct cache *c, struct node *parent, const struct digest *owner,
                               const uint32_t *tokens, const struct digest *chain,
                               const struct digest *key)
{
    struct node *n = node_find_child(parent, owner, tokens, PAGE_TOKENS);
    if (!n) {
        if (!store_has(c->options.store, key))
            return NULL;
        n = node_add_child(c, parent, owner, tokens, PAGE_TOKENS, chain);
    }
    if (!n || (n->pages[0].where == PAGE_NONE && !persist_map(c, n, 0)))
        return NULL;
    return n;
}

struct node *persist_load(struct cache *c, struct node *parent, const struct digest *owner,
                          const struct digest *page_key)
{
    struct store_pin pin;
    struct err e;
    if (store_get(c->options.store, page_key, &pin, &e) != OK)
        return NULL;
    struct node *n = NULL;
    const struct digest *expected = parent == &c->root ? &c->options.root : &parent->chain;
    if (!is_page(c, &pin, 0) || !digest_equal(&pin.parent, expected))
        goto out;
    uint32_t tokens[PAGE_TOKENS];
    uint32_t n_tokens = get_le32(pin.meta + 4);
    memcpy(tokens, pin.meta + META_PREFIX_BYTES, n_tokens * 4);
    n = node_find_child(parent, owner, tokens, n_tokens);
    if (!n)
        n = node_add_child(c, parent, owner, tokens, n_tokens, &pin.chain);
    if (!n || n->pages[0].where != PAGE_NONE)
        goto out;
    attach(c, n, 0, &pin);
    return n;
out:
    store_unpin(c->options.store, &pin);
    return n && n->pages[0].where != PAGE_NONE ? n : NULL;
}
