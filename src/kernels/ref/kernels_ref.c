/* SPDX-License-Identifier: MIT
 * kernels_ref.c — the table of the plain C kernels. */
#include "kernels/ref/ref.h"

const struct kernels kernels_ref = {
    .name = "ref",
    .isa = ISA_REF,
    .quantize_row = ref_quantize_row,
    .matmul = ref_matmul,
    .rms_norm = ref_rms_norm,
    .add = ref_add,
    .scale = ref_scale,
    .silu_mul = ref_silu_mul,
    .gelu_mul = ref_gelu_mul,
    .rope = ref_rope,
    .rotate = ref_rotate,
    .kv_write = ref_kv_write,
    .attention_partial = ref_attention_partial,
    .attention_fold = ref_attention_fold,
    .attention_finish = ref_attention_finish,
    .max_sum_exp = ref_max_sum_exp,
    .argmax = ref_argmax,
};
