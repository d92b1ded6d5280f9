/* SPDX-License-Identifier: MIT
 * kernels_avx2.c — the tables of the kernels for AVX2 + FMA + F16C, with and without AVX-VNNI. */
#include "kernels/avx2/avx2.h"

#define VNNI_DECLARE(name, type) kernel_tile_fn avx2_vnni_tile_##name; /* matmul_*_vnni.c */
#define VNNI_ENTRY(name, type)   [type] = avx2_vnni_tile_##name,
INTEGER_TYPES(VNNI_DECLARE)

static kernel_tile_fn *const tile_fns[] = {INTEGER_TYPES(TILE_ENTRY) FLOAT_TYPES(TILE_ENTRY)};
static kernel_tile_fn *const vnni_tile_fns[] = {INTEGER_TYPES(VNNI_ENTRY) FLOAT_TYPES(TILE_ENTRY)};

void avx2_matmul(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0, uint32_t row1,
                 const struct packed *w, uint32_t tile0, uint32_t tile1)
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
    .quantize_row = avx2_quantize_row, .rms_norm = avx2_rms_norm, .add = avx2_add,                \
    .scale = avx2_scale, .silu_mul = avx2_silu_mul, .gelu_mul = avx2_gelu_mul, .rope = avx2_rope, \
    .kv_write = avx2_kv_write, .attention_partial = avx2_attention_partial,                       \
    .attention_fold = avx2_attention_fold, .attention_finish = avx2_attention_finish,             \
    .max_sum_exp = avx2_max_sum_exp, .argmax = avx2_argmax

const struct kernels kernels_avx2 = {
    .name = "avx2", .isa = ISA_AVX2, .matmul = avx2_matmul, COMMON};
const struct kernels kernels_avx2_vnni = {
    .name = "avx2-vnni", .isa = ISA_AVX2_VNNI, .matmul = vnni_matmul, COMMON};
