/* SPDX-License-Identifier: MIT
 * kv.c — K and V into a page, in eight lanes. */
#include "kernels/avx2/avx2.h"

#include "kernels/x86/kv.h" /* over the lanes above */
