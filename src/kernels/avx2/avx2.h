/* SPDX-License-Identifier: MIT
 * avx2.h — the kernels for AVX2 + FMA + F16C: inner door and small vector helpers.
 * Each equals its namesake in ref/ bit for bit (tests/unit/kernels); read that first. */
#ifndef KVASIR_KERNELS_AVX2_AVX2_H
#define KVASIR_KERNELS_AVX2_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "kernels/kernels_int.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- one tile of 16 outputs ---- */
struct avx2_tile {
    const uint8_t *data; /* of this tile */
    const struct pack_layout *layout;
    const struct act_rows *x;
};
/* y[r × y_stride + lane] for rows [row0, row1): always 16 lanes are written. */
typedef void avx2_tile_fn(float *y, size_t y_stride, const struct avx2_tile *t, uint32_t row0,
                          uint32_t row1);
avx2_tile_fn avx2_tile_q4_0, avx2_tile_q4_1, avx2_tile_q5_0, avx2_tile_q5_1, avx2_tile_q4_k,
    avx2_tile_q5_k, avx2_tile_mxfp4;                             /* matmul_nibbles.c */
avx2_tile_fn avx2_tile_q8_0, avx2_tile_iq4_nl, avx2_tile_iq4_xs; /* matmul_bytes.c */
avx2_tile_fn avx2_tile_q2_k, avx2_tile_q3_k, avx2_tile_q6_k;     /* matmul_sixteens.c */
avx2_tile_fn avx2_tile_f32, avx2_tile_f16, avx2_tile_bf16;       /* matmul_floats.c */

void avx2_quantize_row(const struct act_rows *x, uint32_t row);
void avx2_matmul(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0, uint32_t row1,
                 const struct packed *w, uint32_t tile0, uint32_t tile1);

void avx2_rms_norm(float *y, const float *x, const float *w, uint32_t n, float eps);
void avx2_add(float *y, const float *x, uint32_t n);
void avx2_scale(float *y, float factor, uint32_t n);
void avx2_silu_mul(float *y, const float *gate, const float *up, uint32_t n);
void avx2_gelu_mul(float *y, const float *gate, const float *up, uint32_t n);
void avx2_rope(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos_sin,
               enum rope_style style);
void avx2_max_sum_exp(const float *x, uint32_t n, float *max, float *sum);
uint32_t avx2_argmax(const float *x, uint32_t n);

void avx2_kv_write(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                   void *v_chunk, uint32_t slot, const float *k, const float *v);
void avx2_attention_partial(float *state, const struct attention_queries *q,
                            const struct attention_kv *kv, struct attention_tile tile,
                            uint32_t partition, float *scratch);
void avx2_attention_fold(float *state, const float *later, uint32_t n_rows, uint32_t head_dim);
void avx2_attention_finish(float *out, size_t out_stride, const float *state,
                           struct attention_tile tile, uint32_t heads_per_group, uint32_t head_dim);

/* ---- helpers ---- */
INLINE __m256i load_256(const void *p)
{
    return _mm256_loadu_si256(p);
}
INLINE __m128i load_128(const void *p)
{
    return _mm_loadu_si128(p);
}
INLINE __m128i load_64(const void *p)
{
    return _mm_loadl_epi64(p);
}
/* The four bytes at p in every lane. */
INLINE __m256i quad_at(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}
INLINE __m256 halves_at(const void *p)
{
    return _mm256_cvtph_ps(load_128(p));
}
INLINE __m256 bfloats_at(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(p)), 16));
}
/* The first n (1..7) of 8 lanes, for masked loads and stores. */
INLINE __m256i lanes_below(uint32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* tree_add16 of lanes 0..7 and 8..15. */
INLINE float tree_add(__m256 low, __m256 high)
{
    const __m256 a = _mm256_add_ps(low, high);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/* ref_exp in eight lanes, of x up to EXP_MAX or NaN. */
INLINE __m256 exp_8_below(__m256 x)
{
    const __m256 round = _mm256_set1_ps(EXP_ROUND);
    const __m256 n = _mm256_sub_ps(_mm256_fmadd_ps(x, _mm256_set1_ps(EXP_LOG2E), round), round);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_LOW), r);
    __m256 p = _mm256_set1_ps(EXP_C6);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
    /* Out of range the lanes above hold rubbish; NaN stays one. */
    p = _mm256_blendv_ps(p, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(EXP_MIN), _CMP_LT_OQ), p);
}

/* ref_exp in eight lanes. */
INLINE __m256 exp_8(__m256 x)
{
    return _mm256_blendv_ps(exp_8_below(x), _mm256_set1_ps(__builtin_inff()),
                            _mm256_cmp_ps(x, _mm256_set1_ps(EXP_MAX), _CMP_GT_OQ));
}

#endif
