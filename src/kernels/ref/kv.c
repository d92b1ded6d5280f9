/* SPDX-License-Identifier: MIT
 * kv.c — rotation of heads, K and V into a page, as docs/numerics.md §7 defines them. */
#include "kernels/kv_codes.h"
#include "kernels/ref/ref.h"

#include <math.h>

void ref_rotate(float *x, uint32_t n_heads, uint32_t head_dim)
{
    const uint32_t run = kv_rotation_run(head_dim);
    const float factor = 1.0f / sqrtf((float)run);
    for (size_t at = 0; at < (size_t)n_heads * head_dim; at += run) {
        float *y = x + at;
        for (uint32_t half = 1; half < run; half *= 2)
            for (uint32_t i = 0; i < run; i++)
                if ((i & half) == 0) {
                    const float a = y[i], b = y[i + half];
                    y[i] = a + b;
                    y[i + half] = a - b;
                }
        for (uint32_t i = 0; i < run; i++)
            y[i] *= factor;
    }
}

void ref_kv_write(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                  void *v_chunk, uint32_t slot, const float *k, const float *v)
{
    if (kv_is_quantized(type)) {
        kv_put_token(type, n_kv_heads, head_dim, k_chunk, v_chunk, slot, k, v);
        return;
    }
    for (uint32_t h = 0; h < n_kv_heads; h++)
        for (uint32_t d = 0; d < head_dim; d++) {
            const size_t from = (size_t)h * head_dim + d;
            const size_t to_k = from * KV_PAGE_TOKENS + slot;
            const size_t to_v = ((size_t)h * KV_PAGE_TOKENS + slot) * head_dim + d;
            if (type == KV_F32) {
                ((float *)k_chunk)[to_k] = k[from];
                ((float *)v_chunk)[to_v] = v[from];
            } else {
                ((uint16_t *)k_chunk)[to_k] = f16_from_f32(k[from]);
                ((uint16_t *)v_chunk)[to_v] = f16_from_f32(v[from]);
            }
        }
}
