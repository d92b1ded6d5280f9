/* SPDX-License-Identifier: MIT
 * kernels_avx512.c — the tables of the kernels for AVX-512, with and without VNNI. */
#include "kernels/avx512/avx512.h"

#define VNNI_DECLARE(name, type) kernel_tile_fn avx512_vnni_tile_##name; /* matmul_*_vnni.c */
#define VNNI_ENTRY(name, type)   [type] = avx512_vnni_tile_##name,
INTEGER_TYPES(VNNI_DECLARE)

static kernel_tile_fn *const tile_fns[] = {INTEGER_TYPES(TILE_ENTRY) FLOAT_TYPES(TILE_ENTRY)};
static kernel_tile_fn *const vnni_tile_fns[] = {INTEGER_TYPES(VNNI_ENTRY) FLOAT_TYPES(TILE_ENTRY)};

void avx512_matmul(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0,
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
#define COMMON                                                                              \
    .quantize_row = avx512_quantize_row, .rms_norm = avx512_rms_norm, .add = avx512_add,    \
    .scale = avx512_scale, .silu_mul = avx512_silu_mul, .gelu_mul = avx512_gelu_mul,        \
    .rope = avx512_rope, .kv_write = avx512_kv_write,                                       \
    .attention_partial = avx512_attention_partial, .attention_fold = avx512_attention_fold, \
    .attention_finish = avx512_attention_finish, .max_sum_exp = avx512_max_sum_exp,         \
    .argmax = avx512_argmax

const struct kernels kernels_avx512 = {
    .name = "avx512", .isa = ISA_AVX512, .matmul = avx512_matmul, COMMON};
const struct kernels kernels_avx512_vnni = {
    .name = "avx512-vnni", .isa = ISA_AVX512_VNNI, .matmul = vnni_matmul, COMMON};
