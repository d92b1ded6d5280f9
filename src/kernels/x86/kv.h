/* SPDX-License-Identifier: MIT
 * kv.h — rotation of heads, K and V into a page. */
#include "kernels/kv_codes.h"
#include "kernels/ref/ref.h"

#include <math.h>

/* ---- rotation ---- */
/* The stages within a vector: lane i meets lane i ^ half, and where that is the lower one the
 * difference is taken.  −v is exact, so that the sum below is ref's difference. */
INLINE vf meet(vf v, vf other, const float *signs)
{
    return vf_add(other, vf_xor(v, vf_load(signs)));
}

static const float rotation_signs[4][16] = {
#define P 0.0f
#define N -0.0f
    {P, N, P, N, P, N, P, N, P, N, P, N, P, N, P, N},
    {P, P, N, N, P, P, N, N, P, P, N, N, P, P, N, N},
    {P, P, P, P, N, N, N, N, P, P, P, P, N, N, N, N},
    {P, P, P, P, P, P, P, P, N, N, N, N, N, N, N, N},
#undef P
#undef N
};

static void rotate_one(float *x, uint32_t run)
{
    for (uint32_t i = 0; i < run; i += LANES) {
        vf v = vf_load(x + i);
        v = meet(v, vf_swap_pairs(v), rotation_signs[0]);
        v = meet(v, vf_swap_twos(v), rotation_signs[1]);
        v = meet(v, vf_swap_fours(v), rotation_signs[2]);
        if (LANES == 16)
            v = meet(v, vf_swap_eights(v), rotation_signs[3]);
        vf_store(x + i, v);
    }
    for (uint32_t half = LANES; half < run; half *= 2)
        for (uint32_t at = 0; at < run; at += 2 * half)
            for (uint32_t i = at; i < at + half; i += LANES) {
                const vf a = vf_load(x + i), b = vf_load(x + i + half);
                vf_store(x + i, vf_add(a, b));
                vf_store(x + i + half, vf_sub(a, b));
            }
    const vf factor = vf_set1(1.0f / sqrtf((float)run));
    for (uint32_t i = 0; i < run; i += LANES)
        vf_store(x + i, vf_mul(vf_load(x + i), factor));
}

void ISA_NAME(rotate)(float *x, uint32_t n_heads, uint32_t head_dim)
{
    const uint32_t run = kv_rotation_run(head_dim);
    if (run < 16) {
        ref_rotate(x, n_heads, head_dim);
        return;
    }
    for (size_t at = 0; at < (size_t)n_heads * head_dim; at += run)
        rotate_one(x + at, run);
}

/* ---- writing ---- */
void ISA_NAME(kv_write)(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                        void *v_chunk, uint32_t slot, const float *k, const float *v)
{
    if (kv_is_quantized(type)) {
        kv_put_token(type, n_kv_heads, head_dim, k_chunk, v_chunk, slot, k, v);
        return;
    }
    if (type != KV_F16 || head_dim % LANES != 0) {
        ref_kv_write(type, n_kv_heads, head_dim, k_chunk, v_chunk, slot, k, v);
        return;
    }
    /* f16_from_f32: clamp to ±65504 (NaN passes), then round to nearest even. */
    const vf most = vf_set1(65504.0f), least = vf_set1(-65504.0f);
    uint16_t *to_k = (uint16_t *)k_chunk + slot;
    for (uint32_t h = 0; h < n_kv_heads; h++) {
        uint16_t *to_v = (uint16_t *)v_chunk + ((size_t)h * KV_PAGE_TOKENS + slot) * head_dim;
        for (uint32_t d = 0; d < head_dim; d += LANES) {
            const size_t from = (size_t)h * head_dim + d;
            uint16_t lanes[LANES];
            store_halves(lanes, vf_max(least, vf_min(most, vf_load(k + from))));
            for (uint32_t i = 0; i < LANES; i++)
                to_k[(from + i) * KV_PAGE_TOKENS] = lanes[i];
            store_halves(to_v + d, vf_max(least, vf_min(most, vf_load(v + from))));
        }
    }
}
