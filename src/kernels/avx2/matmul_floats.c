/* SPDX-License-Identifier: MIT
 * matmul_floats.c — f32, f16 and bf16 weights with f32 activations: 6 rows × 16 outputs. */
#include "kernels/avx2/avx2.h"

#define ROWS_AT_ONCE 6 /* 12 accumulators, 2 weights, 1 activation */

INLINE __m256 weights_at(enum tensor_type type, const uint8_t *data, size_t at)
{
    if (type == TYPE_F16)
        return halves_at(data + 2 * at);
    if (type == TYPE_BF16)
        return bfloats_at(data + 2 * at);
    return _mm256_loadu_ps((const float *)(const void *)data + at);
}

INLINE void rows_of_tile(enum tensor_type type, const int R, float *y, size_t y_stride,
                         const struct avx2_tile *t, uint32_t row)
{
    const uint32_t n_in = t->x->n_in;
    const float *x[ROWS_AT_ONCE];
    __m256 acc[ROWS_AT_ONCE][2];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        x[r] = t->x->f32 + (row + (size_t)r) * n_in;
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    }
    for (uint32_t k = 0; k < n_in; k++) {
        const __m256 w0 = weights_at(type, t->data, (size_t)k * TILE_ROWS);
        const __m256 w1 = weights_at(type, t->data, (size_t)k * TILE_ROWS + 8);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const __m256 v = _mm256_set1_ps(x[r][k]);
            acc[r][0] = _mm256_fmadd_ps(w0, v, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(w1, v, acc[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        _mm256_storeu_ps(y + (row + (size_t)r) * y_stride, acc[r][0]);
        _mm256_storeu_ps(y + (row + (size_t)r) * y_stride + 8, acc[r][1]);
    }
}

#define AVX2_TILE(name, type)                                                                     \
    void name(float *y, size_t y_stride, const struct avx2_tile *t, uint32_t row0, uint32_t row1) \
    {                                                                                             \
        uint32_t row = row0;                                                                      \
        for (; row1 - row >= 6; row += 6)                                                         \
            rows_of_tile(type, 6, y, y_stride, t, row);                                           \
        for (; row1 - row >= 3; row += 3)                                                         \
            rows_of_tile(type, 3, y, y_stride, t, row);                                           \
        for (; row1 - row >= 1; row += 1)                                                         \
            rows_of_tile(type, 1, y, y_stride, t, row);                                           \
    }

AVX2_TILE(avx2_tile_f32, TYPE_F32)
AVX2_TILE(avx2_tile_f16, TYPE_F16)
AVX2_TILE(avx2_tile_bf16, TYPE_BF16)
