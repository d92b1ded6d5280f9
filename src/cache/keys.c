/* SPDX-License-Identifier: MIT
 * keys.c — the digests that name pages.
 *   C(i)   = SHA-256(tag, C(i−1), owner's salt, n, token ids of page i),  C(−1) = root
 *   page   = SHA-256(tag, group, C(i))          head = SHA-256(tag, C)
 *   family = SHA-256(tag, C(i−1), salt): siblings that differ in their tokens only. */
#include <string.h>

#include "base/endian.h"
#include "cache/cache_int.h"

struct digest key_chain(struct cache *c, const struct digest *parent, const uint32_t *tokens,
                        uint32_t n_tokens)
{
    /* Tokens are hashed as they lie in memory: little-endian u32 (base/endian.h asserts it). */
    digest_begin(&c->digester);
    digest_field(&c->digester, "kvasir chain parent", parent->b, sizeof parent->b);
    digest_field(&c->digester, "salt", c->options.salt, sizeof c->options.salt);
    digest_field(&c->digester, "tokens", tokens, (size_t)n_tokens * sizeof *tokens);
    return digest_end(&c->digester);
}

struct digest key_page(struct cache *c, uint32_t group, const struct digest *chain)
{
    digest_begin(&c->digester);
    digest_u64(&c->digester, "kvasir page group", group);
    digest_field(&c->digester, "chain", chain->b, sizeof chain->b);
    return digest_end(&c->digester);
}

struct digest key_head(struct cache *c, const struct digest *chain)
{
    digest_begin(&c->digester);
    digest_field(&c->digester, "kvasir head", chain->b, sizeof chain->b);
    return digest_end(&c->digester);
}

struct digest key_family(struct cache *c, const struct digest *parent)
{
    digest_begin(&c->digester);
    digest_field(&c->digester, "kvasir family", parent->b, sizeof parent->b);
    digest_field(&c->digester, "salt", c->options.salt, sizeof c->options.salt);
    return digest_end(&c->digester);
}

uint32_t key_order(const uint32_t *tokens, uint32_t n_tokens, uint8_t out[STORE_ORDER_MAX])
{
    _Static_assert(PAGE_TOKENS * 4 <= STORE_ORDER_MAX, "a page's tokens are its sort key");
    for (uint32_t i = 0; i < n_tokens; i++) {
        uint32_t big_endian = __builtin_bswap32(tokens[i]); /* memcmp order = token order */
        put_le32(out + 4 * i, big_endian);
    }
    return 4 * n_tokens;
}

uint64_t key_layout(const struct cache *c, uint32_t group, uint32_t n_tokens)
{
    /* The root already names model and KV type; this guards the byte count of the payload. */
    const struct cache_group *g = &c->options.groups[group];
    return (uint64_t)n_tokens << 56 | (uint64_t)group << 48 | (uint64_t)g->n_layers << 32 |
           (uint32_t)g->chunk_bytes;
}
