/* SPDX-License-Identifier: MIT
 * kv.c — how KV pages are laid out: per layer slot K [kv_head][dim][64], then V [kv_head][64][dim]. */
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
