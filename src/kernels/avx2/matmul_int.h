/* SPDX-License-Identifier: MIT
 * matmul_int.h — the body of all products of quantized weights with 8-bit
 * activations: a register tile of R rows × 16 outputs.  `type` and `R` are
 * constants at every use, so that each instance keeps only its own branches.
 * No-saturation proofs per type: docs/numerics.md §4. */
#ifndef KVASIR_KERNELS_AVX2_MATMUL_INT_H
#define KVASIR_KERNELS_AVX2_MATMUL_INT_H

#include "kernels/avx2/avx2.h"

/* 4 × 16: an activation quad serves two maddubs, a code vector four; 8 sums, 2 code vectors and
 * what passes by fit 16 registers.  6 × 16 was slower (Q4_1 216 against 235 GOP/s, Zen 4). */
#define ROWS_AT_ONCE 4

INLINE uint8_t planes_of(enum tensor_type type)
{
    switch (type) {
    case TYPE_Q8_0:
        return PLANE_BYTES;
    case TYPE_Q5_0:
    case TYPE_Q5_1:
    case TYPE_Q5_K:
        return PLANE_NIBBLES | PLANE_BITS;
    case TYPE_Q6_K:
        return PLANE_NIBBLES | PLANE_PAIRS;
    case TYPE_Q3_K:
        return PLANE_PAIRS | PLANE_BITS;
    case TYPE_Q2_K:
        return PLANE_PAIRS;
    default:
        return PLANE_NIBBLES;
    }
}

INLINE int planes_size(enum tensor_type type)
{
    const uint8_t set = planes_of(type);
    return (set & PLANE_BYTES ? 512 : 0) + (set & PLANE_NIBBLES ? 256 : 0) +
           (set & PLANE_PAIRS ? 128 : 0) + (set & PLANE_BITS ? 64 : 0);
}

/* Bytes of scales of a block, super-scales shared out. */
INLINE int scales_size(enum tensor_type type)
{
    switch (type) {
    case TYPE_Q4_1:
    case TYPE_Q5_1:
        return 64;
    case TYPE_Q4_K:
    case TYPE_Q5_K:
    case TYPE_Q2_K:
        return 40;
    case TYPE_IQ4_XS:
        return 20;
    case TYPE_Q3_K:
    case TYPE_Q6_K:
        return 36;
    default:
        return 32;
    }
}

/* Products of two neighbours that int16 lanes may add before one madd widens
 * them. */
INLINE int adds_of(enum tensor_type type)
{
    switch (type) {
    case TYPE_Q4_0: /* 8 × 2 × 15 × 127 = 30480 */
    case TYPE_Q4_1:
    case TYPE_Q4_K:
        return 8;
    case TYPE_Q5_0: /* 4 × 2 × 31 × 127 = 31496 */
    case TYPE_Q5_1:
    case TYPE_Q5_K:
    case TYPE_MXFP4: /* 4 × 2 × 24 × 127 = 24384 */
    case TYPE_Q3_K:  /* 4 × 2 × 7 × 127 = 7112; a sub-block ends here */
    case TYPE_Q2_K:
        return 4;
    case TYPE_Q6_K: /* 2 × 2 × 63 × 127 = 32004 */
        return 2;
    default: /* 2 × 128 × 127 = 32512 */
        return 1;
    }
}

/* What is taken off every code, in the integer dot. */
INLINE int offset_of(enum tensor_type type)
{
    switch (type) {
    case TYPE_Q4_0:
        return 8;
    case TYPE_Q5_0:
        return 16;
    case TYPE_MXFP4:
        return MXFP4_OFFSET;
    case TYPE_Q3_K:
        return 4;
    case TYPE_Q6_K:
        return 32;
    default:
        return 0;
    }
}

INLINE bool has_sixteens(enum tensor_type type)
{
    return type == TYPE_Q6_K || type == TYPE_Q3_K || type == TYPE_Q2_K;
}
INLINE bool is_signed_code(enum tensor_type type)
{
    return type == TYPE_Q8_0 || type == TYPE_IQ4_NL || type == TYPE_IQ4_XS;
}
INLINE bool has_minimum(enum tensor_type type)
{
    return type == TYPE_Q4_1 || type == TYPE_Q5_1 || type == TYPE_Q4_K || type == TYPE_Q5_K;
}

/* v shifted so that bit `from` of every byte lands on bit `to`; only those bits
 * mean anything. */
INLINE __m256i move_bits(__m256i v, int from, int to)
{
    if (from == to)
        return v;
    return from < to ? _mm256_slli_epi16(v, to - from) : _mm256_srli_epi16(v, from - to);
}

INLINE __m256i look_up(const int8_t *codebook, int add, __m256i index)
{
    const __m128i table = _mm_add_epi8(load_128(codebook), _mm_set1_epi8((char)add));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index);
}

/* Codes of group g (4 k of 8 rows) of half h. */
INLINE __m256i codes_at(enum tensor_type type, const uint8_t *p, int g, int h)
{
    const uint8_t set = planes_of(type);
    if (set & PLANE_BYTES)
        return load_256(p + g * 64 + h * 32);
    __m256i c = _mm256_setzero_si256();
    int bit = 0;
    if (set & PLANE_NIBBLES) {
        const __m256i n = load_256(p + (g % 4) * 64 + h * 32);
        c = _mm256_and_si256(move_bits(n, g < 4 ? 0 : 4, 0), _mm256_set1_epi8(15));
        p += 256;
        bit = 4;
    }
    if (set & PLANE_PAIRS) {
        const __m256i n = load_256(p + (g & 1) * 64 + h * 32);
        const __m256i mask = _mm256_set1_epi8((char)(3 << bit));
        c = _mm256_or_si256(c, _mm256_and_si256(move_bits(n, 2 * (g >> 1), bit), mask));
        p += 128;
        bit += 2;
    }
    if (set & PLANE_BITS) {
        const __m256i n = load_256(p + h * 32);
        const __m256i mask = _mm256_set1_epi8((char)(1 << bit));
        c = _mm256_or_si256(c, _mm256_and_si256(move_bits(n, g, bit), mask));
    }
    if (type == TYPE_IQ4_NL || type == TYPE_IQ4_XS)
        return look_up(codebook_iq4, 0, c);
    if (type == TYPE_MXFP4)
        return look_up(codebook_mxfp4, MXFP4_OFFSET, c);
    return c;
}

/* Scales of 8 rows of a block, in the forms that the body needs. */
struct block_scales {
    __m256 dw, mw;
    __m256i sub;     /* int16 pairs of the two 16s */
    __m256i sub_min; /* Q2_K */
};

INLINE __m256 bytes_to_floats(const uint8_t *p, bool is_signed)
{
    const __m128i v = load_64(p);
    return _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v));
}

INLINE struct block_scales scales_at(enum tensor_type type, const uint8_t *scale,
                                     const uint8_t *super, int h)
{
    struct block_scales o = {0};
    const __m256 negative = _mm256_set1_ps(-0.0f);
    switch (type) {
    case TYPE_Q4_1:
    case TYPE_Q5_1:
        o.dw = halves_at(scale + h * 16);
        o.mw = halves_at(scale + 32 + h * 16);
        break;
    case TYPE_MXFP4:
        o.dw = bfloats_at(scale + h * 16);
        break;
    case TYPE_Q4_K:
    case TYPE_Q5_K:
        o.dw = _mm256_mul_ps(halves_at(super + h * 16), bytes_to_floats(scale + h * 8, false));
        o.mw = _mm256_mul_ps(_mm256_xor_ps(halves_at(super + 32 + h * 16), negative),
                             bytes_to_floats(scale + 16 + h * 8, false));
        break;
    case TYPE_IQ4_XS:
        o.dw = _mm256_mul_ps(halves_at(super + h * 16), bytes_to_floats(scale + h * 8, true));
        break;
    case TYPE_Q3_K:
    case TYPE_Q6_K:
        o.dw = halves_at(super + h * 16);
        o.sub = _mm256_cvtepi8_epi16(load_128(scale + h * 16));
        break;
    case TYPE_Q2_K: {
        const __m256i both = _mm256_cvtepu8_epi16(load_128(scale + h * 16));
        o.dw = halves_at(super + h * 16);
        o.mw = _mm256_xor_ps(halves_at(super + 32 + h * 16), negative);
        o.sub = _mm256_and_si256(both, _mm256_set1_epi16(15));
        o.sub_min = _mm256_srli_epi16(both, 4);
        break;
    }
    default:
        o.dw = halves_at(scale + h * 16);
    }
    return o;
}

/* The int16 of the first (second) 16 of every lane, twice. */
INLINE __m256i twice(__m256i pairs, bool second)
{
    const __m256i order =
        second ? _mm256_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15, 2, 3, 2,
                                  3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15)
               : _mm256_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13, 0, 1, 0, 1, 4,
                                  5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    return _mm256_shuffle_epi8(pairs, order);
}

/* The order in which groups are visited: a nibble vector serves g and g + 4 at
 * once, unless the halves of the block belong to different sub-scales.  Integer
 * sums, so any order is exact. */
INLINE int group_at(enum tensor_type type, int i)
{
    return has_sixteens(type) || type == TYPE_Q8_0 ? i : (i >> 1) + (i & 1) * 4;
}

/* Compilers regroup integer sums as they like, gcc so that a whole block of products waits on the
 * stack (two in five instructions of the loop were moves).  After this, v is what it is. */
INLINE void stay_in_order(__m256i *v)
{
    __asm__("" : "+x"(*v));
}

/* One block of 32: integer dots of R rows × 16 outputs, offsets already off. */
INLINE void block_dots(enum tensor_type type, const int R, __m256i dot[][2], const uint8_t *planes,
                       const struct block_scales s[2], const int8_t *const *q,
                       const int16_t *const *sum16, uint32_t b)
{
    const int adds = adds_of(type);
    __m256i part[ROWS_AT_ONCE][2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const int g = group_at(type, i);
        const __m256i c[2] = {codes_at(type, planes, g, 0), codes_at(type, planes, g, 1)};
        __m256i a[2] = {c[0], c[1]};
        if (is_signed_code(type)) {
            a[0] = _mm256_abs_epi8(c[0]);
            a[1] = _mm256_abs_epi8(c[1]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const __m256i x = quad_at(q[r] + b * ACT_BLOCK + (size_t)g * 4);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const __m256i s8 = is_signed_code(type) ? _mm256_sign_epi8(x, c[h]) : x;
                const __m256i p = _mm256_maddubs_epi16(a[h], s8);
                part[r][h] = i % adds == 0 ? p : _mm256_add_epi16(part[r][h], p);
                if (adds != 1)
                    stay_in_order(&part[r][h]);
            }
        }
        if (i % adds != adds - 1)
            continue;
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const __m256i factor =
                has_sixteens(type) ? twice(s[h].sub, g >= 4) : _mm256_set1_epi16(1);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) {
                const __m256i wide = _mm256_madd_epi16(part[r][h], factor);
                dot[r][h] = i == adds - 1 ? wide : _mm256_add_epi32(dot[r][h], wide);
                if (adds != 8)
                    stay_in_order(&dot[r][h]);
            }
        }
    }
    if (offset_of(type) == 0)
        return;
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const __m256i sums = quad_at(sum16[r] + (size_t)b * 2);
            const __m256i offset = _mm256_set1_epi16((short)offset_of(type));
            const __m256i off = has_sixteens(type)
                                    ? _mm256_madd_epi16(sums, _mm256_mullo_epi16(s[h].sub, offset))
                                    : _mm256_madd_epi16(sums, offset);
            dot[r][h] = _mm256_sub_epi32(dot[r][h], off);
        }
}

INLINE __m256 add_block(enum tensor_type type, __m256 acc, __m256i dot,
                        const struct block_scales *s, float da, float scaled_sum,
                        const int16_t *sum16)
{
    const __m256 scale = _mm256_set1_ps(da);
    acc = _mm256_fmadd_ps(_mm256_mul_ps(s->dw, scale), _mm256_cvtepi32_ps(dot), acc);
    if (has_minimum(type))
        return _mm256_fmadd_ps(s->mw, _mm256_set1_ps(scaled_sum), acc);
    if (type == TYPE_Q2_K) {
        const __m256i imin = _mm256_madd_epi16(quad_at(sum16), s->sub_min);
        return _mm256_fmadd_ps(_mm256_mul_ps(s->mw, scale), _mm256_cvtepi32_ps(imin), acc);
    }
    return acc;
}

/* With few rows the weights come at memory speed, so the first register tile of a tile asks for
 * what lies PREFETCH_BYTES ahead, a tile or two.  Planes and scales are taken as one run of memory,
 * in as many parts as there are blocks.  Measured on Zen 4, one thread, M = 1 from memory, GB/s for
 * Q4_1, Q5_0, Q8_0, Q4_K, Q6_K where a bare read gets 32: without 8, 8, 10, 7, 8; 12 KiB ahead into
 * level 1 30, 31, 24, 29, 28; 16 KiB 30, 29, 24, 28, 27; 24 KiB 27, 25, 20, 25, 23; 16 KiB into
 * level 2 24, 28, 22, 25, 29. */
#define PREFETCH_BYTES 12288
INLINE void prefetch_block(enum tensor_type type, const uint8_t *part)
{
    const int lines = (planes_size(type) + scales_size(type) + 63) / 64;
#pragma GCC unroll 9
    for (int i = 0; i < lines; i++)
        _mm_prefetch((const char *)part + PREFETCH_BYTES + i * 64, _MM_HINT_T0);
}

INLINE void rows_of_tile(enum tensor_type type, const int R, float *y, size_t y_stride,
                         const struct avx2_tile *t, uint32_t row, bool is_first)
{
    const struct pack_layout *l = t->layout;
    const struct act_rows *x = t->x;
    const int8_t *q[ROWS_AT_ONCE];
    const int16_t *sum16[ROWS_AT_ONCE];
    const float *scale[ROWS_AT_ONCE], *scaled_sum[ROWS_AT_ONCE];
    __m256 acc[ROWS_AT_ONCE][2];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const size_t at = row + (size_t)r;
        q[r] = x->q + at * x->n_in;
        sum16[r] = x->sum16 + at * l->n_blocks * 2;
        scale[r] = x->scale + at * l->n_blocks;
        scaled_sum[r] = x->scaled_sum + at * l->n_blocks;
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    }
    const size_t stride = l->tile_bytes / l->n_blocks;
    for (uint32_t b = 0; b < l->n_blocks; b++) {
        const uint8_t *planes = t->data + b * l->plane_bytes;
        const uint8_t *scales = t->data + l->scales_at + b * l->scale_bytes;
        const uint8_t *supers = t->data + l->supers_at + b / 8 * l->super_bytes;
        if (is_first)
            prefetch_block(type, t->data + b * stride);
        const struct block_scales s[2] = {scales_at(type, scales, supers, 0),
                                          scales_at(type, scales, supers, 1)};
        __m256i dot[ROWS_AT_ONCE][2];
        block_dots(type, R, dot, planes, s, q, sum16, b);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++)
                acc[r][h] = add_block(type, acc[r][h], dot[r][h], &s[h], scale[r][b],
                                      scaled_sum[r][b], sum16[r] + (size_t)b * 2);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        _mm256_storeu_ps(y + (row + (size_t)r) * y_stride, acc[r][0]);
        _mm256_storeu_ps(y + (row + (size_t)r) * y_stride + 8, acc[r][1]);
    }
}

#define AVX2_TILE(name, type)                                                                     \
    void name(float *y, size_t y_stride, const struct avx2_tile *t, uint32_t row0, uint32_t row1) \
    {                                                                                             \
        uint32_t row = row0;                                                                      \
        for (; row1 - row >= 4; row += 4)                                                         \
            rows_of_tile(type, 4, y, y_stride, t, row, row == row0);                              \
        if (row1 - row == 3)                                                                      \
            rows_of_tile(type, 3, y, y_stride, t, row, row == row0);                              \
        else if (row1 - row == 2)                                                                 \
            rows_of_tile(type, 2, y, y_stride, t, row, row == row0);                              \
        else if (row1 - row == 1)                                                                 \
            rows_of_tile(type, 1, y, y_stride, t, row, row == row0);                              \
    }

#endif
