/* SPDX-License-Identifier: MIT
 * segment.h — one append-only file of records, and its read-only map.
 * For:    commit.c (appends), read.c (the map), recover.c and verify.c (walks).
 * Rules:  a byte below `synced` never changes; a segment is never punched, truncated or reused;
 *         the map covers the whole capacity from the start and lives as long as anyone holds it.
 * Thread: appending from the store thread; hold/drop from any. */
#ifndef KVASIR_STORE_SEGMENT_H
#define KVASIR_STORE_SEGMENT_H

#include <stdatomic.h>

#include "store/record.h"

#define SEGMENT_STEP_MIN   (1u << 20) /* a file grows by its own size, within these two */
#define SEGMENT_STEP_MAX   (16u << 20)
#define SEGMENT_NAME_BYTES 24 /* 16 hex digits, ".seg", NUL */

enum segment_state {
    SEGMENT_SEALED, /* never appended to again */
    SEGMENT_OPEN,   /* the one that records go to */
    SEGMENT_FAILED, /* a sync failed: bytes from `synced` on are not believed */
};

struct segment {
    const struct os_fs *fs;
    struct segment_head head;
    struct os_file file; /* open while state is SEGMENT_OPEN */
    const uint8_t *map;  /* [head.capacity]; bytes past the end of the file must not be read */
    enum segment_state state;
    uint64_t file_bytes;  /* allocated */
    uint64_t used;        /* appended */
    uint64_t synced;      /* durable */
    uint64_t indexed_end; /* `end` of its row when the index was loaded; 0: none */
    uint64_t live_bytes;  /* of records that the index names; guarded by the store's lock */
    uint32_t n_live;
    bool is_guarded;
    atomic_uint holds;
};

void segment_path(const char *dir, uint64_t number, char *out, size_t out_bytes);
/* 0: not the name of a segment. */
uint64_t segment_number_of(const char *name);
/* Creates, durably: header, first step, fsync, rename to its name, sync of the folder. */
NODISCARD enum status segment_create(const struct os_fs *fs, const char *dir,
                                     const struct segment_head *head, struct segment **out,
                                     struct err *e);
/* Opens for reading: checks the header and maps.  E_CORRUPT, E_UNSUPPORTED, E_NOT_FOUND. */
NODISCARD enum status segment_open(const struct os_fs *fs, const char *dir, uint64_t number,
                                   struct segment **out, struct err *e);
/* Makes a sealed segment the open one again; appending goes on at `used`. */
NODISCARD enum status segment_reopen(struct segment *g, const char *dir, uint64_t used,
                                     struct err *e);
void segment_hold(struct segment *g);
void segment_drop(struct segment *g); /* the last drop unmaps and frees; NULL is fine */
void segment_close_file(struct segment *g);

/* Grows the file so that `bytes` more fit behind `used`; at most to the capacity. */
NODISCARD enum status segment_reserve(struct segment *g, uint64_t bytes, struct err *e);
/* How far segment_reserve would grow the file. */
uint64_t segment_growth(const struct segment *g, uint64_t bytes);

/* Walks the records of a file from `from` on: each(record, arg) for every head that parses, in
 * order; `r` points into the walker's buffer.  Between records it looks at each unit, so that one
 * damaged head hides one record only. */
struct segment_walked {
    uint64_t file_bytes;
    uint64_t n_unreadable; /* units that gave E_IO; they may have held records */
};
NODISCARD enum status segment_walk(const struct os_fs *fs, const char *dir, uint64_t number,
                                   const struct store_id *store, uint64_t from,
                                   enum status (*each)(const struct record *r, void *arg),
                                   void *arg, struct segment_walked *out, struct err *e);
/* Reads the payload of a record through the file and compares each chunk's checksum. */
NODISCARD enum status segment_check_payload(const struct os_file *f, const struct record *r,
                                            struct err *e);

#endif
