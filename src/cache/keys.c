/* SPDX-License-Identifier: MIT
 * keys.c — the digests that name pages (session/page_key.h), with this cache's digester. */
#include "base/endian.h"
#include "cache/cache_int.h"

struct digest key_chain(struct cache *c, const struct digest *owner, const struct digest *parent,
                        const uint32_t *tokens, uint32_t n_tokens)
{
    return page_key_chain(&c->digester, owner, parent, tokens, n_tokens);
}

struct digest key_page(struct cache *c, uint32_t group, const struct digest *chain)
{
    return page_key_page(&c->digester, group, chain);
}

struct digest key_head(struct cache *c, const struct digest *chain)
{
    return page_key_head(&c->digester, chain);
}

struct digest key_family(struct cache *c, const struct digest *owner, const struct digest *parent)
{
    return page_key_family(&c->digester, owner, parent);
}

uint32_t key_order(const uint32_t *tokens, uint32_t n_tokens, uint8_t out[STORE_ORDER_MAX])
{
    _Static_assert(PAGE_TOKENS * 4 <= STORE_ORDER_MAX, "a page's tokens are its sort key");
    return page_key_order(tokens, n_tokens, out);
}

uint64_t key_layout(const struct cache *c, uint32_t group, uint32_t n_tokens)
{
    /* The root already names model and KV type; this guards the byte count of the payload. */
    const struct cache_group *g = &c->options.groups[group];
    return (uint64_t)n_tokens << 56 | (uint64_t)group << 48 | (uint64_t)g->n_layers << 32 |
           (uint32_t)g->chunk_bytes;
}
