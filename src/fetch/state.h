/* SPDX-License-Identifier: MIT
 * state.h — inner door: which ranges of a file are on the disk. */
#ifndef KVASIR_FETCH_STATE_H
#define KVASIR_FETCH_STATE_H

#include "fetch/fetch.h"

#define FETCH_TAG_MAX    256u
#define FETCH_RANGES_MAX ((uint32_t)(FETCH_BYTES_MAX / FETCH_RANGE_BYTES))

struct fetch_state {
    uint64_t bytes;          /* of the file */
    char tag[FETCH_TAG_MAX]; /* the server's ETag; "" when it gives none */
    uint32_t n_ranges, n_done;
    char *done; /* [n_ranges + 1]: '1' on the disk, '0' missing; a string */
};

/* All ranges missing.  E_LIMIT, E_NOMEM. */
NODISCARD enum status fetch_state_new(struct fetch_state *s, uint64_t bytes, const char *tag,
                                      struct err *e);
void fetch_state_release(struct fetch_state *s); /* a zeroed one is fine */
static inline uint64_t fetch_range_bytes(const struct fetch_state *s, uint32_t i)
{
    const uint64_t left = s->bytes - (uint64_t)i * FETCH_RANGE_BYTES;
    return left < FETCH_RANGE_BYTES ? left : FETCH_RANGE_BYTES;
}
/* Marks in s what the file at path says is there; nothing when it is of another file (bytes, tag),
 * damaged or not there. */
void fetch_state_read(struct fetch_state *s, const struct os_fs *fs, const char *path);
/* Atomically; after the bytes were synced. */
NODISCARD enum status fetch_state_write(const struct fetch_state *s, const struct os_fs *fs,
                                        const char *path, struct err *e);

#endif
