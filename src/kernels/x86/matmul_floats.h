/* SPDX-License-Identifier: MIT
 * matmul_floats.h — f32, f16 and bf16 weights with f32 activations: a register tile of
 * FLOAT_ROWS_AT_ONCE rows × 16 outputs. */
#define CHUNK 256u /* of k: 16 KiB of f32 weights */

INLINE vf weights_at(enum tensor_type type, const uint8_t *data, size_t at)
{
    if (type == TYPE_F16)
        return vf_halves_at(data + 2 * at);
    if (type == TYPE_BF16)
        return vf_bfloats_at(data + 2 * at);
    return vf_load((const float *)(const void *)data + at);
}

/* Adds k of [0, n_k) to acc, which lives in y between chunks (first: starts from zero). */
INLINE void rows_of_chunk(enum tensor_type type, const int R, float *y, size_t y_stride,
                          const uint8_t *w, const float *x, uint32_t n_in, uint32_t n_k,
                          bool is_first)
{
    vf acc[FLOAT_ROWS_AT_ONCE][PARTS];
    const float *row[FLOAT_ROWS_AT_ONCE];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
        row[r] = x + (size_t)r * n_in;
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            acc[r][h] =
                is_first ? vf_zero() : vf_load(y + (size_t)r * y_stride + LANES * (size_t)h);
    for (uint32_t k = 0; k < n_k; k++) {
        vf v[PARTS];
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            v[h] = weights_at(type, w, (size_t)k * TILE_ROWS + LANES * (size_t)h);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            const vf a = vf_set1(row[r][k]);
#pragma GCC unroll 2
            for (int h = 0; h < PARTS; h++)
                acc[r][h] = vf_fma(v[h], a, acc[r][h]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            vf_store(y + (size_t)r * y_stride + LANES * (size_t)h, acc[r][h]);
}

INLINE void all_rows_of_chunk(enum tensor_type type, float *y, size_t y_stride, const uint8_t *w,
                              const float *x, uint32_t n_in, uint32_t n_k, uint32_t n_rows,
                              bool is_first)
{
    const uint32_t R = FLOAT_ROWS_AT_ONCE;
    for (; n_rows >= R; n_rows -= R, x += R * (size_t)n_in, y += R * y_stride)
        rows_of_chunk(type, FLOAT_ROWS_AT_ONCE, y, y_stride, w, x, n_in, n_k, is_first);
    if (n_rows >= 4) { /* fewer chains than fma has latency cost time: 4, 2, 1 are rare leftovers */
        rows_of_chunk(type, 4, y, y_stride, w, x, n_in, n_k, is_first);
        n_rows -= 4, x += 4 * (size_t)n_in, y += 4 * y_stride;
    }
    if (n_rows >= 2) {
        rows_of_chunk(type, 2, y, y_stride, w, x, n_in, n_k, is_first);
        n_rows -= 2, x += 2 * (size_t)n_in, y += 2 * y_stride;
    }
    for (; n_rows >= 1; n_rows -= 1, x += n_in, y += y_stride)
        rows_of_chunk(type, 1, y, y_stride, w, x, n_in, n_k, is_first);
}

/* Many rows: the tile goes by in chunks of k that stay in level 1, widened to f32 once. */
INLINE void whole_tile(enum tensor_type type, float *y, size_t y_stride,
                       const struct kernel_tile *t, uint32_t row0, uint32_t row1)
{
    const uint32_t n_in = t->x->n_in, n_rows = row1 - row0;
    const size_t weight_bytes = type == TYPE_F32 ? 4 : 2;
    const float *x = t->x->f32 + (size_t)row0 * n_in;
    y += row0 * y_stride;
    if (n_rows <= FLOAT_ROWS_AT_ONCE) {
        all_rows_of_chunk(type, y, y_stride, t->data, x, n_in, n_in, n_rows, true);
        return;
    }
    float wide[CHUNK * TILE_ROWS];
    for (uint32_t k = 0; k < n_in; k += CHUNK) {
        const uint32_t n_k = n_in - k < CHUNK ? n_in - k : CHUNK;
        const uint8_t *w = t->data + (size_t)k * TILE_ROWS * weight_bytes;
        if (type != TYPE_F32) {
            for (size_t i = 0; i < (size_t)n_k * TILE_ROWS; i += LANES)
                vf_store(wide + i, weights_at(type, w, i));
            w = (const uint8_t *)wide;
        }
        all_rows_of_chunk(TYPE_F32, y, y_stride, w, x + k, n_in, n_k, n_rows, k == 0);
    }
}

#define FLOAT_TILE_FN(name, type)                                                      \
    void ISA_NAME(tile_##name)(float *y, size_t y_stride, const struct kernel_tile *t, \
                               uint32_t row0, uint32_t row1)                           \
    {                                                                                  \
        whole_tile(type, y, y_stride, t, row0, row1);                                  \
    }
