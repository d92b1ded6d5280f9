/* SPDX-License-Identifier: MIT
 * kernels_avx2.c — the tables of the kernels for AVX2 + FMA + F16C, with and without AVX-VNNI. */
#include "kernels/avx2/avx2.h"

#define VNNI_NAME(x) NATIVE_NAME(avx2_vnni_##x)
#include "kernels/x86/table.h"

const struct kernels NATIVE_NAME(kernels_avx2) = {
    .name = SET_NAME("avx2"), .isa = ISA_AVX2, .matmul = ISA_NAME(matmul), COMMON};
const struct kernels NATIVE_NAME(kernels_avx2_vnni) = {
    .name = SET_NAME("avx2-vnni"), .isa = ISA_AVX2_VNNI, .matmul = vnni_matmul, COMMON};
