/* SPDX-License-Identifier: MIT
 * matmul_bytes_vnni.c — matmul_bytes.c with AVX-VNNI's dots. */
#include "kernels/avx2/avx2_vnni.h"

#include "kernels/x86/matmul_int.h" /* over the lanes above */

BYTE_TYPES(INTEGER_TILE_FN)
