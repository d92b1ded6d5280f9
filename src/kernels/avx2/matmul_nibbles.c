/* SPDX-License-Identifier: MIT
 * matmul_nibbles.c — types whose codes are small and unsigned: maddubs takes them as they are and
 * several products fit an int16. */
#include "kernels/avx2/avx2.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

NIBBLE_TYPES(INTEGER_TILE_FN)
