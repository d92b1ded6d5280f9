/* SPDX-License-Identifier: MIT
 * matmul_floats.c — f32, f16 and bf16 weights with f32 activations: 6 rows × 16 outputs. */
#include "kernels/avx2/avx2.h"

#define ROWS_AT_ONCE 6    /* 12 accumulators, 2 weights, 1 activation */
#define CHUNK        256u /* of k: 16 KiB of f32 weights */

INLINE __m256 weights_at(enum tensor_type type, const uint8_t *data, size_t at)
{
    if (type == TYPE_F16)
        return halves_at(data + 2 * at);
    if (type == TYPE_BF16)
        return bfloats_at(data + 2 * at);
    return _mm256_loadu_ps((const float *)(const void *)data + at);
}

/* Adds k of [0, n_k) to acc, which lives in y between chunks (first: starts from zero). */
INLINE void rows_of_chunk(enum tensor_type type, const int R, float *y, size_t y_stride,
                          const uint8_t *w, const float *x, uint32_t n_in, uint32_t n_k,
                          bool is_first)
{
    __m256 acc[ROWS_AT_ONCE][2];
    const float *row[ROWS_AT_ONCE];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
        row[r] = x + (size_t)r * n_in;
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++)
            acc[r][h] = is_first ? _mm256_setzero_ps()
                                 : _mm256_loadu_ps(y + (size_t)r * y_stride + 8 * (size_t)h);
    for (uint32_t k = 0; k < n_k; k++) {
        const __m256 w0 = weights_at(type, w, (size_t)k * TILE_ROWS);
        const __m256 w1 = weights_at(type, w, (size_t)k * TILE_ROWS + 8);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const __m256 v = _mm256_set1_ps(row[r][k]);
            acc[r][0] = _mm256_fmadd_ps(w0, v, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(w1, v, acc[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        _mm256_storeu_ps(y + (size_t)r * y_stride, acc[r][0]);
        _mm256_storeu_ps(y + (size_t)r * y_stride + 8, acc[r][1]);
    }
}

INLINE void all_rows_of_chunk(enum tensor_type type, float *y, size_t y_stride, const uint8_t *w,
                              const float *x, uint32_t n_in, uint32_t n_k, uint32_t n_rows,
                              bool is_first)
{
    for (; n_rows >= 6; n_rows -= 6, x += 6 * (size_t)n_in, y += 6 * y_stride)
        rows_of_chunk(type, 6, y, y_stride, w, x, n_in, n_k, is_first);
    for (; n_rows >= 3; n_rows -= 3, x += 3 * (size_t)n_in, y += 3 * y_stride)
        rows_of_chunk(type, 3, y, y_stride, w, x, n_in, n_k, is_first);
    for (; n_rows >= 1; n_rows -= 1, x += n_in, y += y_stride)
        rows_of_chunk(type, 1, y, y_stride, w, x, n_in, n_k, is_first);
}

/* Many rows: the tile goes by in chunks of k that stay in level 1, widened to f32 once. */
INLINE void whole_tile(enum tensor_type type, float *y, size_t y_stride, const struct avx2_tile *t,
                       uint32_t row0, uint32_t row1)
{
    const uint32_t n_in = t->x->n_in, n_rows = row1 - row0;
    const size_t weight_bytes = type == TYPE_F32 ? 4 : 2;
    const float *x = t->x->f32 + (size_t)row0 * n_in;
    y += row0 * y_stride;
    if (n_rows <= ROWS_AT_ONCE) {
        all_rows_of_chunk(type, y, y_stride, t->data, x, n_in, n_in, n_rows, true);
        return;
    }
    float wide[CHUNK * TILE_ROWS];
    for (uint32_t k = 0; k < n_in; k += CHUNK) {
        const uint32_t n_k = n_in - k < CHUNK ? n_in - k : CHUNK;
        const uint8_t *w = t->data + (size_t)k * TILE_ROWS * weight_bytes;
        if (type != TYPE_F32) {
            for (size_t i = 0; i < (size_t)n_k * TILE_ROWS; i += 8)
                _mm256_storeu_ps(wide + i, weights_at(type, w, i));
            w = (const uint8_t *)wide;
        }
        all_rows_of_chunk(TYPE_F32, y, y_stride, w, x + k, n_in, n_k, n_rows, k == 0);
    }
}

#define AVX2_TILE(name, type)                                                                     \
    void name(float *y, size_t y_stride, const struct avx2_tile *t, uint32_t row0, uint32_t row1) \
    {                                                                                             \
        whole_tile(type, y, y_stride, t, row0, row1);                                             \
    }

AVX2_TILE(avx2_tile_f32, TYPE_F32)
AVX2_TILE(avx2_tile_f16, TYPE_F16)
AVX2_TILE(avx2_tile_bf16, TYPE_BF16)
