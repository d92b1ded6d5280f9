/* SPDX-License-Identifier: MIT
 * attention.c — attention in sixteen lanes. */
#include "kernels/avx512/avx512.h"

#include "kernels/x86/attention.h" /* over the lanes above */
