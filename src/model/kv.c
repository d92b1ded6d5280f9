/* SPDX-License-Identifier: MIT
 * kv.c — how KV pages are laid out: per layer slot K, then V (kernels.h). */
#include "base/check.h"
#include "model/model_int.h"

struct kv_layout model_kv_layout(const struct model *m, uint32_t group, enum kv_type type)
{
    CHECK(group < m->info.n_groups);
    struct kv_layout l = {.type = type, .n_layers = m->info.groups[group].n_layers};
    const uint64_t n = m->spec.n_kv_heads;
    l.v_at = n * kv_head_bytes(type, false, m->spec.head_dim);
    l.chunk_bytes = (l.v_at + n * kv_head_bytes(type, true, m->spec.head_dim)) / 2;
    l.page_bytes = (uint64_t)l.n_layers * 2 * l.chunk_bytes;
    return l;
}
