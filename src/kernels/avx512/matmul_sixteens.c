/* SPDX-License-Identifier: MIT
 * matmul_sixteens.c — as avx2/matmul_sixteens.c, sixteen lanes. */
#include "kernels/avx512/avx512.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

SIXTEEN_TYPES(INTEGER_TILE_FN)
