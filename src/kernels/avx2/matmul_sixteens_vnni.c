/* SPDX-License-Identifier: MIT
 * matmul_sixteens_vnni.c — matmul_sixteens.c with AVX-VNNI's dots. */
#include "kernels/avx2/avx2_vnni.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

SIXTEEN_TYPES(INTEGER_TILE_FN)
