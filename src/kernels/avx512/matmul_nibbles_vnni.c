/* SPDX-License-Identifier: MIT
 * matmul_nibbles_vnni.c — matmul_nibbles.c with VNNI's dots. */
#include "kernels/avx512/avx512_vnni.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

NIBBLE_TYPES(INTEGER_TILE_FN)
