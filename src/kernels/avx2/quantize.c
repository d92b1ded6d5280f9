/* SPDX-License-Identifier: MIT
 * quantize.c — activations to 8 bits. */
#include "kernels/avx2/avx2.h"

#include <math.h>

/* ---- activations ---- */
static uint32_t largest_bits(const float *f)
{
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    __m256i m = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) /* patterns of |x| are positive, so signed max orders them */
        m = _mm256_max_epi32(m, _mm256_and_si256(vi_load(f + 8 * i), mask));
    __m128i n = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    n = _mm_max_epi32(n, _mm_shuffle_epi32(n, 0x4e));
    n = _mm_max_epi32(n, _mm_shuffle_epi32(n, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(n);
}

static int32_t add_lanes(__m256i v)
{
    __m128i n = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    n = _mm_add_epi32(n, _mm_shuffle_epi32(n, 0x4e));
    n = _mm_add_epi32(n, _mm_shuffle_epi32(n, 0xb1));
    return _mm_cvtsi128_si32(n);
}

/* q of 16 values; returns their sum. */
static int32_t quantize_16(int8_t *q, const float *f, __m256 inverse)
{
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(f), inverse));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(f + 8), inverse));
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)q, bytes);
    return add_lanes(_mm256_add_epi32(a, b));
}

void ISA_NAME(quantize_row)(const struct act_rows *x, uint32_t row)
{
    const uint32_t n_blocks = x->n_in / ACT_BLOCK;
    for (uint32_t b = 0; b < n_blocks; b++) {
        const float *f = x->f32 + (size_t)row * x->n_in + b * ACT_BLOCK;
        int8_t *q = x->q + (size_t)row * x->n_in + b * ACT_BLOCK;
        const size_t at = (size_t)row * n_blocks + b;
        const uint32_t amax_bits = largest_bits(f);
        float amax;
        memcpy(&amax, &amax_bits, 4);
        int32_t first = 0, second = 0;
        if (amax_bits >= 0x7f800000 || amax < ACT_AMAX_MIN) {
            memset(q, 0, ACT_BLOCK);
            x->scale[at] = amax_bits >= 0x7f800000 ? NAN : 0.0f;
        } else {
            const __m256 inverse = _mm256_set1_ps(127.0f / amax);
            first = quantize_16(q, f, inverse);
            second = quantize_16(q + 16, f + 16, inverse);
            x->scale[at] = amax / 127.0f;
        }
        x->sum16[2 * at] = (int16_t)first;
        x->sum16[2 * at + 1] = (int16_t)second;
        x->scaled_sum[at] = x->scale[at] * (float)(first + second);
    }
}
