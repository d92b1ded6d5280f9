/* SPDX-License-Identifier: MIT
 * plain.h — what the kernels use of <immintrin.h>, in plain C over the compiler's generic vectors:
 * lane by lane, as the manuals describe it, saturation included.  For tests on processors that lack
 * an instruction set; slow.  A kernel that wants another intrinsic adds it here (the build of the
 * tests names it). */
#ifndef KVASIR_KERNELS_X86_PLAIN_H
#define KVASIR_KERNELS_X86_PLAIN_H

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tensor/tensor.h"

/* Calls, not copies: a tile function holds hundreds of these. */
#define PLAIN static __attribute__((noinline, unused))

#define _MM_HINT_T0               3
#define _MM_FROUND_TO_NEAREST_INT 0
#define _MM_FROUND_NO_EXC         8
#define _CMP_EQ_OQ                0x00
#define _CMP_LT_OQ                0x11
#define _CMP_UNORD_Q              0x03
#define _mm_prefetch(p, hint)     ((void)(p), (void)(hint))

typedef uint16_t __mmask16;
typedef uint64_t __mmask64;

static inline int plain_compare(float a, float b, int how)
{
    return how == _CMP_EQ_OQ ? a == b : how == _CMP_LT_OQ ? a < b : isnan(a) || isnan(b);
}
/* What a conversion gives for NaN and for what does not fit. */
static inline int32_t plain_round(float x)
{
    return x >= -0x1p31f && x < 0x1p31f ? (int32_t)rintf(x) : INT32_MIN;
}
static inline int16_t plain_saturate(int32_t x)
{
    return (int16_t)(x > INT16_MAX ? INT16_MAX : x < INT16_MIN ? INT16_MIN : x);
}

/* ---- the same in all widths ---- */
#define BITS          128
#define OP(name)      _mm_##name
#define OP_BITS(name) _mm_##name##_si128
#define FLOATS        __m128
#define INTS          __m128i
#include "kernels/x86/plain_width.h"

#define BITS          256
#define OP(name)      _mm256_##name
#define OP_BITS(name) _mm256_##name##_si256
#define FLOATS        __m256
#define INTS          __m256i
#include "kernels/x86/plain_width.h"

#define BITS          512
#define OP(name)      _mm512_##name
#define OP_BITS(name) _mm512_##name##_si512
#define FLOATS        __m512
#define INTS          __m512i
#include "kernels/x86/plain_width.h"

typedef double __m256d __attribute__((vector_size(32)));

/* ---- 128 bits ---- */
PLAIN __m128 _mm_add_ss(__m128 a, __m128 b)
{
    a[0] += b[0];
    return a;
}
PLAIN __m128 _mm_max_ss(__m128 a, __m128 b)
{
    a[0] = a[0] > b[0] ? a[0] : b[0];
    return a;
}
PLAIN __m128 _mm_movehl_ps(__m128 a, __m128 b)
{
    return (__m128){b[2], b[3], a[2], a[3]};
}
PLAIN int32_t _mm_cvtsi128_si32(__m128i v)
{
    return ((plain_i32_128)v)[0];
}
PLAIN __m128i _mm_loadl_epi64(const void *p)
{
    __m128i v = {0, 0};
    memcpy(&v, p, 8);
    return v;
}
PLAIN __m128i _mm_shuffle_epi32(__m128i v, int order)
{
    const plain_i32_128 a = (plain_i32_128)v;
    plain_i32_128 o;
    for (int i = 0; i < 4; i++)
        o[i] = a[(order >> (2 * i)) & 3];
    return (__m128i)o;
}
PLAIN __m128i _mm_packs_epi16(__m128i a, __m128i b)
{
    plain_i8_128 o;
    for (int i = 0; i < 16; i++) {
        const int16_t v = i < 8 ? ((plain_i16_128)a)[i] : ((plain_i16_128)b)[i - 8];
        o[i] = (int8_t)(v > INT8_MAX ? INT8_MAX : v < INT8_MIN ? INT8_MIN : v);
    }
    return (__m128i)o;
}
#define _mm_setr_epi8(...) ((__m128i)(plain_i8_128){__VA_ARGS__})

/* ---- 256 bits ---- */
#define _mm256_setr_epi32(...)    ((__m256i)(plain_i32_256){__VA_ARGS__})
#define _mm256_setr_ps(...)       ((__m256){__VA_ARGS__})
#define _mm256_castps_si256(v)    ((__m256i)(v))
#define _mm256_castsi256_ps(v)    ((__m256)(v))
#define _mm256_castps_pd(v)       ((__m256d)(v))
#define _mm256_castpd_ps(v)       ((__m256)(v))
#define _mm256_andnot_ps(a, b)    ((__m256)(~(plain_u32_256)(a) & (plain_u32_256)(b)))
#define _mm256_dpbusd_avx_epi32   _mm256_dpbusd_epi32
#define _mm256_dpwssd_avx_epi32   _mm256_dpwssd_epi32
#define _mm256_extracti128_si256  plain_half_256i
#define _mm256_extractf128_ps     plain_half_256
#define _mm256_castsi256_si128(v) plain_half_256i(v, 0)
#define _mm256_castps256_ps128(v) plain_half_256(v, 0)
PLAIN __m128i plain_half_256i(__m256i v, int high)
{
    __m128i o;
    memcpy(&o, (const char *)&v + 16 * high, 16);
    return o;
}
PLAIN __m128 plain_half_256(__m256 v, int high)
{
    return (__m128)plain_half_256i((__m256i)v, high);
}
PLAIN __m256 _mm256_cmp_ps(__m256 a, __m256 b, int how)
{
    plain_u32_256 o;
    for (int i = 0; i < 8; i++)
        o[i] = plain_compare(a[i], b[i], how) ? UINT32_MAX : 0;
    return (__m256)o;
}
PLAIN __m256 _mm256_blendv_ps(__m256 a, __m256 b, __m256 m)
{
    for (int i = 0; i < 8; i++)
        if (((plain_i32_256)m)[i] < 0)
            a[i] = b[i];
    return a;
}
PLAIN int _mm256_movemask_ps(__m256 v)
{
    int o = 0;
    for (int i = 0; i < 8; i++)
        o |= (((plain_i32_256)v)[i] < 0) << i;
    return o;
}
PLAIN __m256 _mm256_maskload_ps(const float *p, __m256i m)
{
    __m256 o;
    for (int i = 0; i < 8; i++)
        o[i] = ((plain_i32_256)m)[i] < 0 ? p[i] : 0.0f;
    return o;
}
PLAIN void _mm256_maskstore_ps(float *p, __m256i m, __m256 v)
{
    for (int i = 0; i < 8; i++)
        if (((plain_i32_256)m)[i] < 0)
            p[i] = v[i];
}
PLAIN __m256i _mm256_broadcastsi128_si256(__m128i v)
{
    return (__m256i){v[0], v[1], v[0], v[1]};
}
PLAIN __m256i _mm256_permute4x64_epi64(__m256i v, int order)
{
    return (__m256i){v[order & 3], v[(order >> 2) & 3], v[(order >> 4) & 3], v[(order >> 6) & 3]};
}
#define _mm256_permute4x64_pd(v, order) ((__m256d)_mm256_permute4x64_epi64((__m256i)(v), order))
PLAIN __m256i _mm256_packs_epi32(__m256i a, __m256i b)
{
    plain_i16_256 o;
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 4; i++) {
            o[8 * half + i] = plain_saturate(((plain_i32_256)a)[4 * half + i]);
            o[8 * half + 4 + i] = plain_saturate(((plain_i32_256)b)[4 * half + i]);
        }
    return (__m256i)o;
}
/* Halves of a, b by two bits each; bit 3 of a nibble gives zero. */
PLAIN __m256 _mm256_permute2f128_ps(__m256 a, __m256 b, int order)
{
    __m256 o;
    for (int i = 0; i < 8; i++) {
        const int which = order >> (i / 4 * 4);
        const __m256 from = which & 2 ? b : a;
        o[i] = which & 8 ? 0.0f : from[(which & 1) * 4 + i % 4];
    }
    return o;
}
PLAIN __m256i _mm256_cvtepi8_epi16(__m128i v)
{
    plain_i16_256 o;
    for (int i = 0; i < 16; i++)
        o[i] = ((plain_i8_128)v)[i];
    return (__m256i)o;
}
PLAIN __m256i _mm256_cvtepu8_epi16(__m128i v)
{
    plain_i16_256 o;
    for (int i = 0; i < 16; i++)
        o[i] = ((plain_u8_128)v)[i];
    return (__m256i)o;
}
PLAIN __m256i _mm256_cvtepi8_epi32(__m128i v)
{
    plain_i32_256 o;
    for (int i = 0; i < 8; i++)
        o[i] = ((plain_i8_128)v)[i];
    return (__m256i)o;
}
PLAIN __m256i _mm256_cvtepu8_epi32(__m128i v)
{
    plain_i32_256 o;
    for (int i = 0; i < 8; i++)
        o[i] = ((plain_u8_128)v)[i];
    return (__m256i)o;
}
PLAIN __m256i _mm256_cvtepu16_epi32(__m128i v)
{
    plain_i32_256 o;
    for (int i = 0; i < 8; i++)
        o[i] = ((plain_u16_128)v)[i];
    return (__m256i)o;
}
PLAIN __m256 _mm256_cvtph_ps(__m128i v)
{
    __m256 o;
    for (int i = 0; i < 8; i++)
        o[i] = f16_to_f32(((plain_u16_128)v)[i]);
    return o;
}
/* f16_from_f32 saturates where the instruction overflows; the kernels clamp first. */
PLAIN __m128i _mm256_cvtps_ph(__m256 v, int how)
{
    plain_u16_128 o;
    (void)how;
    for (int i = 0; i < 8; i++)
        o[i] = f16_from_f32(v[i]);
    return (__m128i)o;
}

/* ---- 512 bits ---- */
#define _mm512_setr_epi32(...) ((__m512i)(plain_i32_512){__VA_ARGS__})
#define _mm512_setr_ps(...)    ((__m512){__VA_ARGS__})
#define _mm512_castps_si512(v) ((__m512i)(v))
#define _mm512_castsi512_ps(v) ((__m512)(v))
#define _mm512_xor_epi64       _mm512_xor_si512
#define _knot_mask16(m)        ((__mmask16) ~(m))
PLAIN __m256 _mm512_extractf32x8_ps(__m512 v, int high)
{
    __m256 o;
    memcpy(&o, (const char *)&v + 32 * high, 32);
    return o;
}
#define _mm512_castps512_ps256(v) _mm512_extractf32x8_ps(v, 0)
PLAIN __m512i _mm512_set1_epi64(long long v)
{
    return (__m512i){v, v, v, v, v, v, v, v};
}
PLAIN __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int how)
{
    uint32_t o = 0;
    for (int i = 0; i < 16; i++)
        o |= (uint32_t)plain_compare(a[i], b[i], how) << i;
    return (__mmask16)o;
}
PLAIN __mmask16 _mm512_cmplt_epi32_mask(__m512i a, __m512i b)
{
    uint32_t o = 0;
    for (int i = 0; i < 16; i++)
        o |= (uint32_t)(((plain_i32_512)a)[i] < ((plain_i32_512)b)[i]) << i;
    return (__mmask16)o;
}
#define _mm512_cmpge_epi32_mask(a, b) _knot_mask16(_mm512_cmplt_epi32_mask(a, b))
PLAIN __m512 _mm512_mask_blend_ps(__mmask16 m, __m512 a, __m512 b)
{
    for (int i = 0; i < 16; i++)
        if (m >> i & 1)
            a[i] = b[i];
    return a;
}
PLAIN __m512 _mm512_maskz_mov_ps(__mmask16 m, __m512 v)
{
    for (int i = 0; i < 16; i++)
        v[i] = m >> i & 1 ? v[i] : 0.0f;
    return v;
}
PLAIN __m512 _mm512_maskz_loadu_ps(__mmask16 m, const float *p)
{
    __m512 o;
    for (int i = 0; i < 16; i++)
        o[i] = m >> i & 1 ? p[i] : 0.0f;
    return o;
}
PLAIN void _mm512_mask_storeu_ps(float *p, __mmask16 m, __m512 v)
{
    for (int i = 0; i < 16; i++)
        if (m >> i & 1)
            p[i] = v[i];
}
PLAIN __mmask64 _mm512_movepi8_mask(__m512i v)
{
    uint64_t o = 0;
    for (int i = 0; i < 64; i++)
        o |= (uint64_t)(((plain_i8_512)v)[i] < 0) << i;
    return o;
}
PLAIN __m512i _mm512_mask_sub_epi8(__m512i from, __mmask64 m, __m512i a, __m512i b)
{
    plain_u8_512 o = (plain_u8_512)from;
    for (int i = 0; i < 64; i++)
        if (m >> i & 1)
            o[i] = (uint8_t)(((plain_u8_512)a)[i] - ((plain_u8_512)b)[i]);
    return (__m512i)o;
}
/* Bit by bit: table[a b c]. */
PLAIN __m512i _mm512_ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int table)
{
    __m512i o = a ^ a;
    for (int i = 0; i < 8; i++) {
        const __m512i x = i & 4 ? a : ~a, y = i & 2 ? b : ~b, z = i & 1 ? c : ~c;
        if (table >> i & 1)
            o |= x & y & z;
    }
    return o;
}
PLAIN __m512i _mm512_broadcast_i32x4(__m128i v)
{
    return (__m512i){v[0], v[1], v[0], v[1], v[0], v[1], v[0], v[1]};
}
PLAIN __m512 _mm512_permutexvar_ps(__m512i order, __m512 v)
{
    __m512 o;
    for (int i = 0; i < 16; i++)
        o[i] = v[((plain_i32_512)order)[i] & 15];
    return o;
}
PLAIN __m512 _mm512_permutex2var_ps(__m512 a, __m512i order, __m512 b)
{
    __m512 o;
    for (int i = 0; i < 16; i++) {
        const int from = ((plain_i32_512)order)[i];
        o[i] = from & 16 ? b[from & 15] : a[from & 15];
    }
    return o;
}
PLAIN __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int order)
{
    __m512 o;
    for (int i = 0; i < 16; i++) {
        const int from = (order >> (i / 4 * 2)) & 3;
        o[i] = i < 8 ? a[4 * from + i % 4] : b[4 * from + i % 4];
    }
    return o;
}
PLAIN int32_t _mm512_reduce_add_epi32(__m512i v)
{
    uint32_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += ((plain_u32_512)v)[i];
    return (int32_t)sum;
}
PLAIN int32_t _mm512_reduce_max_epi32(__m512i v)
{
    int32_t most = INT32_MIN;
    for (int i = 0; i < 16; i++)
        most = ((plain_i32_512)v)[i] > most ? ((plain_i32_512)v)[i] : most;
    return most;
}
PLAIN __m128i _mm512_cvtepi32_epi8(__m512i v)
{
    plain_i8_128 o;
    for (int i = 0; i < 16; i++)
        o[i] = (int8_t)((plain_i32_512)v)[i];
    return (__m128i)o;
}
PLAIN __m512i _mm512_cvtepi8_epi16(__m256i v)
{
    plain_i16_512 o;
    for (int i = 0; i < 32; i++)
        o[i] = ((plain_i8_256)v)[i];
    return (__m512i)o;
}
PLAIN __m512i _mm512_cvtepu8_epi16(__m256i v)
{
    plain_i16_512 o;
    for (int i = 0; i < 32; i++)
        o[i] = ((plain_u8_256)v)[i];
    return (__m512i)o;
}
PLAIN __m512i _mm512_cvtepi8_epi32(__m128i v)
{
    plain_i32_512 o;
    for (int i = 0; i < 16; i++)
        o[i] = ((plain_i8_128)v)[i];
    return (__m512i)o;
}
PLAIN __m512i _mm512_cvtepu8_epi32(__m128i v)
{
    plain_i32_512 o;
    for (int i = 0; i < 16; i++)
        o[i] = ((plain_u8_128)v)[i];
    return (__m512i)o;
}
PLAIN __m512i _mm512_cvtepu16_epi32(__m256i v)
{
    plain_i32_512 o;
    for (int i = 0; i < 16; i++)
        o[i] = ((plain_u16_256)v)[i];
    return (__m512i)o;
}
PLAIN __m512 _mm512_cvtph_ps(__m256i v)
{
    __m512 o;
    for (int i = 0; i < 16; i++)
        o[i] = f16_to_f32(((plain_u16_256)v)[i]);
    return o;
}
PLAIN __m256i _mm512_cvtps_ph(__m512 v, int how)
{
    plain_u16_256 o;
    (void)how;
    for (int i = 0; i < 16; i++)
        o[i] = f16_from_f32(v[i]);
    return (__m256i)o;
}

#endif
