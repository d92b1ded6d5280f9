/* SPDX-License-Identifier: MIT
 * elementwise.c — norms, activations, rotation and row reductions in eight lanes. */
#include "kernels/avx2/avx2.h"

#include "kernels/x86/elementwise.h" /* over the lanes above */
