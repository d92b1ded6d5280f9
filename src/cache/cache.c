/* SPDX-License-Identifier: MIT
 * cache.c — making and ending a cache, and the look-up: which pages does a prompt have already. */
#include <string.h>

#include "base/mem.h"
#include "cache/cache_int.h"
#include "cache/sequence_int.h"
#include "os/clock.h"

#define READ_AHEAD_PAGES_MIN 4u /* fewer are read as fast by who needs them */

enum status cache_new(const struct cache_options *options, struct cache **out, struct err *e)
{
    CHECK(options->n_groups >= 1 && options->n_groups <= CACHE_GROUPS_MAX);
    for (uint32_t g = 0; g < options->n_groups; g++) {
        const struct cache_group *group = &options->groups[g];
        CHECK(group->page_bytes == group->chunk_bytes * 2 * group->n_layers);
        if (group->n_layers * 2 > STORE_CHUNKS_MAX)
            return err_set(e, E_LIMIT, "%u layers in one group: at most %u", group->n_layers,
                           STORE_CHUNKS_MAX / 2);
    }
    struct cache *c = mem_try_new(1, sizeof *c);
    if (!c)
        return err_set(e, E_NOMEM, "no memory for the cache");
    c->options = *options;
    c->root.chain = options->root;
    *out = c;
    return OK;
}

void cache_set_public(struct cache *c, const struct digest *owner)
{
    c->has_public = true;
    c->public_owner = *owner;
}

static void heads_free(struct cache *c)
{
    for (uint32_t i = 0; i < HEADS_MAX; i++)
        mem_free(c->heads[i].logits);
}

void cache_free(struct cache *c)
{
    if (!c)
        return;
    CHECK(c->n_sequences == 0);
    if (c->options.store)
        store_flush(c->options.store);
    cache_poll(c);
    CHECK(c->n_jobs == 0);
    node_free_all(c);
    heads_free(c);
    for (uint32_t g = 0; g < c->options.n_groups; g++)
        pool_drain(c, g);
    digester_release(&c->digester);
    mem_free(c->verify);
    mem_free(c);
}

void cache_stats(const struct cache *c, struct cache_stats *out)
{
    *out = c->stats;
    out->memory_bytes = c->memory_bytes;
    out->n_sequences = c->n_sequences;
}

/* ---- heads ---- */

static struct head *head_slot(struct cache *c, const struct digest *key)
{
    for (uint32_t i = 0; i < HEADS_MAX; i++)
        if (c->heads[i].logits && digest_equal(&c->heads[i].key, key))
            return &c->heads[i];
    return NULL;
}

void head_keep(struct cache *c, const struct digest *chain, const float *logits)
{
    struct digest key = key_head(c, chain);
    size_t bytes = (size_t)c->options.n_vocab * sizeof *logits;
    struct head *slot = head_slot(c, &key);
    uint32_t n_allowed = (uint32_t)(HEADS_BYTES_MAX / bytes);
    n_allowed = n_allowed < 1 ? 1 : n_allowed > HEADS_MAX ? HEADS_MAX : n_allowed;
    if (!slot) {
        slot = &c->heads[0];
        for (uint32_t i = 1; i < n_allowed; i++)
            if (c->heads[i].used < slot->used)
                slot = &c->heads[i];
        if (!slot->logits)
            slot->logits = mem_try_new(c->options.n_vocab, sizeof *logits);
        if (!slot->logits)
            return; /* a head is a convenience */
        slot->key = key;
    }
    if (slot->logits != logits) /* a head found here and kept again */
        memcpy(slot->logits, logits, bytes);
    slot->used = ++c->head_clock;
}

/* Logits at the end of chain: kept in memory, or read and verified from the store. */
static const float *head_find(struct cache *c, const struct digest *chain)
{
    struct digest key = key_head(c, chain);
    struct head *slot = head_slot(c, &key);
    if (slot) {
        slot->used = ++c->head_clock;
        return slot->logits;
    }
    struct store_pin pin;
    struct err e;
    if (!c->options.store || store_get(c->options.store, &key, &pin, &e) != OK)
        return NULL;
    const float *found = NULL;
    if (pin.kind == RECORD_HEAD && pin.n_chunks == 1 && pin.layout == c->options.n_vocab &&
        pin.payload_len == (uint64_t)c->options.n_vocab * sizeof(float)) {
        bool is_good =
            pin.clear ? store_verify_chunk(&pin, 0, &e) == OK : store_fault_in(&pin, &e) == OK;
        if (is_good) {
            head_keep(c, chain, (const float *)(const void *)pin.payload);
            slot = head_slot(c, &key);
            /* The copy is what counts: the mapping may lose its bytes at any moment. */
            is_good = !slot || pin.clear ||
                      checksum_equal(checksum_of(slot->logits, (size_t)pin.payload_len),
                                     store_chunk(&pin, 0).sum);
            if (slot && is_good)
                found = slot->logits;
            else if (slot)
                slot->key = (struct digest){0};
        }
        if (is_good)
            store_touch(c->options.store, &key, 1);
        else
            store_quarantine(c->options.store, &key, "head");
    }
    store_unpin(c->options.store, &pin);
    return found;
}

/* ---- the look-up ---- */

static bool is_present(const struct node *n, uint32_t group)
{
    return n->pages[group].where != PAGE_NONE && !n->pages[group].is_bad;
}

struct walk {
    struct cache *c;
    const struct cache_request *r;
    struct node **path; /* nodes of full pages matched */
    uint32_t n_path;
    struct node *tail; /* node of which only tail_tokens match, or a partial page */
    uint32_t tail_tokens;
    bool *from_disk; /* [n_path + 1]: group 0 page mapped by this look-up */
    bool is_diverged;
    uint64_t hash_ns;
    struct digest owners[2]; /* whose pages may serve: one's own, the public ones */
    uint32_t n_owners;
};

/* A stored page under parent that shares the longest prefix with tokens: the exact one, or one of
 * the two neighbours in the order of siblings. */
static struct node *load_best(struct walk *w, struct node *parent, const struct digest *owner,
                              const uint32_t *tokens, uint32_t n, uint32_t *common)
{
    struct cache *c = w->c;
    *common = 0;
    if (!c->options.store)
        return NULL;
    const struct digest *parent_chain = &parent->chain;
    uint64_t start = clock_now_ns();
    struct digest chain = key_chain(c, owner, parent_chain, tokens, n);
    struct digest key = key_page(c, 0, &chain);
    w->hash_ns += clock_now_ns() - start;
    struct node *best = n == PAGE_TOKENS ? persist_load_full(c, parent, owner, tokens, &chain, &key)
                                         : persist_load(c, parent, owner, &key);
    if (best && is_present(best, 0)) {
        *common = n;
        return best;
    }
    best = NULL;
    struct digest family = key_family(c, owner, parent_chain), keys[2];
    uint8_t order[STORE_ORDER_MAX];
    uint32_t order_len = key_order(tokens, n, order);
    uint32_t n_keys = store_neighbours(c->options.store, &family, order, order_len, keys);
    for (uint32_t i = 0; i < n_keys; i++) {
        struct node *found = persist_load(c, parent, owner, &keys[i]);
        if (!found || !is_present(found, 0))
            continue;
        uint32_t limit = found->n_tokens < n ? found->n_tokens : n;
        uint32_t k = tokens_common(found->tokens, tokens, limit);
        if (k > *common) {
            *common = k;
            best = found;
        }
    }
    return best;
}

/* The owner's best page under parent: in memory, or mapped now. */
static struct node *best_of(struct walk *w, struct node *parent, const struct digest *owner,
                            const uint32_t *tokens, uint32_t n, uint32_t *common, bool *from_disk)
{
    uint32_t stored_common = 0;
    struct node *best = node_best_child(parent, owner, tokens, n, common);
    *from_disk = false;
    if (best && !is_present(best, 0)) {
        *from_disk = !best->pages[0].is_bad && persist_map(w->c, best, 0);
        if (!*from_disk)
            best = NULL, *common = 0;
    }
    if (*common < n) {
        struct node *stored = load_best(w, parent, owner, tokens, n, &stored_common);
        if (stored && stored_common > *common) {
            best = stored;
            *common = stored_common;
            *from_disk = true;
        }
    }
    return best;
}

/* A private page may hang under a public one, never the reverse. */
static bool may_own_children(const struct walk *w, const struct node *parent, uint32_t owner)
{
    return parent == &w->c->root || owner == 0 || digest_equal(&parent->owner, &w->owners[owner]);
}

/* One page further down; false at the end of what is known. */
static bool walk_page(struct walk *w)
{
    struct cache *c = w->c;
    struct node *parent = w->n_path ? w->path[w->n_path - 1] : &c->root;
    const uint32_t *tokens = w->r->tokens + w->n_path * PAGE_TOKENS;
    uint32_t left = w->r->n_tokens - w->n_path * PAGE_TOKENS;
    uint32_t n = left < PAGE_TOKENS ? left : PAGE_TOKENS;
    if (n == 0)
        return false;
    uint32_t common = 0;
    struct node *best = NULL;
    bool from_disk = false;
    for (uint32_t i = 0; i < w->n_owners && common < n; i++) {
        uint32_t k = 0;
        bool mapped = false;
        struct node *found = may_own_children(w, parent, i)
                                 ? best_of(w, parent, &w->owners[i], tokens, n, &k, &mapped)
                                 : NULL;
        if (found && k > common) {
            best = found;
            common = k;
            from_disk = mapped;
        }
    }
    if (!best)
        return false;
    w->from_disk[w->n_path] = from_disk;
    if (common == PAGE_TOKENS) {
        w->path[w->n_path++] = best;
        return true;
    }
    w->tail = best;
    w->tail_tokens = common;
    w->is_diverged = common < n && common < best->n_tokens;
    return false;
}

/* The page of a windowed group: here, or mapped now. */
static bool has_window_page(struct cache *c, struct node *n, uint32_t group)
{
    return is_present(n, group) || (!n->pages[group].is_bad && persist_map(c, n, group));
}

static struct node *walk_node(const struct walk *w, uint32_t index)
{
    return index < w->n_path ? w->path[index] : index == w->n_path ? w->tail : NULL;
}

/* The largest position ≤ limit from which computing can start: every windowed group has all pages
 * that a query at that position sees. */
static uint32_t resumable(struct walk *w, uint32_t limit)
{
    struct cache *c = w->c;
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        if (c->options.groups[g].window == 0)
            continue;
        for (uint32_t position = limit; position > 0;) {
            uint32_t first = window_first_page(c, g, position);
            uint32_t at = (position - 1) / PAGE_TOKENS;
            bool is_whole = true;
            for (;; at--) {
                if (!has_window_page(c, walk_node(w, at), g)) {
                    is_whole = false;
                    break;
                }
                if (at == first)
                    break;
            }
            if (is_whole) {
                limit = position;
                break;
            }
            position = at * PAGE_TOKENS; /* before the page that is missing */
            limit = position;
        }
    }
    return limit;
}

static void touch_store(const struct walk *w, uint32_t n_pages)
{
    struct cache *c = w->c;
    struct digest keys[64];
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_pages; i++) {
        for (uint32_t g = 0; g < c->options.n_groups; g++) {
            const struct page *p = &walk_node(w, i)->pages[g];
            if (p->where == PAGE_MAPPED)
                keys[n++] = p->pin.key;
            if (n == ARRAY_COUNT(keys)) {
                store_touch(c->options.store, keys, n);
                n = 0;
            }
        }
    }
    if (n > 0)
        store_touch(c->options.store, keys, n);
}

static void count_sources(const struct walk *w, struct cache_match *m)
{
    for (uint32_t at = 0; at < m->resume; at += PAGE_TOKENS) {
        uint32_t n = m->resume - at < PAGE_TOKENS ? m->resume - at : PAGE_TOKENS;
        *(w->from_disk[at / PAGE_TOKENS] ? &m->disk_tokens : &m->memory_tokens) += n;
    }
}

/* Logits at the end of the prompt, if the whole prompt is known and resumable there. */
static const float *walk_head(struct walk *w, const struct cache_match *m)
{
    struct cache *c = w->c;
    if (m->matched != w->r->n_tokens || w->r->max_resume < w->r->n_tokens)
        return NULL;
    const struct node *parent = w->n_path ? w->path[w->n_path - 1] : &c->root;
    struct digest chain = parent->chain;
    if (w->tail_tokens > 0)
        chain = key_chain(c, &w->tail->owner, &parent->chain,
                          w->r->tokens + w->n_path * PAGE_TOKENS, w->tail_tokens);
    return head_find(c, &chain);
}

/* Children of others are not spoken of. */
static bool has_visible_child(const struct walk *w, const struct node *n)
{
    for (uint32_t i = 0; i < w->n_owners; i++)
        if (node_has_child(n, &w->owners[i]))
            return true;
    return false;
}

/* What the next steps will attend to and this process has not read yet is asked for from the disk
 * now, in one go: with a head at hand, the first token is out before it is in. */
static void read_ahead(const struct walk *w, uint32_t resume)
{
    struct cache *c = w->c;
    uint32_t last = (resume - 1) / PAGE_TOKENS, n = 0;
    const struct store_pin **pins =
        mem_try_new((size_t)(last + 1) * c->options.n_groups, sizeof *pins);
    for (uint32_t g = 0; pins && g < c->options.n_groups; g++) {
        uint32_t window = c->options.groups[g].window;
        uint32_t i = window && resume >= window ? (resume - window + 1) / PAGE_TOKENS : 0;
        for (; i <= last; i++) {
            const struct page *p = &walk_node(w, i)->pages[g];
            if (p->where == PAGE_MAPPED && p->n_verified == 0)
                pins[n++] = &p->pin;
        }
    }
    if (n >= READ_AHEAD_PAGES_MIN)
        store_read_ahead(c->options.store, pins, n);
    mem_free(pins);
}

static void look_up(struct walk *w, struct cache_match *m)
{
    struct cache *c = w->c;
    uint64_t start = clock_now_ns();
    while (walk_page(w))
        ;
    uint64_t walked = clock_now_ns();
    m->matched = w->n_path * PAGE_TOKENS + w->tail_tokens;
    m->is_diverged = w->is_diverged;
    if (m->matched == w->n_path * PAGE_TOKENS && m->matched < w->r->n_tokens) {
        const struct node *end = w->n_path ? w->path[w->n_path - 1] : &c->root;
        uint32_t common, left = w->r->n_tokens - m->matched;
        m->is_dropped = node_best_child(end, &w->owners[0], w->r->tokens + m->matched,
                                        left < PAGE_TOKENS ? left : PAGE_TOKENS, &common) != NULL;
        m->is_diverged = has_visible_child(w, end) && w->n_path > 0 && !m->is_dropped;
    }
    m->head = walk_head(w, m);
    uint32_t limit = m->head                       ? m->matched
                     : m->matched < w->r->n_tokens ? m->matched
                                                   : w->r->n_tokens - 1;
    if (limit > w->r->max_resume)
        limit = w->r->max_resume;
    m->resume = resumable(w, limit);
    if (m->resume < w->r->n_tokens)
        m->head = NULL; /* the logits are known, but the next step would lack its window */
    if (m->resume == w->r->n_tokens && !m->head)
        m->resume = resumable(w, w->r->n_tokens - 1);
    count_sources(w, m);
    if (m->resume > 0) {
        uint32_t last = (m->resume - 1) / PAGE_TOKENS;
        node_touch(c, walk_node(w, last));
        if (c->options.store) {
            read_ahead(w, m->resume);
            touch_store(w, last + 1);
        }
    }
    uint64_t end = clock_now_ns();
    m->hash_ms = (double)w->hash_ns * 1e-6;
    m->probe_ms = (double)(walked - start - w->hash_ns) * 1e-6;
    m->window_ms = (double)(end - walked) * 1e-6;
}

static struct walk walk_of(struct cache *c, const struct cache_request *r)
{
    uint32_t n_pages = r->n_tokens / PAGE_TOKENS + 2;
    return (struct walk){
        .c = c,
        .r = r,
        .owners = {r->owner ? *r->owner : c->options.salt, c->public_owner},
        .n_owners = c->has_public ? 2 : 1,
        .path = mem_try_new(n_pages, sizeof(struct node *)),
        .from_disk = mem_try_new(n_pages, sizeof(bool)),
    };
}

static void find_other(const struct walk *w, struct cache_explanation *x)
{
    const struct node *n = w->is_diverged ? w->tail : NULL;
    uint32_t from = n ? w->tail_tokens : 0;
    const struct node *end = w->n_path ? w->path[w->n_path - 1] : &w->c->root;
    bool is_boundary = !n && w->tail_tokens == 0 && w->n_path > 0 && x->match.is_diverged;
    for (uint32_t i = 0; is_boundary && !n && i < w->n_owners; i++)
        n = node_some_child(end, &w->owners[i]);
    for (; n && from < n->n_tokens; from++)
        x->other[x->n_other++] = n->tokens[from];
}

static struct cache_page_find find_page(const struct cache *c, const struct node *n)
{
    struct cache_page_find found = {0};
    for (uint32_t g = 0; n && g < CACHE_GROUPS_MAX; g++)
        if (g < c->options.n_groups && is_present(n, g))
            found.where[g] = n->pages[g].where == PAGE_MAPPED ? 2 : 1;
    return found;
}

enum status cache_explain(struct cache *c, const struct cache_request *r,
                          struct cache_explanation *x, struct err *e)
{
    *x = (struct cache_explanation){.n_pages = (r->n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS};
    cache_poll(c);
    struct walk w = walk_of(c, r);
    x->pages = mem_try_new(x->n_pages + 1, sizeof *x->pages);
    enum status st = OK;
    if (w.path && w.from_disk && x->pages) {
        look_up(&w, &x->match);
        x->match.head = NULL;
        for (uint32_t i = 0; i < x->n_pages; i++)
            x->pages[i] = find_page(c, walk_node(&w, i));
        find_other(&w, x);
    } else {
        st = err_set(e, E_NOMEM, "no memory to look up %u tokens", r->n_tokens);
        mem_free(x->pages);
        *x = (struct cache_explanation){0};
    }
    mem_free(w.from_disk);
    mem_free(w.path);
    return st;
}

enum status cache_begin(struct cache *c, const struct cache_request *r, struct sequence **out,
                        struct cache_match *m, struct err *e)
{
    CHECK(r->n_tokens >= 1 && r->n_tokens <= c->options.n_ctx);
    *m = (struct cache_match){0};
    cache_poll(c);
    struct sequence *s = sequence_new(c, r);
    struct walk w = walk_of(c, r);
    enum status st = OK;
    if (!s || !w.path || !w.from_disk) {
        sequence_free(s);
        st = err_set(e, E_NOMEM, "no memory for a sequence of %u tokens", r->n_tokens);
        goto out;
    }
    if (!r->no_cache)
        look_up(&w, m);
    sequence_take_path(s, w.path, w.n_path, w.tail, m->resume);
    if (m->resume < m->matched && m->matched < r->n_tokens)
        sequence_share(s, m->matched); /* who comes third parts here as well */
    c->n_sequences++;
    *out = s;
out:
    mem_free(w.from_disk);
    mem_free(w.path);
    return st;
}
