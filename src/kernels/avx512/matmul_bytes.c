/* SPDX-License-Identifier: MIT
 * matmul_bytes.c — as avx2/matmul_bytes.c, sixteen lanes. */
#include "kernels/avx512/avx512.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

BYTE_TYPES(INTEGER_TILE_FN)
