/* SPDX-License-Identifier: MIT
 * sequence.c — the page tables of one running sequence.
 *
 *   nodes[i]         set for full pages that are part of the tree, else NULL
 *   tables[g][i]     what a step reads or writes; NULL before first_page[g] (out of the window)
 *
 * Page i goes through: private (table set, node NULL) → full → committed (node set, one ref). */
#include <string.h>

#include "base/mem.h"
#include "cache/sequence_int.h"
#include "os/fault.h"

static uint32_t pages_max(const struct cache *c)
{
    return c->options.n_ctx / PAGE_TOKENS + 2;
}

struct sequence *sequence_new(struct cache *c, const struct cache_request *r)
{
    struct sequence *s = mem_try_new(1, sizeof *s);
    if (!s)
        return NULL;
    uint32_t n = pages_max(c);
    s->cache = c;
    s->owner = r && r->owner ? *r->owner : c->options.salt;
    s->no_cache = r && r->no_cache;
    s->tokens = mem_try_new(c->options.n_ctx + 1, sizeof *s->tokens);
    s->nodes = mem_try_new(n, sizeof *s->nodes);
    s->keep = mem_try_new(n, 1);
    bool ok = s->tokens && s->nodes && s->keep;
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        s->tables[g] = mem_try_new(n, sizeof(void *));
        ok = ok && s->tables[g];
    }
    uint32_t n_points = r ? r->n_points : 0;
    s->points = mem_try_new(n_points + 1, sizeof *s->points);
    ok = ok && s->points;
    if (!ok) {
        sequence_free(s);
        return NULL;
    }
    if (n_points)
        memcpy(s->points, r->points, n_points * sizeof *s->points);
    s->n_points = n_points;
    if (r) {
        memcpy(s->tokens, r->tokens, r->n_tokens * sizeof *s->tokens);
        if (n_points == 0 || s->points[n_points - 1] < r->n_tokens)
            s->points[s->n_points++] = r->n_tokens; /* the prompt's end */
        if (r->shared_at > 0)
            s->shared[s->n_shared++] = r->shared_at;
    }
    return s;
}

void sequence_free(struct sequence *s)
{
    if (!s)
        return;
    for (uint32_t g = 0; g < CACHE_GROUPS_MAX; g++)
        mem_free(s->tables[g]);
    mem_free(s->points);
    mem_free(s->keep);
    mem_free(s->nodes);
    mem_free(s->tokens);
    mem_free(s);
}

uint32_t window_first_page(const struct cache *c, uint32_t group, uint32_t valid)
{
    uint32_t window = c->options.groups[group].window;
    return window && valid >= window ? (valid - window + 1) / PAGE_TOKENS : 0;
}

static void ref_page(struct sequence *s, uint32_t index, uint32_t group)
{
    struct page *p = &s->nodes[index]->pages[group];
    CHECK(p->where != PAGE_NONE && !p->is_bad);
    p->refs++;
    s->cache->stats.n_references++;
    node_update_idle(s->cache, s->nodes[index]);
    s->tables[group][index] = p->data;
    if (p->where == PAGE_MAPPED && p->n_verified < s->cache->options.groups[group].n_layers)
        s->has_unverified = true;
}

/* The page that will be copied into the sequence's own before the next step. */
static void hold_tail(struct sequence *s, struct node *tail)
{
    CHECK(tail != NULL);
    s->tail = tail;
    tail->holds++;
    for (uint32_t g = 0; g < s->cache->options.n_groups; g++)
        tail->pages[g].refs++;
    s->cache->stats.n_references += s->cache->options.n_groups;
    node_update_idle(s->cache, tail);
}

void sequence_take_path(struct sequence *s, struct node **path, uint32_t n_path, struct node *tail,
                        uint32_t resume)
{
    struct cache *c = s->cache;
    uint32_t n_full = resume / PAGE_TOKENS;
    CHECK(n_full <= n_path);
    for (uint32_t i = 0; i < n_full; i++) {
        s->nodes[i] = path[i];
        path[i]->holds++;
    }
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        s->first_page[g] = window_first_page(c, g, resume);
        if (s->first_page[g] > n_full)
            s->first_page[g] = n_full;
        for (uint32_t i = s->first_page[g]; i < n_full; i++)
            ref_page(s, i, g);
    }
    s->n_pages = n_full;
    s->n_valid = resume;
    while (s->next_point < s->n_points && s->points[s->next_point] <= resume)
        s->next_point++;
    s->tail_tokens = resume % PAGE_TOKENS;
    if (s->tail_tokens > 0) {
        hold_tail(s, n_full < n_path ? path[n_full] : tail);
        /* `resume` stays a resumable point through the page that grows here. */
        s->keep[n_full] = KEEP_POINT;
    }
}

uint32_t sequence_valid(const struct sequence *s)
{
    return s->n_valid;
}

static void release_tail(struct sequence *s)
{
    if (!s->tail)
        return;
    for (uint32_t g = 0; g < s->cache->options.n_groups; g++)
        page_unref(s->cache, s->tail, g);
    s->tail->holds--;
    s->tail = NULL;
}

/* Copies the first tail_tokens of the page that the look-up found into page n_pages, our own. */
static enum status copy_tail_group(struct sequence *s, uint32_t g, struct err *e)
{
    struct cache *c = s->cache;
    const struct page *p = &s->tail->pages[g];
    enum status st = verify_page(c, s->tail, g, e);
    if (st != OK) {
        verify_quarantine(c, s->tail, g, e->msg);
        return err_set(e, E_CORRUPT, "a stored page failed verification");
    }
    void *data;
    st = pool_take(c, g, &data, e);
    if (st != OK)
        return st;
    uint64_t faults = os_fault_count();
    if (p->where == PAGE_MAPPED && s->tail->n_tokens < PAGE_TOKENS)
        pool_expand(c, g, data, p->data, s->tail->n_tokens);
    else
        memcpy(data, p->data, c->options.groups[g].page_bytes);
    if (p->where == PAGE_MAPPED && os_fault_count() != faults) {
        /* The mapping lost its bytes since it was verified: what was copied are zeros. */
        pool_give(c, g, data);
        s->tail->pages[g].n_verified = 0;
        verify_quarantine(c, s->tail, g, "torn mapping");
        return err_set(e, E_CORRUPT, "a stored page failed verification");
    }
    s->tables[g][s->n_pages] = data;
    return OK;
}

static enum status copy_tail(struct sequence *s, struct err *e)
{
    struct cache *c = s->cache;
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        enum status st = copy_tail_group(s, g, e);
        if (st != OK) {
            while (g-- > 0)
                pool_give(c, g, s->tables[g][s->n_pages]);
            return st;
        }
    }
    s->n_pages++;
    release_tail(s);
    return OK;
}

static enum status add_private_page(struct sequence *s, struct err *e)
{
    struct cache *c = s->cache;
    CHECK(s->n_pages < pages_max(c));
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        enum status st = pool_take(c, g, &s->tables[g][s->n_pages], e);
        if (st != OK) {
            while (g-- > 0)
                pool_give(c, g, s->tables[g][s->n_pages]);
            return st;
        }
    }
    s->n_pages++;
    return OK;
}

enum status sequence_reserve(struct sequence *s, uint32_t n_tokens, struct err *e)
{
    struct cache *c = s->cache;
    CHECK(s->n_valid + n_tokens <= c->options.n_ctx);
    uint32_t need = (s->n_valid + n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
    uint64_t bytes = 0;
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        bytes += (need > s->n_pages ? need - s->n_pages : 0) * c->options.groups[g].page_bytes;
    if (bytes > 0 && !pool_make_room(c, bytes))
        return err_set(e, E_LIMIT, "KV memory is full (%llu MiB)",
                       (unsigned long long)(c->options.max_bytes >> 20));
    enum status st = s->tail ? copy_tail(s, e) : OK;
    while (st == OK && s->n_pages < need)
        st = add_private_page(s, e);
    return st;
}

struct sequence_pages sequence_pages(const struct sequence *s, uint32_t group, uint32_t n_tokens)
{
    uint32_t first = s->first_page[group];
    uint32_t end = (s->n_valid + n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
    CHECK(end <= s->n_pages);
    return (struct sequence_pages){s->tables[group] + first, first, end - first};
}

/* ---- committing pages to the tree ---- */

static struct node *parent_of(const struct sequence *s, uint32_t index)
{
    return index > 0 ? s->nodes[index - 1] : &s->cache->root;
}

/* Gives a private page to its node, or drops it where the node has one already (same bits). */
static void give_page(struct sequence *s, struct node *n, uint32_t index, uint32_t g)
{
    struct cache *c = s->cache;
    struct page *p = &n->pages[g];
    void *mine = s->tables[g][index];
    if (!mine)
        return; /* left the window before it was full: impossible for group 0 */
    if (p->where == PAGE_NONE) {
        p->where = PAGE_MEMORY;
        p->data = mine;
        p->is_durable = p->is_bad = p->is_kept = p->is_shared = false;
    } else {
        pool_give(c, g, mine);
    }
}

static void keep_page(struct cache *c, struct node *n, uint32_t g, enum keep why)
{
    n->pages[g].is_kept = true;
    n->pages[g].is_shared |= why == KEEP_SHARED;
    node_update_idle(c, n);
    persist_page(c, n, g);
}

/* Page `index` is full: it becomes a node, shared with whoever has the same tokens. */
static enum status commit_page(struct sequence *s, uint32_t index, struct err *e)
{
    struct cache *c = s->cache;
    struct node *parent = parent_of(s, index);
    const uint32_t *tokens = s->tokens + index * PAGE_TOKENS;
    struct node *n = node_find_child(parent, &s->owner, tokens, PAGE_TOKENS);
    if (!n) {
        struct digest chain = key_chain(c, &s->owner, &parent->chain, tokens, PAGE_TOKENS);
        n = node_add_child(c, parent, &s->owner, tokens, PAGE_TOKENS, &chain);
        if (!n)
            return err_set(e, E_NOMEM, "no memory for a page's node");
    }
    n->holds++;
    s->nodes[index] = n;
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        if (!s->tables[g][index])
            continue;
        give_page(s, n, index, g);
        ref_page(s, index, g);
        if (!c->options.groups[g].window || s->keep[index])
            keep_page(c, n, g, s->keep[index]);
    }
    return OK;
}

/* Position `at` becomes resumable: the pages that a query there sees are kept.  A shared one is so
 * with all of its page before it, since texts that end alike may end in other tokens. */
static void mark_point(struct sequence *s, uint32_t at, enum keep why)
{
    struct cache *c = s->cache;
    if (s->no_cache || at == 0)
        return;
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        if (!c->options.groups[g].window)
            continue;
        uint32_t last = (at - 1) / PAGE_TOKENS;
        uint32_t seen_from = why == KEEP_SHARED ? last * PAGE_TOKENS : at;
        for (uint32_t i = window_first_page(c, g, seen_from); i <= last; i++) {
            if (s->keep[i] < why)
                s->keep[i] = why;
            if (s->nodes[i] && s->tables[g][i])
                keep_page(c, s->nodes[i], g, why);
        }
    }
}

static void mark_points(struct sequence *s, uint32_t from, uint32_t to)
{
    for (uint32_t at = (from / CACHE_POINT_TOKENS + 1) * CACHE_POINT_TOKENS; at <= to;
         at += CACHE_POINT_TOKENS)
        mark_point(s, at, KEEP_POINT);
    while (s->next_point < s->n_points && s->points[s->next_point] <= to)
        mark_point(s, s->points[s->next_point++], KEEP_POINT);
    for (uint32_t i = 0; i < s->n_shared; i++)
        if (s->shared[i] > from && s->shared[i] <= to)
            mark_point(s, s->shared[i], KEEP_SHARED);
}

static bool has_window(const struct sequence *s, uint32_t at)
{
    for (uint32_t g = 0; g < s->cache->options.n_groups; g++)
        if (s->first_page[g] > window_first_page(s->cache, g, at))
            return false;
    return true;
}

void sequence_share(struct sequence *s, uint32_t at)
{
    for (uint32_t i = 0; i < s->n_shared; i++)
        if (s->shared[i] == at)
            return; /* many part in the same place */
    if (at <= s->n_valid && has_window(s, at))
        mark_point(s, at, KEEP_SHARED);
    else if (at > s->n_valid && s->n_shared < SHARED_MAX)
        s->shared[s->n_shared++] = at;
}

/* Releases page i of group g from the table. */
static void release_page(struct sequence *s, uint32_t g, uint32_t i)
{
    struct cache *c = s->cache;
    if (!s->tables[g][i])
        return;
    if (s->nodes[i])
        page_unref(c, s->nodes[i], g);
    else
        pool_give(c, g, s->tables[g][i]);
    s->tables[g][i] = NULL;
}

static void slide_windows(struct sequence *s)
{
    struct cache *c = s->cache;
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        uint32_t first = window_first_page(c, g, s->n_valid);
        for (; s->first_page[g] < first; s->first_page[g]++)
            release_page(s, g, s->first_page[g]);
    }
}

enum status sequence_append(struct sequence *s, const uint32_t *tokens, uint32_t n_tokens,
                            struct err *e)
{
    struct cache *c = s->cache;
    CHECK((s->n_valid + n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS <= s->n_pages);
    uint32_t from = s->n_valid;
    memmove(s->tokens + from, tokens, n_tokens * sizeof *tokens);
    s->n_valid += n_tokens;
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        c->stats.new_kv_bytes += c->options.groups[g].page_bytes / PAGE_TOKENS * n_tokens;
    mark_points(s, from, s->n_valid); /* before pages leave the window */
    if (!s->no_cache) {
        for (uint32_t i = from / PAGE_TOKENS; i < s->n_valid / PAGE_TOKENS; i++) {
            enum status st = commit_page(s, i, e);
            if (st != OK)
                return st;
        }
    }
    slide_windows(s);
    return OK;
}

/* ---- forks and ends ---- */

/* Page i of the fork: the same node where there is one, else a copy of the private page. */
static enum status fork_page(struct sequence *f, const struct sequence *s, uint32_t g, uint32_t i,
                             struct err *e)
{
    struct cache *c = s->cache;
    if (s->nodes[i]) {
        if (s->tables[g][i])
            ref_page(f, i, g);
        return OK;
    }
    uint64_t bytes = c->options.groups[g].page_bytes;
    if (!pool_make_room(c, bytes))
        return err_set(e, E_LIMIT, "KV memory is full: no room for another choice");
    enum status st = pool_take(c, g, &f->tables[g][i], e);
    if (st == OK)
        memcpy(f->tables[g][i], s->tables[g][i], bytes);
    return st;
}

enum status sequence_fork(struct sequence *s, struct sequence **out, struct err *e)
{
    struct cache *c = s->cache;
    struct sequence *f = sequence_new(c, NULL);
    if (!f)
        return err_set(e, E_NOMEM, "no memory for another choice");
    c->n_sequences++;
    memcpy(f->tokens, s->tokens, s->n_valid * sizeof *s->tokens);
    f->no_cache = s->no_cache;
    f->owner = s->owner;
    f->n_valid = s->n_valid;
    f->n_pages = s->n_pages;
    f->has_unverified = s->has_unverified;
    for (uint32_t i = 0; i < s->n_pages; i++) {
        f->nodes[i] = s->nodes[i];
        if (f->nodes[i])
            f->nodes[i]->holds++;
    }
    enum status st = OK;
    for (uint32_t g = 0; st == OK && g < c->options.n_groups; g++) {
        f->first_page[g] = s->first_page[g];
        for (uint32_t i = f->first_page[g]; st == OK && i < s->n_pages; i++)
            st = fork_page(f, s, g, i, e);
    }
    if (s->tail) {
        f->tail_tokens = s->tail_tokens;
        hold_tail(f, s->tail);
    }
    if (st != OK) {
        sequence_finish(f, false);
        return st;
    }
    *out = f;
    return OK;
}

struct digest sequence_chain(struct sequence *s)
{
    uint32_t n_full = s->n_valid / PAGE_TOKENS, n = s->n_valid % PAGE_TOKENS, known = n_full;
    while (known > 0 && !s->nodes[known - 1])
        known--; /* without the cache there are no nodes */
    struct digest chain = parent_of(s, known)->chain;
    for (; known < n_full; known++)
        chain =
            key_chain(s->cache, &s->owner, &chain, s->tokens + known * PAGE_TOKENS, PAGE_TOKENS);
    return n ? key_chain(s->cache, &s->owner, &chain, s->tokens + n_full * PAGE_TOKENS, n) : chain;
}

/* The partial page at the end becomes a node of its own: a copy when the sequence goes on. */
static void commit_tail(struct sequence *s, bool goes_on)
{
    struct cache *c = s->cache;
    uint32_t index = s->n_valid / PAGE_TOKENS, n_tokens = s->n_valid % PAGE_TOKENS;
    if (n_tokens == 0 || index >= s->n_pages || s->tail)
        return; /* nothing of our own behind the last full page */
    struct node *parent = parent_of(s, index);
    const uint32_t *tokens = s->tokens + index * PAGE_TOKENS;
    struct node *n = node_find_child(parent, &s->owner, tokens, n_tokens);
    if (!n) {
        struct digest chain = sequence_chain(s);
        n = node_add_child(c, parent, &s->owner, tokens, n_tokens, &chain);
    }
    if (!n)
        return; /* a convenience lost, no error */
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        struct page *p = &n->pages[g];
        struct err e;
        if (p->where != PAGE_NONE) {
            /* Known already, but perhaps the disk refused it then. */
            keep_page(c, n, g, KEEP_POINT);
            continue;
        }
        if (goes_on) {
            if (!pool_make_room(c, c->options.groups[g].page_bytes) ||
                pool_take(c, g, &p->data, &e) != OK)
                continue;
            memcpy(p->data, s->tables[g][index], c->options.groups[g].page_bytes);
        } else {
            p->data = s->tables[g][index];
            s->tables[g][index] = NULL;
        }
        p->where = PAGE_MEMORY;
        p->is_durable = p->is_bad = false;
        keep_page(c, n, g, KEEP_POINT);
        node_update_idle(c, n);
    }
    node_touch(c, n);
}

static void persist_node(struct cache *c, struct node *n)
{
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        if (!c->options.groups[g].window || n->pages[g].is_kept)
            persist_page(c, n, g);
}

/* Pages that could not be queued before (the store's queue was full, the disk was). */
static void persist_rest(struct sequence *s)
{
    for (uint32_t i = 0; i < s->n_valid / PAGE_TOKENS; i++)
        if (s->nodes[i])
            persist_node(s->cache, s->nodes[i]);
    if (s->tail)
        persist_node(s->cache, s->tail);
}

void sequence_keep_end(struct sequence *s)
{
    if (s->no_cache)
        return;
    mark_point(s, s->n_valid, KEEP_POINT);
    commit_tail(s, true);
}

void sequence_keep_head(struct sequence *s, const float *logits)
{
    if (s->no_cache)
        return;
    struct cache *c = s->cache;
    struct digest chain = sequence_chain(s);
    uint32_t index = s->n_valid / PAGE_TOKENS;
    head_keep(c, &chain, logits);
    persist_head(c, parent_of(s, index), index, &chain, logits);
}

void sequence_finish(struct sequence *s, bool keep)
{
    struct cache *c = s->cache;
    if (keep && !s->no_cache) {
        uint32_t n_full = s->n_valid / PAGE_TOKENS;
        if (n_full > 0)
            /* From now on its end is evicted before its root. */
            node_touch(c, s->nodes[n_full - 1]);
        mark_point(s, s->n_valid, KEEP_POINT);
        commit_tail(s, false);
        persist_rest(s);
    }
    for (uint32_t i = s->n_pages; i-- > 0;) /* so that memory is taken from its end first */
        for (uint32_t g = 0; g < c->options.n_groups; g++)
            if (i >= s->first_page[g])
                release_page(s, g, i); /* a table entry that is NULL is skipped */
    for (uint32_t i = 0; i < s->n_pages; i++)
        if (s->nodes[i])
            s->nodes[i]->holds--;
    release_tail(s);
    CHECK(c->n_sequences > 0);
    c->n_sequences--;
    sequence_free(s);
}
