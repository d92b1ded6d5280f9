/* SPDX-License-Identifier: MIT
 * matmul_nibbles.c — types whose codes are small and unsigned: maddubs takes them as they are and
 * several products fit an int16. */
#include "kernels/avx2/matmul_int.h"

AVX2_TILE(avx2_tile_q4_0, TYPE_Q4_0)
AVX2_TILE(avx2_tile_q4_1, TYPE_Q4_1)
AVX2_TILE(avx2_tile_q5_0, TYPE_Q5_0)
AVX2_TILE(avx2_tile_q5_1, TYPE_Q5_1)
AVX2_TILE(avx2_tile_q4_k, TYPE_Q4_K)
AVX2_TILE(avx2_tile_q5_k, TYPE_Q5_K)
AVX2_TILE(avx2_tile_mxfp4, TYPE_MXFP4)
