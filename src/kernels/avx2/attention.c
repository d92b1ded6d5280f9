/* SPDX-License-Identifier: MIT
 * attention.c — attention in eight lanes. */
#include "kernels/avx2/avx2.h"

#include "kernels/x86/attention.h" /* over the lanes above */
