/* SPDX-License-Identifier: MIT
 * checksum_int.h — the per-ISA builds behind checksum_of(). */
#ifndef KVASIR_BASE_CHECKSUM_INT_H
#define KVASIR_BASE_CHECKSUM_INT_H

#include "base/checksum.h"

struct checksum checksum_avx2(const void *bytes, size_t len); /* checksum_avx2.c, built with -mavx2 */

#endif
