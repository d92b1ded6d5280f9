/* SPDX-License-Identifier: MIT
 * verify.c — checksums of mapped chunks before this process first attends to them.
 * The workers of a step verify a layer's chunks just before they read them; n_verified of a page
 * counts the layers done, in the ascending order in which a step visits them.  Before its first
 * layer a page is faulted in as a whole. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "cache/cache_int.h"
#include "os/clock.h"

void verify_quarantine(struct cache *c, struct node *n, uint32_t group, const char *why)
{
    struct page *p = &n->pages[group];
    struct digest key = key_page(c, group, &n->chain);
    log_warn("cache",
             "a stored page failed verification and is computed again: depth=%u group=%u %s",
             n->depth, group, why);
    store_quarantine(c->options.store, &key, why);
    p->is_durable = false;
    p->is_bad = true;
    c->stats.n_bad_pages++;
}

static enum status check_layer(struct page *p, uint32_t slot, struct err *e)
{
    enum status st = store_check_chunk(&p->pin, 2 * slot, e);
    return st == OK ? store_check_chunk(&p->pin, 2 * slot + 1, e) : st;
}

enum status verify_page(struct cache *c, struct node *n, uint32_t group, struct err *e)
{
    struct page *p = &n->pages[group];
    uint32_t n_layers = c->options.groups[group].n_layers;
    if (p->where != PAGE_MAPPED || p->n_verified == n_layers)
        return OK;
    enum status st = persist_fault_in(c, n, group, e);
    if (st == OK && n->n_tokens < PAGE_TOKENS)
        st = store_check_chunk(&p->pin, 0, e);
    else
        for (uint32_t slot = p->n_verified; slot < n_layers && st == OK; slot++)
            st = check_layer(p, slot, e);
    if (st == OK)
        p->n_verified = (uint16_t)n_layers;
    return st;
}

static enum status list_add(struct cache *c, struct node *n, uint32_t group)
{
    if (c->n_verify == c->cap_verify) {
        uint32_t cap = c->cap_verify ? c->cap_verify * 2 : 256;
        struct verify_item *grown = mem_try_resize(c->verify, cap, sizeof *grown);
        if (!grown)
            return E_NOMEM;
        c->verify = grown;
        c->cap_verify = cap;
    }
    c->verify[c->n_verify++] = (struct verify_item){n, group};
    n->pages[group].is_listed = true;
    return OK;
}

static enum status list_sequence(struct cache *c, struct sequence *s, bool also_verified)
{
    for (uint32_t g = 0; g < c->options.n_groups; g++) {
        for (uint32_t i = s->first_page[g]; i < s->n_pages; i++) {
            struct node *n = s->nodes[i];
            if (!n)
                break;
            struct page *p = &n->pages[g];
            if (p->where != PAGE_MAPPED || p->is_listed)
                continue;
            if (also_verified)
                p->n_verified = 0;
            if (p->n_verified < c->options.groups[g].n_layers && list_add(c, n, g) != OK)
                return E_NOMEM;
        }
    }
    return OK;
}

static void list_clear(struct cache *c)
{
    for (uint32_t i = 0; i < c->n_verify; i++)
        c->verify[i].node->pages[c->verify[i].group].is_listed = false;
    c->n_verify = 0;
}

enum status cache_verify_begin(struct cache *c, struct sequence *const *sequences,
                               uint32_t n_sequences, uint32_t *n_pages, struct err *e)
{
    CHECK(c->n_verify == 0);
    atomic_store(&c->n_verify_bad, 0);
    c->fault_in_ms = c->verify_ms = 0;
    for (uint32_t i = 0; i < n_sequences; i++) {
        if (sequences[i]->has_unverified && list_sequence(c, sequences[i], false) != OK) {
            list_clear(c);
            return err_set(e, E_NOMEM, "no memory to list %u pages", c->cap_verify);
        }
    }
    *n_pages = c->n_verify;
    return OK;
}

/* The pages of the list that this worker looks after, in this layer. */
static bool is_mine(const struct cache *c, uint32_t i, uint32_t group, uint32_t slot)
{
    const struct page *p = &c->verify[i].node->pages[c->verify[i].group];
    return c->verify[i].group == group && !p->is_bad && p->n_verified == slot;
}

static void mark_bad(struct cache *c, struct page *p)
{
    p->is_bad = true;
    atomic_fetch_add(&c->n_verify_bad, 1);
}

enum status cache_before_layer(struct cache *c, uint32_t group, uint32_t slot, uint32_t worker,
                               uint32_t n_workers)
{
    struct err e;
    uint64_t start = clock_now_ns();
    for (uint32_t i = worker; slot == 0 && i < c->n_verify; i += n_workers) {
        if (is_mine(c, i, group, slot) && persist_fault_in(c, c->verify[i].node, group, &e) != OK)
            mark_bad(c, &c->verify[i].node->pages[group]);
    }
    uint64_t faulted = clock_now_ns();
    for (uint32_t i = worker; i < c->n_verify; i += n_workers) {
        struct page *p = &c->verify[i].node->pages[c->verify[i].group];
        if (!is_mine(c, i, group, slot))
            continue;
        if (check_layer(p, slot, &e) == OK)
            p->n_verified = (uint16_t)(slot + 1);
        else
            mark_bad(c, p);
    }
    if (worker == 0) {
        c->fault_in_ms += (double)(faulted - start) * 1e-6;
        c->verify_ms += clock_ms_since(faulted);
    }
    return atomic_load(&c->n_verify_bad) > 0 ? E_CORRUPT : OK;
}

struct cache_verify_cost cache_verify_cost(const struct cache *c)
{
    return (struct cache_verify_cost){c->fault_in_ms, c->verify_ms};
}

void cache_verify_end(struct cache *c, struct sequence *const *sequences, uint32_t n_sequences,
                      bool has_fault, uint32_t *n_bad)
{
    if (has_fault) {
        /* Some mapping lost its bytes during the step: nothing verified before counts. */
        list_clear(c);
        for (uint32_t i = 0; i < n_sequences; i++)
            if (list_sequence(c, sequences[i], true) != OK)
                break; /* the pages not listed are checked when they are next looked up */
        for (uint32_t i = 0; i < c->n_verify; i++) {
            struct err e;
            if (verify_page(c, c->verify[i].node, c->verify[i].group, &e) != OK)
                c->verify[i].node->pages[c->verify[i].group].is_bad = true;
        }
    }
    /* One bad page is rarely alone: all others are checked to their end now, so that a damaged
     * chain costs one restart and not one a layer. */
    if (atomic_load(&c->n_verify_bad) > 0) {
        for (uint32_t i = 0; i < c->n_verify; i++) {
            struct err e;
            struct verify_item item = c->verify[i];
            if (!item.node->pages[item.group].is_bad &&
                verify_page(c, item.node, item.group, &e) != OK)
                item.node->pages[item.group].is_bad = true;
        }
    }
    *n_bad = 0;
    for (uint32_t i = 0; i < c->n_verify; i++) {
        struct node *n = c->verify[i].node;
        if (n->pages[c->verify[i].group].is_bad) {
            verify_quarantine(c, n, c->verify[i].group, has_fault ? "torn mapping" : "checksum");
            (*n_bad)++;
        }
    }
    if (*n_bad == 0 && !has_fault)
        for (uint32_t i = 0; i < n_sequences; i++)
            sequences[i]->has_unverified = false;
    list_clear(c);
}
