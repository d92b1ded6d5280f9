/* SPDX-License-Identifier: MIT
 * kv.c — K and V into a page, in sixteen lanes. */
#include "kernels/avx512/avx512.h"

#include "kernels/x86/kv.h" /* over the lanes above */
