/* SPDX-License-Identifier: MIT
 * kernels_avx2.c — the table of the kernels for AVX2 + FMA + F16C. */
#include "kernels/avx2/avx2.h"

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
