/* SPDX-License-Identifier: MIT
 * matmul_nibbles_vnni.c — matmul_nibbles.c with AVX-VNNI's dots. */
#include "kernels/avx2/avx2_vnni.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

NIBBLE_TYPES(INTEGER_TILE_FN)
