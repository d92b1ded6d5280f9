/* SPDX-License-Identifier: MIT
 * checksum.h — XXH3-128 of bytes: detects damage, at memory speed.  Not for identity: an adversary
 * can make two inputs with the same checksum (digest.h is for that).
 * Source: xxHash 0.8, XXH3_128bits with seed 0; the same value on every CPU. */
#ifndef KVASIR_BASE_CHECKSUM_H
#define KVASIR_BASE_CHECKSUM_H

#include "base/status.h"

struct checksum {
    uint64_t low, high;
};

struct checksum checksum_of(const void *bytes, size_t len);

static inline bool checksum_equal(struct checksum a, struct checksum b)
{
    return a.low == b.low && a.high == b.high;
}

#endif
