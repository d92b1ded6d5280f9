/* SPDX-License-Identifier: MIT
 * elementwise.c — norms, activations, rotation and row reductions in sixteen lanes. */
#include "kernels/avx512/avx512.h"

#include "kernels/x86/elementwise.h" /* over the lanes above */
