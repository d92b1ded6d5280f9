/* SPDX-License-Identifier: MIT
 * avx2_vnni.h — AVX2 with AVX-VNNI, the 256-bit dots of processors without AVX-512; only products
 * of quantized weights differ from avx2. */
#ifndef KVASIR_KERNELS_AVX2_AVX2_VNNI_H
#define KVASIR_KERNELS_AVX2_AVX2_VNNI_H

#define ISA_NAME(x) NATIVE_NAME(avx2_vnni_##x)
#define HAS_DOT_BYTES
#include "kernels/avx2/avx2.h"

#endif
