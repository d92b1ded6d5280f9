/* SPDX-License-Identifier: MIT
 * checksum.c — chooses between the SSE2 and the AVX2 build of the same hash at first use. */
#include "base/checksum.h"

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "base/checksum_int.h"

struct checksum checksum_of(const void *bytes, size_t len)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return checksum_avx2(bytes, len);
#endif
    XXH128_hash_t h = XXH3_128bits(bytes, len);
    return (struct checksum){.low = h.low64, .high = h.high64};
}
