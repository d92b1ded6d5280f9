/* SPDX-License-Identifier: MIT
 * avx2.h — AVX2 + FMA + F16C: eight lanes for the bodies in x86/.
 * Each kernel equals its namesake in ref/ bit for bit (tests/unit/kernels); read that first.
 * A file that defines ISA_NAME and HAS_DOT_BYTES first gets VNNI's dots (avx2_vnni.h). */
#ifndef KVASIR_KERNELS_AVX2_AVX2_H
#define KVASIR_KERNELS_AVX2_AVX2_H

#include <string.h>

#include "kernels/x86/vectors.h"

#ifndef ISA_NAME
#define ISA_NAME(x) NATIVE_NAME(avx2_##x)
#endif
#include "kernels/x86/types.h"

#define LANES 8u
#define PARTS 2 /* vectors of a tile's 16 rows */

/* 4 × 16: an activation quad serves two maddubs, a code vector four; 8 sums, 2 code vectors and
 * what passes by fit 16 registers.  6 × 16 was slower (Q4_1 216 against 235 GOP/s, Zen 4). */
#define ROWS_AT_ONCE       4
#define FLOAT_ROWS_AT_ONCE 6 /* 12 accumulators, 2 weights, 1 activation */
#define ATTENTION_ROWS     3 /* × 4 vectors: 12 accumulators, 1 of K or V, 1 broadcast */

typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vmask; /* of whole lanes */

#include "kernels/x86/x86.h"

/* ---- floats ---- */
INLINE vf vf_zero(void)
{
    return _mm256_setzero_ps();
}
INLINE vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
INLINE void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
}
/* a > b ? a : b, also with NaN. */
INLINE vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
INLINE vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
INLINE vf vf_xor(vf a, vf b)
{
    return _mm256_xor_ps(a, b);
}
INLINE vf vf_of_ints(vi v)
{
    return _mm256_cvtepi32_ps(v);
}
INLINE vi vi_of_floats(vf v)
{
    return _mm256_cvtps_epi32(v);
}
INLINE float vf_first(vf v)
{
    return _mm256_cvtss_f32(v);
}
INLINE vf vf_halves_at(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
INLINE vf vf_bfloats_at(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
INLINE vf vf_bytes_at(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)));
}
INLINE vf vf_signed_bytes_at(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}
/* The low or the high four bits of as many bytes as there are lanes, signed. */
INLINE vf vf_low_nibbles_at(const void *p)
{
    const vi v = _mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)), 28);
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(v, 28));
}
INLINE vf vf_high_nibbles_at(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)), 4));
}
INLINE void store_halves(void *p, vf v)
{
    _mm_storeu_si128(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* ---- masks ---- */
INLINE vmask vf_is_nan(vf v)
{
    return _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
}
INLINE vmask vf_less(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
/* b where m, a elsewhere. */
INLINE vf vf_blend(vf a, vf b, vmask m)
{
    return _mm256_blendv_ps(a, b, m);
}
/* +0 where m, v elsewhere. */
INLINE vf vf_zero_where(vmask m, vf v)
{
    return _mm256_andnot_ps(m, v);
}
/* Lanes i with low ≤ i < high. */
INLINE vmask lanes_within(int32_t low, int32_t high)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_castsi256_ps(
        _mm256_and_si256(_mm256_cmpgt_epi32(lane, _mm256_set1_epi32(low - 1)),
                         _mm256_cmpgt_epi32(_mm256_set1_epi32(high), lane)));
}
/* The first n lanes (1 … LANES − 1) from or to memory; zeros beyond, nothing touched there. */
INLINE vf vf_load_first(const float *p, uint32_t n)
{
    return _mm256_maskload_ps(p, _mm256_castps_si256(lanes_within(0, (int32_t)n)));
}
INLINE void vf_store_first(float *p, uint32_t n, vf v)
{
    _mm256_maskstore_ps(p, _mm256_castps_si256(lanes_within(0, (int32_t)n)), v);
}
/* Bit i: lane i of a equals b's. */
INLINE uint32_t vf_equal_bits(vf a, vf b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}

/* ---- the 16 virtual lanes of a reduction ---- */
INLINE float tree_add(const vf v[PARTS])
{
    const __m256 a = _mm256_add_ps(v[0], v[1]);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
/* The largest lane; v holds no NaN. */
INLINE float vf_largest(vf v)
{
    __m128 n = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    n = _mm_max_ps(n, _mm_movehl_ps(n, n));
    return _mm_cvtss_f32(_mm_max_ss(n, _mm_movehdup_ps(n)));
}

/* ---- rotation ---- */
INLINE vf vf_even_twice(vf v) /* 0 0 2 2 … */
{
    return _mm256_moveldup_ps(v);
}
INLINE vf vf_odd_twice(vf v) /* 1 1 3 3 … */
{
    return _mm256_movehdup_ps(v);
}
INLINE vf vf_swap_pairs(vf v) /* 1 0 3 2 … */
{
    return _mm256_permute_ps(v, 0xb1);
}
INLINE vf vf_swap_twos(vf v) /* 2 3 0 1 … */
{
    return _mm256_permute_ps(v, 0x4e);
}
INLINE vf vf_swap_fours(vf v) /* 4 5 6 7 0 1 2 3 */
{
    return _mm256_permute2f128_ps(v, v, 1);
}
INLINE vf vf_swap_eights(vf v) /* no such lanes */
{
    return v;
}
INLINE vf vf_negate_even(vf v)
{
    return _mm256_xor_ps(v, _mm256_setr_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0));
}
/* Even and odd lanes of a, b as one run of memory. */
INLINE vf vf_evens(vf a, vf b)
{
    const __m256 v = _mm256_shuffle_ps(a, b, 0x88);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8));
}
INLINE vf vf_odds(vf a, vf b)
{
    const __m256 v = _mm256_shuffle_ps(a, b, 0xdd);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8));
}

/* ---- integers ---- */
INLINE vi vi_zero(void)
{
    return _mm256_setzero_si256();
}
INLINE vi vi_set1_8(char v)
{
    return _mm256_set1_epi8(v);
}
INLINE vi vi_set1_16(short v)
{
    return _mm256_set1_epi16(v);
}
INLINE vi vi_set1_32(int32_t v)
{
    return _mm256_set1_epi32(v);
}
INLINE vi vi_load(const void *p)
{
    return _mm256_loadu_si256(p);
}
INLINE void vi_store(void *p, vi v)
{
    _mm256_storeu_si256(p, v);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}
/* a | (b & c) */
INLINE vi vi_or_and(vi a, vi b, vi c)
{
    return _mm256_or_si256(a, _mm256_and_si256(b, c));
}
INLINE vi vi_flip8(vi v, char bits)
{
    return _mm256_xor_si256(v, _mm256_set1_epi8(bits));
}
INLINE vi vi_slli16(vi v, int n)
{
    return _mm256_slli_epi16(v, n);
}
INLINE vi vi_srli16(vi v, int n)
{
    return _mm256_srli_epi16(v, n);
}
INLINE vi vi_slli32(vi v, int n)
{
    return _mm256_slli_epi32(v, n);
}
INLINE vi vi_add16(vi a, vi b)
{
    return _mm256_add_epi16(a, b);
}
INLINE vi vi_add32(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
INLINE vi vi_sub32(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}
INLINE vi vi_mullo16(vi a, vi b)
{
    return _mm256_mullo_epi16(a, b);
}
INLINE vi vi_mullo32(vi a, vi b)
{
    return _mm256_mullo_epi32(a, b);
}
INLINE vi vi_srai32(vi v, int n)
{
    return _mm256_srai_epi32(v, n);
}
INLINE vi vi_madd(vi a, vi b)
{
    return _mm256_madd_epi16(a, b);
}
INLINE vi vi_maddubs(vi a, vi b)
{
    return _mm256_maddubs_epi16(a, b);
}
INLINE vi vi_abs8(vi v)
{
    return _mm256_abs_epi8(v);
}
/* v with the signs of s; 0 or v where s is 0. */
INLINE vi vi_sign8(vi v, vi s)
{
    return _mm256_sign_epi8(v, s);
}
/* Bytes of table at index, in every 16 bytes. */
INLINE vi vi_look_up(__m128i table, vi index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index);
}
INLINE vi vi_shuffle(vi v, __m128i order)
{
    return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(order));
}
/* int16 of as many bytes as give a vector. */
INLINE vi vi_words_at(const void *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(p));
}
INLINE vi vi_signed_words_at(const void *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(p));
}
#ifdef HAS_DOT_BYTES
/* acc + four products of unsigned bytes of a with signed ones of b. */
INLINE vi vi_dot_bytes(vi acc, vi a, vi b)
{
    return _mm256_dpbusd_avx_epi32(acc, a, b);
}
/* acc + two products of int16. */
INLINE vi vi_dot_words(vi acc, vi a, vi b)
{
    return _mm256_dpwssd_avx_epi32(acc, a, b);
}
#endif
/* Compilers regroup integer sums as they like, gcc so that a whole block of products waits on the
 * stack (two in five instructions of the loop were moves).  After this, v is what it is. */
INLINE void stay_in_order(vi *v)
{
    VECTOR_STAYS(x, *v);
}

#include "kernels/x86/exp.h"

#endif
