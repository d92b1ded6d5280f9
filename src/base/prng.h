/* SPDX-License-Identifier: MIT
 * prng.h — a counter-based generator: the number at a place depends on the key and the place only,
 * so that a resumed stream draws what the uninterrupted one would have drawn.
 * Source: Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#ifndef KVASIR_BASE_PRNG_H
#define KVASIR_BASE_PRNG_H

#include "base/status.h"

/* out[4] = Philox4x32-10(counter, key). */
void prng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Uniform in [0, 1), 53 bits, for (seed, choice index, position, draw). */
double prng_uniform(uint64_t seed, uint32_t choice, uint64_t position, uint32_t draw);

/* A seeded stream for tests and retries. */
struct prng {
    uint64_t seed, count;
};
uint64_t prng_next(struct prng *p);
uint64_t prng_below(struct prng *p, uint64_t bound); /* bound > 0; bias below 2⁻³² is accepted */

/* Bytes from the kernel (getrandom); CHECKs that it works. */
void prng_entropy(void *bytes, size_t len);

#endif
