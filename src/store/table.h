/* SPDX-License-Identifier: MIT
 * table.h — what the index says, in memory: key → where the record lies and what it is worth.
 * For:    look-ups without I/O, eviction's choice.
 * Size:   an entry is 96 bytes, the hash 11 to 22 more: about 120 bytes a record.
 * Thread: the store's lock. */
#ifndef KVASIR_STORE_TABLE_H
#define KVASIR_STORE_TABLE_H

#include "base/digest.h"

#define TABLE_NONE UINT32_MAX

struct entry {
    struct digest key;
    uint64_t sequence;
    uint64_t last_used_ms;  /* unix */
    uint64_t chain, parent; /* eight bytes of these digests, for eviction's order; 0: none */
    uint32_t slot;          /* of the segment in the store's array */
    uint32_t unit, n_units; /* place and length in the segment, in units of 4 KiB */
    uint32_t depth;
    float cost_ms;
    uint32_t hits;
    uint8_t kind;           /* 0: free */
    uint8_t is_touched;     /* last_used_ms and hits are newer than the row in the index */
    uint8_t is_quarantined; /* a miss; the store thread removes it soon */
    uint8_t reach;          /* of struct store_put */
    uint32_t data_key;      /* place in the store's list of data keys + 1; 0: in clear */
};
_Static_assert(sizeof(struct entry) <= 104, "issue 5: at most 200 bytes a page in memory");

struct table {
    struct entry **blocks;     /* of TABLE_BLOCK entries, so that growing copies no entry */
    uint32_t n_blocks, n_used; /* ids handed out: 0..n_used-1, free ones included */
    uint64_t *slots; /* hash: (tag << 32 | id + 1), 0 empty; linear probing, no tombstones */
    uint32_t n_slots, count;
    uint32_t *free_ids;
    uint32_t n_free, free_cap;
};

void table_release(struct table *t);
struct entry *table_at(const struct table *t, uint32_t id); /* id < n_used; kind 0 if free */
uint32_t table_find(const struct table *t, const struct digest *key); /* TABLE_NONE: not there */
/* A hint: the key is looked up soon. */
void table_prefetch(const struct table *t, const struct digest *key);
/* Adds an entry for a key that is not there, zeroed but for the key; the caller sets kind.
 * TABLE_NONE: out of memory, nothing changed. */
NODISCARD uint32_t table_add(struct table *t, const struct digest *key);
void table_remove(struct table *t, uint32_t id);

#endif
