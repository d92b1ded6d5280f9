/* SPDX-License-Identifier: MIT
 * tiles.c — the walk of a product over tiles, the same for all instruction sets with vectors.
 * Rows go in blocks whose activations stay in the level 2 cache while the tiles pass by; a tile
 * stays in level 1 while the rows of the block pass by. */
#include "kernels/kernels_int.h"

#include <string.h>

#define BLOCK_BYTES        (192u * 1024u) /* of activations; level 2 is 512 KiB or more */
#define BLOCK_BYTES_FLOATS (768u * 1024u) /* weights are larger here: fewer passes over them */
#define BLOCK_ROWS_MIN     24u            /* multiple of all register tiles */

/* The last tile may have fewer than 16 outputs: by way of a buffer, a few rows at a time. */
static void partial_tile(kernel_tile_fn *fn, float *y, size_t y_stride, const struct kernel_tile *t,
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
        const struct kernel_tile shifted = {t->data, t->layout, &x};
        fn(out, TILE_ROWS, &shifted, 0, n);
        for (uint32_t r = 0; r < n; r++)
            memcpy(y + (row + r) * y_stride, out + (size_t)r * TILE_ROWS, n_lanes * sizeof(float));
    }
}

void kernel_tiles_matmul(kernel_tile_fn *const *fns, float *y, size_t y_stride,
                         const struct act_rows *x, uint32_t row0, uint32_t row1,
                         const struct packed *w, uint32_t tile0, uint32_t tile1)
{
    const struct pack_format *f = pack_format_of(w->type, w->activations);
    CHECK(f != NULL && x->n_in == w->n_in && row1 <= x->n_rows);
    const struct pack_layout l = pack_layout_of(f, w->n_in);
    kernel_tile_fn *const fn = fns[f->type];
    const bool is_float = f->planes & (PLANE_FLOATS | PLANE_HALVES);
    const uint32_t block_rows = is_float ? BLOCK_BYTES_FLOATS / 4 / x->n_in : BLOCK_BYTES / x->n_in;
    const uint32_t fitting = block_rows / BLOCK_ROWS_MIN * BLOCK_ROWS_MIN;
    const uint32_t step = fitting > BLOCK_ROWS_MIN ? fitting : BLOCK_ROWS_MIN;
    for (uint32_t row = row0; row < row1; row += step) {
        const uint32_t end = row1 - row < step ? row1 : row + step;
        for (uint32_t t = tile0; t < tile1; t++) {
            const struct kernel_tile tile = {(const uint8_t *)w->data + t * l.tile_bytes, &l, x};
            const uint32_t left = w->n_out - t * TILE_ROWS;
            float *out = y + (size_t)t * TILE_ROWS;
            if (left >= TILE_ROWS)
                fn(out, y_stride, &tile, row, end);
            else
                partial_tile(fn, out, y_stride, &tile, row, end, left);
        }
    }
}
