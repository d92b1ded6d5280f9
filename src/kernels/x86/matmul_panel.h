/* SPDX-License-Identifier: MIT
 * matmul_panel.h — products of many rows: a stretch of a tile is opened once, codes one byte each
 * and scales as the body wants them, and all rows pass over it while it lies in level 1.  Sums wait
 * beside it between stretches, which changes no bit. */
#define PANEL_BLOCKS 16u
#define PANEL_ROWS   64u /* whose sums wait */

struct panel {
    _Alignas(64) uint8_t codes[PANEL_BLOCKS][512];
    struct block_scales scales[PANEL_BLOCKS][PARTS];
    _Alignas(64) float sums[PANEL_ROWS][TILE_ROWS];
};

/* What was measured (src/kernels/lab/README.md): in 16 registers opening a code beside four rows of
 * products costs more than a panel, whose body has no spills; in 32 it pays where a code is put
 * together of two planes and many rows follow; with dots of bytes it never does. */
INLINE bool wants_panel(enum tensor_type type, uint32_t n_rows)
{
#ifdef HAS_DOT_BYTES
    (void)type, (void)n_rows;
    return false;
#else
    if (PARTS == 1)
        return n_rows >= 3 * ROWS_AT_ONCE && planes_of(type) != PLANE_NIBBLES &&
               type != TYPE_Q8_0 && type != TYPE_Q2_K;
    return n_rows >= ROWS_AT_ONCE && type != TYPE_Q8_0;
#endif
}

INLINE void open_codes(enum tensor_type type, uint8_t *to, const uint8_t *planes)
{
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            vi_store(to + g * 64 + h * 32, codes_at(type, planes, g, h, lift_of(type)));
}

/* Only what the type has is written. */
INLINE void keep_scales(enum tensor_type type, struct block_scales *to,
                        const struct block_scales *s)
{
    to->dw = s->dw;
    if (has_minimum(type) || type == TYPE_Q2_K)
        to->mw = s->mw;
    if (type == TYPE_Q2_K)
        to->sub_min = s->sub_min;
    if (!has_sixteens(type))
        return;
    to->half[0] = s->half[0];
    to->half[1] = s->half[1];
#ifndef HAS_DOT_BYTES
    to->offset = s->offset;
#endif
}

INLINE void open_panel(enum tensor_type type, struct panel *p, const struct kernel_tile *t,
                       uint32_t b0, uint32_t b1)
{
    for (uint32_t b = b0; b < b1; b++) {
        const uint8_t *planes = t->data + pack_block_at(t->layout, b);
        const uint8_t *supers = t->data + pack_super_at(t->layout, b);
        open_codes(type, p->codes[b - b0], planes);
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            const struct block_scales s = scales_at(type, planes + planes_size(type), supers, h);
            keep_scales(type, &p->scales[b - b0][h], &s);
        }
    }
}

/* Blocks b0 … b1 − 1 of ROWS_AT_ONCE rows; sums [ROWS_AT_ONCE] of these rows go on. */
INLINE void rows_of_panel(enum tensor_type type, const struct kernel_tile *t, const struct panel *p,
                          float sums[][TILE_ROWS], uint32_t row, uint32_t b0, uint32_t b1)
{
    const struct rows_in in = rows_in_of(t, ROWS_AT_ONCE, row);
    vf acc[ROWS_AT_ONCE][PARTS];
    vi dot[ROWS_AT_ONCE][PARTS];
    struct starts start;
#pragma GCC unroll 8
    for (int r = 0; r < ROWS_AT_ONCE; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            acc[r][h] = vf_load(sums[r] + LANES * (size_t)h);
    for (uint32_t b = b0; b < b1; b++) {
        const struct block_scales *s = p->scales[b - b0];
        const uint32_t at = (b - b0) % LANES;
        if (at == 0)
            starts_at(type, ROWS_AT_ONCE, &start, in.sum16, b, t->layout->n_blocks);
        block_dots(type, ROWS_AT_ONCE, true, dot, p->codes[b - b0], s, &in, &start, b, at);
        add_dots(type, ROWS_AT_ONCE, acc, dot, s, &in, b);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS_AT_ONCE; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            vf_store(sums[r] + LANES * (size_t)h, acc[r][h]);
}

/* Rows row0 … row1 − 1, a multiple of ROWS_AT_ONCE and at most PANEL_ROWS of them. */
INLINE void rows_by_panels(enum tensor_type type, float *y, size_t y_stride,
                           const struct kernel_tile *t, uint32_t row0, uint32_t row1)
{
    const uint32_t n_blocks = t->layout->n_blocks;
    const uint32_t n_panels = (n_blocks + PANEL_BLOCKS - 1) / PANEL_BLOCKS;
    struct panel p;
    memset(p.sums, 0, (row1 - row0) * sizeof p.sums[0]);
    for (uint32_t i = 0; i < n_panels; i++) {
        const uint32_t b0 = n_blocks * i / n_panels, b1 = n_blocks * (i + 1) / n_panels;
        open_panel(type, &p, t, b0, b1);
        for (uint32_t row = row0; row < row1; row += ROWS_AT_ONCE) {
            float(*sums)[TILE_ROWS] = p.sums + (row - row0);
            rows_of_panel(type, t, &p, sums, row, b0, b1);
        }
    }
    for (uint32_t row = row0; row < row1; row++)
        memcpy(y + row * y_stride, p.sums[row - row0], sizeof p.sums[0]);
}
