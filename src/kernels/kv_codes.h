/* SPDX-License-Identifier: MIT
 * kv_codes.h — 32 values of K or V to a scale and codes, and where in a page they go
 * (docs/numerics.md §7).  Plain C that each instruction set compiles for itself: loops without
 * branches, which compilers turn into vectors. */
#ifndef KVASIR_KERNELS_KV_CODES_H
#define KVASIR_KERNELS_KV_CODES_H

#include <math.h>
#include <string.h>

#include "kernels/kernels_int.h"

#define KV_SCALE_NAN 0x7e00u     /* f16 */
#define KV_ROUND     0x1.8p+23f  /* x + this − this rounds |x| < 2^22 to nearest even */
#define KV_INFINITY  0x7f800000u /* bits of f32 */

static inline float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* The value of the largest magnitude, its sign too where one of that magnitude is positive; NaN
 * above infinity above numbers. */
static inline float extreme_of(const float x[KV_BLOCK])
{
    uint32_t bits[KV_BLOCK], amax = 0, is_positive = 0;
    memcpy(bits, x, sizeof bits);
    for (uint32_t i = 0; i < KV_BLOCK; i++) {
        const uint32_t b = bits[i] & 0x7fffffff;
        amax = b > amax ? b : amax;
    }
    for (uint32_t i = 0; i < KV_BLOCK; i++)
        is_positive |= bits[i] == amax;
    return float_of_bits(is_positive ? amax : amax | 0x80000000);
}

/* Codes from `least` to `most` such that code × scale is near x.  Returns the scale as f16. */
static inline uint16_t kv_codes_of(float ideal, float least, float most, const float x[KV_BLOCK],
                                   int8_t codes[KV_BLOCK])
{
    uint32_t bits;
    memcpy(&bits, &ideal, 4);
    const bool is_finite = (bits & 0x7fffffff) < KV_INFINITY;
    const uint16_t scale = is_finite ? f16_from_f32(ideal) : (uint16_t)KV_SCALE_NAN;
    const float step = f16_to_f32(scale);
    if (!is_finite || step == 0.0f) { /* NaN: what meets it is NaN, not silently wrong */
        memset(codes, 0, KV_BLOCK);
        return scale;
    }
    const float inverse = 1.0f / step;
    for (uint32_t i = 0; i < KV_BLOCK; i++) {
        float c = x[i] * inverse;
        c = c > most ? most : c;
        c = c < least ? least : c;
        codes[i] = (int8_t)(int32_t)((c + KV_ROUND) - KV_ROUND);
    }
    return scale;
}

static inline uint16_t kv_bytes_of(const float x[KV_BLOCK], int8_t codes[KV_BLOCK])
{
    return kv_codes_of(fabsf(extreme_of(x)) / 127.0f, -127.0f, 127.0f, x, codes);
}

/* The value of largest magnitude gets code −8: there are −8 steps, not +8. */
static inline uint16_t kv_nibbles_of(const float x[KV_BLOCK], int8_t codes[KV_BLOCK])
{
    return kv_codes_of(extreme_of(x) / -8.0f, -8.0f, 7.0f, x, codes);
}

/* ---- one block of one token into its KV head's planes ---- */
static inline void kv_put_scale(uint8_t *plane, uint32_t block, uint32_t slot, uint16_t scale)
{
    memcpy(plane + ((size_t)block * KV_PAGE_TOKENS + slot) * sizeof scale, &scale, sizeof scale);
}

static inline void kv_put_k(uint8_t *head, uint32_t head_dim, uint32_t block, uint32_t slot,
                            const float *x)
{
    int8_t codes[KV_BLOCK];
    const uint16_t scale = kv_bytes_of(x, codes);
    uint8_t *to = head + (size_t)block * KV_BLOCK * KV_PAGE_TOKENS + slot;
    for (uint32_t i = 0; i < KV_BLOCK; i++)
        to[(size_t)i * KV_PAGE_TOKENS] = (uint8_t)codes[i];
    kv_put_scale(head + kv_codes_bytes(KV_Q8_0, head_dim), block, slot, scale);
}

static inline void kv_put_v_bytes(uint8_t *head, uint32_t head_dim, uint32_t block, uint32_t slot,
                                  const float *x)
{
    int8_t codes[KV_BLOCK];
    const uint16_t scale = kv_bytes_of(x, codes);
    memcpy(head + (size_t)slot * head_dim + (size_t)block * KV_BLOCK, codes, KV_BLOCK);
    kv_put_scale(head + kv_codes_bytes(KV_Q8_0, head_dim), block, slot, scale);
}

static inline void kv_put_v_nibbles(uint8_t *head, uint32_t head_dim, uint32_t block, uint32_t slot,
                                    const float *x)
{
    int8_t codes[KV_BLOCK];
    const uint16_t scale = kv_nibbles_of(x, codes);
    uint8_t *to = head + ((size_t)slot * head_dim + (size_t)block * KV_BLOCK) / 2;
    for (uint32_t i = 0; i < KV_BLOCK / 2; i++)
        to[i] = (uint8_t)((codes[i] & 15) | (codes[KV_BLOCK / 2 + i] & 15) << 4);
    kv_put_scale(head + kv_codes_bytes(KV_Q4, head_dim), block, slot, scale);
}

static inline void kv_put_token(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim,
                                void *k_chunk, void *v_chunk, uint32_t slot, const float *k,
                                const float *v)
{
    uint8_t *k_head = k_chunk, *v_head = v_chunk;
    const size_t k_bytes = kv_head_bytes(type, false, head_dim);
    const size_t v_bytes = kv_head_bytes(type, true, head_dim);
    for (uint32_t h = 0; h < n_kv_heads; h++) {
        for (uint32_t b = 0; b < head_dim / KV_BLOCK; b++) {
            const size_t from = (size_t)h * head_dim + b * KV_BLOCK;
            kv_put_k(k_head, head_dim, b, slot, k + from);
            if (type == KV_Q4)
                kv_put_v_nibbles(v_head, head_dim, b, slot, v + from);
            else
                kv_put_v_bytes(v_head, head_dim, b, slot, v + from);
        }
        k_head += k_bytes;
        v_head += v_bytes;
    }
}

#endif
