/* SPDX-License-Identifier: MIT
 * quantize.c — activations to 8 bits, a block of 32 in two vectors. */
#include "kernels/avx512/avx512.h"

#include <math.h>

/* q of 16 values; returns their sum. */
static int32_t quantize_16(int8_t *q, __m512 v, __m512 inverse)
{
    const __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
    _mm_storeu_si128((__m128i *)(void *)q, _mm512_cvtepi32_epi8(n));
    return _mm512_reduce_add_epi32(n);
}

void ISA_NAME(quantize_row)(const struct act_rows *x, uint32_t row)
{
    const uint32_t n_blocks = x->n_in / ACT_BLOCK;
    const __m512i mask = _mm512_set1_epi32(0x7fffffff);
    for (uint32_t b = 0; b < n_blocks; b++) {
        const float *f = x->f32 + (size_t)row * x->n_in + b * ACT_BLOCK;
        int8_t *q = x->q + (size_t)row * x->n_in + b * ACT_BLOCK;
        const size_t at = (size_t)row * n_blocks + b;
        const __m512 u = _mm512_loadu_ps(f), v = _mm512_loadu_ps(f + 16);
        /* patterns of |x| are positive, so signed max orders them */
        const uint32_t amax_bits = (uint32_t)_mm512_reduce_max_epi32(
            _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(u), mask),
                             _mm512_and_si512(_mm512_castps_si512(v), mask)));
        float amax;
        memcpy(&amax, &amax_bits, 4);
        int32_t first = 0, second = 0;
        if (amax_bits >= 0x7f800000 || amax < ACT_AMAX_MIN) {
            memset(q, 0, ACT_BLOCK);
            x->scale[at] = amax_bits >= 0x7f800000 ? NAN : 0.0f;
        } else {
            const __m512 inverse = _mm512_set1_ps(127.0f / amax);
            first = quantize_16(q, u, inverse);
            second = quantize_16(q + 16, v, inverse);
            x->scale[at] = amax / 127.0f;
        }
        x->sum16[2 * at] = (int16_t)first;
        x->sum16[2 * at + 1] = (int16_t)second;
        x->scaled_sum[at] = x->scale[at] * (float)(first + second);
    }
}
