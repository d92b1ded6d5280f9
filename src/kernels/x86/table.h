/* SPDX-License-Identifier: MIT
 * table.h — what the tables of an instruction set with and without VNNI share: products by tiles of
 * either kind, and everything else once.  Included by avx2/kernels_avx2.c and
 * avx512/kernels_avx512.c behind VNNI_NAME, the name of a tile with VNNI. */
#ifndef KVASIR_KERNELS_X86_TABLE_H
#define KVASIR_KERNELS_X86_TABLE_H

#define VNNI_DECLARE(name, type) kernel_tile_fn VNNI_NAME(tile_##name); /* matmul_*_vnni.c */
#define VNNI_ENTRY(name, type)   [type] = VNNI_NAME(tile_##name),
INTEGER_TYPES(VNNI_DECLARE)

static kernel_tile_fn *const tile_fns[] = {INTEGER_TYPES(TILE_ENTRY) FLOAT_TYPES(TILE_ENTRY)};
static kernel_tile_fn *const vnni_tile_fns[] = {INTEGER_TYPES(VNNI_ENTRY) FLOAT_TYPES(TILE_ENTRY)};

void ISA_NAME(matmul)(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0,
                      uint32_t row1, const struct packed *w, uint32_t tile0, uint32_t tile1)
{
    kernel_tiles_matmul(tile_fns, y, y_stride, x, row0, row1, w, tile0, tile1);
}

static void vnni_matmul(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0,
                        uint32_t row1, const struct packed *w, uint32_t tile0, uint32_t tile1)
{
    kernel_tiles_matmul(vnni_tile_fns, y, y_stride, x, row0, row1, w, tile0, tile1);
}

/* Everything but products, the same in both. */
#define COMMON                                                                                    \
    .quantize_row = ISA_NAME(quantize_row), .rms_norm = ISA_NAME(rms_norm), .add = ISA_NAME(add), \
    .scale = ISA_NAME(scale), .silu_mul = ISA_NAME(silu_mul), .gelu_mul = ISA_NAME(gelu_mul),     \
    .rope = ISA_NAME(rope), .rotate = ISA_NAME(rotate), .kv_write = ISA_NAME(kv_write),           \
    .attention_partial = ISA_NAME(attention_partial), .attention_fold = ISA_NAME(attention_fold), \
    .attention_finish = ISA_NAME(attention_finish), .max_sum_exp = ISA_NAME(max_sum_exp),         \
    .argmax = ISA_NAME(argmax)

#endif
