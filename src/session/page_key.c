/* SPDX-License-Identifier: MIT
 * page_key.c — see page_key.h.  Tokens are hashed as they lie in memory: little-endian u32
 * (base/endian.h asserts it). */
#include "session/page_key.h"

#include "base/endian.h"

struct digest page_key_chain(struct digester *d, const struct digest *owner,
                             const struct digest *parent, const uint32_t *tokens, uint32_t n_tokens)
{
    digest_begin(d);
    digest_field(d, "kvasir chain parent", parent->b, sizeof parent->b);
    digest_field(d, "salt", owner->b, sizeof owner->b);
    digest_field(d, "tokens", tokens, (size_t)n_tokens * sizeof *tokens);
    return digest_end(d);
}

struct digest page_key_page(struct digester *d, uint32_t group, const struct digest *chain)
{
    digest_begin(d);
    digest_u64(d, "kvasir page group", group);
    digest_field(d, "chain", chain->b, sizeof chain->b);
    return digest_end(d);
}

struct digest page_key_head(struct digester *d, const struct digest *chain)
{
    digest_begin(d);
    digest_field(d, "kvasir head", chain->b, sizeof chain->b);
    return digest_end(d);
}

struct digest page_key_family(struct digester *d, const struct digest *owner,
                              const struct digest *parent)
{
    digest_begin(d);
    digest_field(d, "kvasir family", parent->b, sizeof parent->b);
    digest_field(d, "salt", owner->b, sizeof owner->b);
    return digest_end(d);
}

uint32_t page_key_order(const uint32_t *tokens, uint32_t n_tokens, uint8_t *out)
{
    for (uint32_t i = 0; i < n_tokens; i++)
        put_le32(out + 4 * i, __builtin_bswap32(tokens[i]));
    return 4 * n_tokens;
}
