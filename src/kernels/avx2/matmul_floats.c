/* SPDX-License-Identifier: MIT
 * matmul_floats.c — f32, f16 and bf16 weights in eight lanes. */
#include "kernels/avx2/avx2.h"

#include "kernels/x86/matmul_floats.h" /* over the lanes above */

FLOAT_TYPES(FLOAT_TILE_FN)
