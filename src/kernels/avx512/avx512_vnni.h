/* SPDX-License-Identifier: MIT
 * avx512_vnni.h — AVX-512 with VNNI; only products of quantized weights differ from avx512. */
#ifndef KVASIR_KERNELS_AVX512_AVX512_VNNI_H
#define KVASIR_KERNELS_AVX512_AVX512_VNNI_H

#define ISA_NAME(x) NATIVE_NAME(avx512_vnni_##x)
#define HAS_DOT_BYTES
#include "kernels/avx512/avx512.h"

#endif
