/* SPDX-License-Identifier: MIT
 * matmul_sixteens.c — types with a scale per 16 weights: the integer sub-scale is the second factor
 * of the madd that widens, so that it costs nothing. */
#include "kernels/avx2/avx2.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

SIXTEEN_TYPES(INTEGER_TILE_FN)
