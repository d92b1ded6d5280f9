/* SPDX-License-Identifier: MIT
 * matmul_bytes.c — types whose codes are signed bytes: maddubs of |w| and sign(q, w), widened at
 * once. */
#include "kernels/avx2/avx2.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

BYTE_TYPES(INTEGER_TILE_FN)
