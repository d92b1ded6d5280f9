/* SPDX-License-Identifier: MIT
 * map.h — digest → u64, open addressing.  Keys are digests, so their first bytes are the hash.
 * Thread: one owner, or the owner's lock. */
#ifndef KVASIR_BASE_MAP_H
#define KVASIR_BASE_MAP_H

#include "base/digest.h"

struct map_slot {
    struct digest key;
    uint64_t value;
    uint8_t state; /* empty, used, deleted */
};

struct map {
    struct map_slot *slots;
    size_t capacity; /* 0 or a power of two */
    size_t count;    /* used */
    size_t filled;   /* used + deleted */
};

void map_release(struct map *m); /* {0} is an empty map */
NODISCARD bool map_get(const struct map *m, const struct digest *key, uint64_t *value);
/* Inserts or replaces.  E_NOMEM: nothing changed. */
NODISCARD enum status map_put(struct map *m, const struct digest *key, uint64_t value);
bool map_remove(struct map *m, const struct digest *key); /* was it there */
/* Walks all entries: *at starts at 0; false at the end.  No changes to the map meanwhile. */
bool map_next(const struct map *m, size_t *at, struct digest *key, uint64_t *value);

#endif
