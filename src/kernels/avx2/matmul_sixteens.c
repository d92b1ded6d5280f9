/* SPDX-License-Identifier: MIT
 * matmul_sixteens.c — types with a scale per 16 weights: the integer sub-scale is the second factor
 * of the madd that widens, so that it costs nothing. */
#include "kernels/avx2/matmul_int.h"

AVX2_TILE(avx2_tile_q2_k, TYPE_Q2_K)
AVX2_TILE(avx2_tile_q3_k, TYPE_Q3_K)
AVX2_TILE(avx2_tile_q6_k, TYPE_Q6_K)
