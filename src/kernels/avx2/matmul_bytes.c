/* SPDX-License-Identifier: MIT
 * matmul_bytes.c — types whose codes are signed bytes: maddubs of |w| and sign(q, w), widened at
 * once. */
#include "kernels/avx2/matmul_int.h"

AVX2_TILE(avx2_tile_q8_0, TYPE_Q8_0)
AVX2_TILE(avx2_tile_iq4_nl, TYPE_IQ4_NL)
AVX2_TILE(avx2_tile_iq4_xs, TYPE_IQ4_XS)
