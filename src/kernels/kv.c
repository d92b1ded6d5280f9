/* SPDX-License-Identifier: MIT
 * kv.c — what K and V of a page look like in each KV type. */
#include "kernels/kernels_int.h"

const char *kv_type_name(enum kv_type type)
{
    static const char *const names[] = {
        [KV_F16] = "f16", [KV_F32] = "f32", [KV_Q8_0] = "q8_0", [KV_Q4] = "q4"};
    CHECK((size_t)type < sizeof names / sizeof names[0]);
    return names[type];
}

bool kv_type_fits(enum kv_type type, uint32_t head_dim)
{
    return !kv_is_quantized(type) || head_dim % KV_BLOCK == 0;
}

uint32_t kv_planes(enum kv_type type, bool is_v, uint32_t head_dim, struct kv_plane planes[2])
{
    uint32_t row = head_dim, value = 1; /* bytes of a token's V, of a value of K */
    if (type == KV_F16 || type == KV_F32)
        row *= value = type == KV_F16 ? 2 : 4;
    else if (type == KV_Q4)
        row /= 2;
    planes[0] = is_v ? (struct kv_plane){1, row} : (struct kv_plane){head_dim, value};
    planes[1] = (struct kv_plane){head_dim / KV_BLOCK, sizeof(uint16_t)};
    return kv_is_quantized(type) ? 2 : 1;
}

size_t kv_head_bytes(enum kv_type type, bool is_v, uint32_t head_dim)
{
    struct kv_plane planes[2];
    size_t bytes = 0;
    const uint32_t n = kv_planes(type, is_v, head_dim, planes);
    for (uint32_t i = 0; i < n; i++)
        bytes += (size_t)planes[i].n_rows * KV_PAGE_TOKENS * planes[i].unit_bytes;
    return bytes;
}
