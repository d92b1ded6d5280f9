/* SPDX-License-Identifier: MIT
 * matmul.c — activations to 8 bits, and the walk over tiles.
 * Rows go in blocks whose activations stay in the level 2 cache while the tiles pass by; a tile
 * stays in level 1 while the rows of the block pass by. */
#include "kernels/avx2/avx2.h"

#include <math.h>

#define BLOCK_BYTES        (192u * 1024u) /* of activations; level 2 is 512 KiB or more */
#define BLOCK_BYTES_FLOATS (768u * 1024u) /* weights are larger here: fewer passes over them */
#define BLOCK_ROWS_MIN     24u            /* multiple of both register tiles */

/* ---- activations ---- */
static uint32_t largest_bits(const float *f)
{
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    __m256i m = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) /* patterns of |x| are positive, so signed max orders them */
        m = _mm256_max_epi32(m, _mm256_and_si256(load_256(f + 8 * i), mask));
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

void avx2_quantize_row(const struct act_rows *x, uint32_t row)
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

/* ---- products ---- */
static avx2_tile_fn *tile_fn_of(enum tensor_type type)
{
    switch (type) {
    case TYPE_F32:
        return avx2_tile_f32;
    case TYPE_F16:
        return avx2_tile_f16;
    case TYPE_BF16:
        return avx2_tile_bf16;
    case TYPE_Q4_0:
        return avx2_tile_q4_0;
    case TYPE_Q4_1:
        return avx2_tile_q4_1;
    case TYPE_Q5_0:
        return avx2_tile_q5_0;
    case TYPE_Q5_1:
        return avx2_tile_q5_1;
    case TYPE_Q8_0:
        return avx2_tile_q8_0;
    case TYPE_Q2_K:
        return avx2_tile_q2_k;
    case TYPE_Q3_K:
        return avx2_tile_q3_k;
    case TYPE_Q4_K:
        return avx2_tile_q4_k;
    case TYPE_Q5_K:
        return avx2_tile_q5_k;
    case TYPE_Q6_K:
        return avx2_tile_q6_k;
    case TYPE_IQ4_NL:
        return avx2_tile_iq4_nl;
    case TYPE_IQ4_XS:
        return avx2_tile_iq4_xs;
    case TYPE_MXFP4:
        return avx2_tile_mxfp4;
    }
    return NULL;
}

/* The last tile may have fewer than 16 outputs: by way of a buffer, a few rows at a time. */
static void partial_tile(avx2_tile_fn *fn, float *y, size_t y_stride, const struct avx2_tile *t,
                         uint32_t row0, uint32_t row1, uint32_t n_lanes)
{
    float out[BLOCK_ROWS_MIN * TILE_ROWS];
    for (uint32_t row = row0; row < row1; row += BLOCK_ROWS_MIN) {
        const uint32_t n = row1 - row < BLOCK_ROWS_MIN ? row1 - row : BLOCK_ROWS_MIN;
        struct act_rows x = *t->x;
        x.f32 += (size_t)row * x.n_in;
        if (x.q != NULL) {
            const size_t blocks = (size_t)row * t->layout->n_blocks;
            x.q += (size_t)row * x.n_in;
            x.scale += blocks;
            x.scaled_sum += blocks;
            x.sum16 += 2 * blocks;
        }
        const struct avx2_tile shifted = {t->data, t->layout, &x};
        fn(out, TILE_ROWS, &shifted, 0, n);
        for (uint32_t r = 0; r < n; r++)
            memcpy(y + (row + r) * y_stride, out + (size_t)r * TILE_ROWS, n_lanes * sizeof(float));
    }
}

void avx2_matmul(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0, uint32_t row1,
                 const struct packed *w, uint32_t tile0, uint32_t tile1)
{
    const struct pack_format *f = pack_format_of(w->type, w->activations);
    CHECK(f != NULL && x->n_in == w->n_in && row1 <= x->n_rows);
    const struct pack_layout l = pack_layout_of(f, w->n_in);
    avx2_tile_fn *const fn = tile_fn_of(f->type);
    const bool is_float = f->planes & (PLANE_FLOATS | PLANE_HALVES);
    const uint32_t block_rows = is_float ? BLOCK_BYTES_FLOATS / 4 / x->n_in : BLOCK_BYTES / x->n_in;
    const uint32_t fitting = block_rows / BLOCK_ROWS_MIN * BLOCK_ROWS_MIN;
    const uint32_t step = fitting > BLOCK_ROWS_MIN ? fitting : BLOCK_ROWS_MIN;
    for (uint32_t row = row0; row < row1; row += step) {
        const uint32_t end = row1 - row < step ? row1 : row + step;
        for (uint32_t t = tile0; t < tile1; t++) {
            const struct avx2_tile tile = {(const uint8_t *)w->data + t * l.tile_bytes, &l, x};
            const uint32_t left = w->n_out - t * TILE_ROWS;
            float *out = y + (size_t)t * TILE_ROWS;
            if (left >= TILE_ROWS)
                fn(out, y_stride, &tile, row, end);
            else
                partial_tile(fn, out, y_stride, &tile, row, end, left);
        }
    }
}
