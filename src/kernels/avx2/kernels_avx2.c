/* SPDX-License-Identifier: MIT
 * kernels_avx2.c — the table of the kernels for AVX2 + FMA + F16C. */
#include "kernels/avx2/avx2.h"

static kernel_tile_fn *const tile_fns[] = {INTEGER_TYPES(TILE_ENTRY) FLOAT_TYPES(TILE_ENTRY)};

void avx2_matmul(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0, uint32_t row1,
                 const struct packed *w, uint32_t tile0, uint32_t tile1)
{
    kernel_tiles_matmul(tile_fns, y, y_stride, x, row0, row1, w, tile0, tile1);
}

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .isa = ISA_AVX2,
    .quantize_row = avx2_quantize_row,
    .matmul = avx2_matmul,
    .rms_norm = avx2_rms_norm,
    .add = avx2_add,
    .scale = avx2_scale,
    .silu_mul = avx2_silu_mul,
    .gelu_mul = avx2_gelu_mul,
    .rope = avx2_rope,
    .kv_write = avx2_kv_write,
    .attention_partial = avx2_attention_partial,
    .attention_fold = avx2_attention_fold,
    .attention_finish = avx2_attention_finish,
    .max_sum_exp = avx2_max_sum_exp,
    .argmax = avx2_argmax,
};
