/* SPDX-License-Identifier: MIT
 * matmul_nibbles.c — as avx2/matmul_nibbles.c, sixteen lanes. */
#include "kernels/avx512/avx512.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

NIBBLE_TYPES(INTEGER_TILE_FN)
