/* SPDX-License-Identifier: MIT
 * kv.c — how KV pages are laid out, and their compact form for the tail of a sequence.
 *
 *   page     per layer slot: K [kv_head][dim][64]  V [kv_head][64][dim]
 *   compact  per layer slot: K [kv_head][dim][n]   V [kv_head][n][dim]     the first n tokens only */
#include <string.h>

#include "base/check.h"
#include "model/model_int.h"

static uint64_t element_bytes(enum kv_type type)
{
    return type == KV_F32 ? 4 : 2;
}

struct kv_layout model_kv_layout(const struct model *m, uint32_t group, enum kv_type type)
{
    CHECK(group < m->info.n_groups);
    struct kv_layout l = {.type = type, .n_layers = m->info.groups[group].n_layers};
    l.chunk_bytes =
        (uint64_t)m->spec.n_kv_heads * m->spec.head_dim * KV_PAGE_TOKENS * element_bytes(type);
    l.page_bytes = (uint64_t)l.n_layers * 2 * l.chunk_bytes;
    return l;
}

uint64_t model_kv_compact_bytes(const struct model *m, const struct kv_layout *l, uint32_t n_tokens)
{
    (void)m;
    CHECK(n_tokens >= 1 && n_tokens <= KV_PAGE_TOKENS);
    return l->page_bytes / KV_PAGE_TOKENS * n_tokens;
}

/* Both ways walk the same runs: rows of 64 tokens of K, rows of all dimensions of V. */
struct run {
    uint64_t count, page_bytes, compact_bytes;
};

static void chunk_runs(const struct model *m, const struct kv_layout *l, uint32_t n_tokens,
                       struct run *k, struct run *v)
{
    uint64_t element = element_bytes(l->type), heads = m->spec.n_kv_heads, dim = m->spec.head_dim;
    *k = (struct run){heads * dim, KV_PAGE_TOKENS * element, n_tokens * element};
    *v = (struct run){heads, KV_PAGE_TOKENS * dim * element, n_tokens * dim * element};
}

void model_kv_compact(const struct model *m, const struct kv_layout *l, void *dst, const void *page,
                      uint32_t n_tokens)
{
    CHECK(n_tokens >= 1 && n_tokens <= KV_PAGE_TOKENS);
    struct run runs[2];
    chunk_runs(m, l, n_tokens, &runs[0], &runs[1]);
    uint8_t *to = dst;
    const uint8_t *from = page;
    for (uint32_t chunk = 0; chunk < 2 * l->n_layers; chunk++) {
        struct run r = runs[chunk % 2];
        for (uint64_t i = 0; i < r.count; i++) {
            memcpy(to, from, r.compact_bytes);
            to += r.compact_bytes;
            from += r.page_bytes;
        }
    }
}

void model_kv_expand(const struct model *m, const struct kv_layout *l, void *page, const void *src,
                     uint32_t n_tokens)
{
    CHECK(n_tokens >= 1 && n_tokens <= KV_PAGE_TOKENS);
    struct run runs[2];
    chunk_runs(m, l, n_tokens, &runs[0], &runs[1]);
    uint8_t *to = page;
    const uint8_t *from = src;
    for (uint32_t chunk = 0; chunk < 2 * l->n_layers; chunk++) {
        struct run r = runs[chunk % 2];
        for (uint64_t i = 0; i < r.count; i++) {
            memcpy(to, from, r.compact_bytes);
            memset(to + r.compact_bytes, 0, r.page_bytes - r.compact_bytes);
            from += r.compact_bytes;
            to += r.page_bytes;
        }
    }
}
