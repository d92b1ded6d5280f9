/* SPDX-License-Identifier: MIT
 * prng.c — Philox4x32-10. */
#include "base/prng.h"

#include <sys/random.h>

#include "base/check.h"

void prng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[0] = n0;
        c[1] = (uint32_t)p1;
        c[2] = n2;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++)
        out[i] = c[i];
}

static uint64_t draw64(uint64_t seed, uint32_t choice, uint64_t position, uint32_t draw)
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), choice, draw};
    uint32_t out[4];
    prng_philox(counter, key, out);
    return (uint64_t)out[1] << 32 | out[0];
}

double prng_uniform(uint64_t seed, uint32_t choice, uint64_t position, uint32_t draw)
{
    return (double)(draw64(seed, choice, position, draw) >> 11) * 0x1p-53;
}

uint64_t prng_next(struct prng *p)
{
    return draw64(p->seed, 0, p->count++, 0);
}

uint64_t prng_below(struct prng *p, uint64_t bound)
{
    CHECK(bound > 0);
    return (uint64_t)(((unsigned __int128)prng_next(p) * bound) >> 64);
}

void prng_entropy(void *bytes, size_t len)
{
    char *p = bytes;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0)
            continue; /* EINTR only: the flags and the pointer are ours */
        p += n;
        len -= (size_t)n;
    }
}
