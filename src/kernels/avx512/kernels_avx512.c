/* SPDX-License-Identifier: MIT
 * kernels_avx512.c — the tables of the kernels for AVX-512, with and without VNNI. */
#include "kernels/avx512/avx512.h"

#define VNNI_NAME(x) NATIVE_NAME(avx512_vnni_##x)
#include "kernels/x86/table.h"

const struct kernels NATIVE_NAME(kernels_avx512) = {
    .name = SET_NAME("avx512"), .isa = ISA_AVX512, .matmul = ISA_NAME(matmul), COMMON};
const struct kernels NATIVE_NAME(kernels_avx512_vnni) = {
    .name = SET_NAME("avx512-vnni"), .isa = ISA_AVX512_VNNI, .matmul = vnni_matmul, COMMON};
