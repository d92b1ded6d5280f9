/* SPDX-License-Identifier: MIT
 * avx512.h — AVX-512 F, BW, VL, DQ: sixteen lanes for the bodies in x86/.
 * A file that defines ISA_NAME and HAS_DOT_BYTES first gets VNNI's dots (avx512_vnni.h). */
#ifndef KVASIR_KERNELS_AVX512_AVX512_H
#define KVASIR_KERNELS_AVX512_AVX512_H

#include <string.h>

#include "kernels/x86/vectors.h"

#ifndef ISA_NAME
#define ISA_NAME(x) NATIVE_NAME(avx512_##x)
#endif
#include "kernels/x86/types.h"

#define LANES 16u
#define PARTS 1 /* vectors of a tile's 16 rows */

/* 8 × 16: a code vector serves eight products; 8 dots, 8 sums, second dots of 16-wide sub-scales
 * and what passes by fit 32 registers. */
#define ROWS_AT_ONCE 8
#define FLOAT_ROWS_AT_ONCE \
    8                    /* rows of a multiple of 4 KiB share the 8 ways of one set of level 1 */
#define ATTENTION_ROWS 6 /* × 4 vectors: 24 accumulators */

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vmask; /* of whole lanes */
typedef unsigned short words __attribute__((vector_size(64)));
typedef int signed_double_words __attribute__((vector_size(64)));
typedef unsigned int double_words __attribute__((vector_size(64)));

#include "kernels/x86/x86.h"

/* ---- floats ---- */
INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
/* a > b ? a : b, also with NaN. */
INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
INLINE vf vf_xor(vf a, vf b)
{
    return _mm512_xor_ps(a, b);
}
INLINE vf vf_of_ints(vi v)
{
    return _mm512_cvtepi32_ps(v);
}
INLINE vi vi_of_floats(vf v)
{
    return _mm512_cvtps_epi32(v);
}
INLINE float vf_first(vf v)
{
    return _mm512_cvtss_f32(v);
}
INLINE vf vf_halves_at(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
INLINE vf vf_bfloats_at(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
INLINE vf vf_bytes_at(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p)));
}
INLINE vf vf_signed_bytes_at(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}
/* The low or the high four bits of as many bytes as there are lanes, signed.  Of an index only the
 * low four bits count. */
INLINE vf signed_nibbles(vi index)
{
    return _mm512_permutexvar_ps(
        index, _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
}
INLINE vf vf_low_nibbles_at(const void *p)
{
    return signed_nibbles(_mm512_cvtepu8_epi32(_mm_loadu_si128(p)));
}
INLINE vf vf_high_nibbles_at(const void *p)
{
    return signed_nibbles(_mm512_srli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(p)), 4));
}
INLINE void store_halves(void *p, vf v)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* ---- masks ---- */
INLINE vmask vf_is_nan(vf v)
{
    return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
}
INLINE vmask vf_less(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
/* b where m, a elsewhere. */
INLINE vf vf_blend(vf a, vf b, vmask m)
{
    return _mm512_mask_blend_ps(m, a, b);
}
/* +0 where m, v elsewhere. */
INLINE vf vf_zero_where(vmask m, vf v)
{
    return _mm512_maskz_mov_ps(_knot_mask16(m), v);
}
/* Lanes i with low ≤ i < high. */
INLINE vmask lanes_within(int32_t low, int32_t high)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(low)) &
           _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(high));
}
/* The first n lanes (1 … LANES − 1) from or to memory; zeros beyond, nothing touched there. */
INLINE vf vf_load_first(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void vf_store_first(float *p, uint32_t n, vf v)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}
/* Bit i: lane i of a equals b's. */
INLINE uint32_t vf_equal_bits(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

/* ---- the 16 virtual lanes of a reduction ---- */
INLINE float tree_add(const vf v[PARTS])
{
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v[0]), _mm512_extractf32x8_ps(v[0], 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
/* The largest lane; v holds no NaN. */
INLINE float vf_largest(vf v)
{
    const __m256 m = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 n = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    n = _mm_max_ps(n, _mm_movehl_ps(n, n));
    return _mm_cvtss_f32(_mm_max_ss(n, _mm_movehdup_ps(n)));
}

/* ---- rotation ---- */
INLINE vf vf_even_twice(vf v) /* 0 0 2 2 … */
{
    return _mm512_moveldup_ps(v);
}
INLINE vf vf_odd_twice(vf v) /* 1 1 3 3 … */
{
    return _mm512_movehdup_ps(v);
}
INLINE vf vf_swap_pairs(vf v) /* 1 0 3 2 … */
{
    return _mm512_permute_ps(v, 0xb1);
}
INLINE vf vf_swap_twos(vf v) /* 2 3 0 1 … */
{
    return _mm512_permute_ps(v, 0x4e);
}
INLINE vf vf_swap_fours(vf v) /* 4 5 6 7 0 1 2 3 … */
{
    return _mm512_shuffle_f32x4(v, v, 0xb1);
}
INLINE vf vf_swap_eights(vf v) /* the halves */
{
    return _mm512_shuffle_f32x4(v, v, 0x4e);
}
INLINE vf vf_negate_even(vf v)
{
    return _mm512_castsi512_ps(
        _mm512_xor_epi64(_mm512_castps_si512(v), _mm512_set1_epi64(0x80000000)));
}
/* Even and odd lanes of a, b as one run of memory. */
INLINE vf vf_evens(vf a, vf b)
{
    const __m512i order =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, order, b);
}
INLINE vf vf_odds(vf a, vf b)
{
    const __m512i order =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(a, order, b);
}

/* ---- integers ---- */
INLINE vi vi_zero(void)
{
    return _mm512_setzero_si512();
}
INLINE vi vi_set1_8(char v)
{
    return _mm512_set1_epi8(v);
}
INLINE vi vi_set1_16(short v)
{
    return _mm512_set1_epi16(v);
}
INLINE vi vi_set1_32(int32_t v)
{
    return _mm512_set1_epi32(v);
}
INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
INLINE void vi_store(void *p, vi v)
{
    _mm512_storeu_si512(p, v);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
/* a | (b & c) */
INLINE vi vi_or_and(vi a, vi b, vi c)
{
    return _mm512_ternarylogic_epi32(a, b, c, 0xf8);
}
INLINE vi vi_slli16(vi v, int n)
{
    return (vi)((words)v << n);
}
INLINE vi vi_srli16(vi v, int n)
{
    return (vi)((words)v >> n);
}
INLINE vi vi_slli32(vi v, int n)
{
    return (vi)((double_words)v << n);
}
INLINE vi vi_add16(vi a, vi b)
{
    return _mm512_add_epi16(a, b);
}
INLINE vi vi_add32(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
INLINE vi vi_sub32(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
INLINE vi vi_mullo16(vi a, vi b)
{
    return _mm512_mullo_epi16(a, b);
}
INLINE vi vi_madd(vi a, vi b)
{
    return _mm512_madd_epi16(a, b);
}
INLINE vi vi_maddubs(vi a, vi b)
{
    return _mm512_maddubs_epi16(a, b);
}
INLINE vi vi_abs8(vi v)
{
    return _mm512_abs_epi8(v);
}
/* v with the signs of s; 0 or v where s is 0. */
INLINE vi vi_sign8(vi v, vi s)
{
    return _mm512_mask_sub_epi8(v, _mm512_movepi8_mask(s), _mm512_setzero_si512(), v);
}
/* Bytes of table at index, in every 16 bytes. */
INLINE vi vi_look_up(__m128i table, vi index)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index);
}
INLINE vi vi_shuffle(vi v, __m128i order)
{
    return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(order));
}
/* int16 of as many bytes as give a vector. */
INLINE vi vi_words_at(const void *p)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(p));
}
INLINE vi vi_signed_words_at(const void *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(p));
}
INLINE vi vi_flip8(vi v, char bits)
{
    return _mm512_xor_si512(v, _mm512_set1_epi8(bits));
}
INLINE vi vi_mullo32(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}
INLINE vi vi_srai32(vi v, int n)
{
    return (vi)((signed_double_words)v >> n);
}
#ifdef HAS_DOT_BYTES
/* acc + four products of unsigned bytes of a with signed ones of b. */
INLINE vi vi_dot_bytes(vi acc, vi a, vi b)
{
    return _mm512_dpbusd_epi32(acc, a, b);
}
/* acc + two products of int16. */
INLINE vi vi_dot_words(vi acc, vi a, vi b)
{
    return _mm512_dpwssd_epi32(acc, a, b);
}
#endif
/* The compiler may not regroup sums that v is part of (avx2/avx2.h says what that cost). */
INLINE void stay_in_order(vi *v)
{
    VECTOR_STAYS(v, *v);
}

#include "kernels/x86/exp.h"

#endif
