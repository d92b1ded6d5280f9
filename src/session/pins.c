/* SPDX-License-Identifier: MIT
 * pins.c — the pages of pinned sessions are not evicted: the store is told the names of their
 * chains. All pages' chains of a session, not its end alone: where one page is lost, those before
 * it stay. */
#include "base/log.h"
#include "base/mem.h"
#include "session/kvx_int.h"

/* Under the mutex: what the store is to spare. */
static void tell(struct sessions *b)
{
    size_t n = 0;
    struct err e;
    for (uint32_t i = 0; i < b->n_all; i++)
        n += b->all[i]->n_chains;
    struct digest *all = n <= UINT32_MAX ? mem_try_new(n + 1, sizeof *all) : NULL;
    uint32_t at = 0;
    for (uint32_t i = 0; all && i < b->n_all; i++) {
        const struct session *s = b->all[i];
        if (s->n_chains)
            memcpy(all + at, s->chains, s->n_chains * sizeof *all);
        at += s->n_chains;
    }
    if (!all || store_keep_chains(b->store, all, at, &e) != OK)
        log_warn("session", "no memory to tell which sessions are pinned");
    mem_free(all);
}

void pins_tell(struct sessions *b)
{
    if (b->is_read_only)
        return;
    pthread_mutex_lock(&b->mutex);
    tell(b);
    pthread_mutex_unlock(&b->mutex);
}

/* The chains behind each full page of it, and behind its tail. */
static struct digest *chains_of(const struct session_content *c, uint32_t *n)
{
    struct kvx_chain chain;
    struct err e;
    if (kvx_chain_init(&chain, &c->root, &c->salt, c->tokens, c->n_tokens, &e) != OK)
        return NULL;
    uint32_t n_tail = c->n_tokens % PAGE_KEY_TOKENS;
    struct digest *out = mem_try_new((size_t)chain.n_pages + 2, sizeof *out);
    *n = chain.n_pages;
    if (out) {
        memcpy(out, chain.at + 1, chain.n_pages * sizeof *out);
        for (uint32_t t = n_tail; t > 0 && t + 2 > n_tail; t--)
            out[(*n)++] = page_key_chain(&chain.digester, &c->salt, &chain.at[chain.n_pages],
                                         c->tokens + (size_t)chain.n_pages * PAGE_KEY_TOKENS, t);
    }
    kvx_chain_release(&chain);
    return out;
}

void pins_update(struct sessions *b, const struct session_id *id)
{
    char hex[2 * SESSION_ID_BYTES + 1];
    struct session_content c = {0};
    struct err e;
    uint32_t n = 0;
    struct digest *chains = NULL;
    if (b->is_read_only)
        return;
    id_hex(id, hex);
    pthread_mutex_lock(&b->mutex);
    struct session *s = book_by_id(b, id);
    bool is_pinned = s && s->pin;
    uint32_t tenant = s ? s->tenant : 0;
    pthread_mutex_unlock(&b->mutex);
    if (is_pinned && sessions_read(b, tenant, slice_of(hex), SESSION_WANT_TOKENS, &c, &e) == OK)
        chains = chains_of(&c, &n);
    session_content_release(&c);
    pthread_mutex_lock(&b->mutex);
    s = book_by_id(b, id);
    if (s) {
        mem_free(s->chains);
        s->chains = chains;
        s->n_chains = chains ? n : 0;
        chains = NULL;
    }
    tell(b);
    pthread_mutex_unlock(&b->mutex);
    mem_free(chains);
}

void pins_load(struct sessions *b)
{
    pthread_mutex_lock(&b->mutex);
    struct session_id *ids = mem_try_new((size_t)b->n_all + 1, sizeof *ids);
    uint32_t n = 0;
    for (uint32_t i = 0; ids && i < b->n_all; i++)
        if (b->all[i]->pin)
            ids[n++] = b->all[i]->id;
    pthread_mutex_unlock(&b->mutex);
    for (uint32_t i = 0; i < n; i++)
        pins_update(b, &ids[i]);
    mem_free(ids);
}
