/* SPDX-License-Identifier: MIT
 * index.h — index.db: derived rows that make opening fast and siblings findable.
 * For:    commit.c, collect.c, recover.c, verify.c.
 * Not for: truth; the segments have that.  A row stands for a durable record, never before it.
 * Damage: SQLite does not checksum its pages.  Every row of `records` carries a sum of itself, and
 *         the sum of those sums is kept in `meta` in the same transaction: a flipped bit, a lost
 *         row or a row of another time is E_CORRUPT at load, and the index is made again.
 * One writing connection (dependencies: the WAL-reset race of SQLite 3.40), mmap_size 0.
 * Thread: the writing half belongs to the store thread (before and after it to the opener);
 *         index_neighbours() and index_find() have a connection and a lock of their own. */
#ifndef KVASIR_STORE_INDEX_H
#define KVASIR_STORE_INDEX_H

#include "store/record.h"
#include "store/table.h"

#define INDEX_FORMAT                                                            \
    2 /* 1 is read, and made 2 by the first open that writes: four columns more \
       */

struct index;

/* A row of `records`. */
struct index_row {
    struct digest key;
    unsigned kind;
    uint64_t segment, offset, bytes, sequence;
    uint32_t depth;
    float cost_ms;
    uint64_t last_used_ms;
    uint32_t hits;
    /* Not in the row's sum: what they are wrong about is eviction's order. */
    uint64_t chain, parent; /* eight bytes of the digests */
    uint64_t data_key;
    uint32_t reach;
};
struct index_sibling {
    struct digest family, key;
    const uint8_t *order;
    uint32_t order_len;
};
/* A row of `segments`. */
enum index_segment_state {
    INDEX_SEGMENT_OPEN,   /* records may lie behind `end` */
    INDEX_SEGMENT_SEALED, /* none do, and none will */
    INDEX_SEGMENT_CLOSED, /* none did when the store was closed; appending may go on at `end` */
};
struct index_segment {
    uint64_t number;
    uint64_t end; /* all records before it are in the index, evicted, or dead */
    enum index_segment_state state;
};
struct index_tomb {
    struct digest key;
    uint64_t sequence, segment, offset, bytes;
};
struct index_facts { /* of `meta` */
    struct store_id store;
    uint64_t next_sequence;
    uint64_t budget_bytes;
    uint64_t day, day_bytes; /* UTC day, counted from 1970, and what was written in it */
};

/* Through SQLite's default VFS.  Creates when writing.  E_CORRUPT: not a usable index (move it
 * aside); E_UNSUPPORTED: of a newer program. */
NODISCARD enum status index_open(const char *path, bool is_read_only, struct index **out,
                                 struct err *e);
void index_close(struct index *ix);

/* ---- reading ---- */
/* E_NOT_FOUND: a fresh index. */
NODISCARD enum status index_facts(struct index *ix, struct index_facts *out, struct err *e);
/* Reads everything in one snapshot.  E_CORRUPT: damaged, including a wrong sum; what the callbacks
 * were given until then is void.  A callback's status other than OK stops and is returned. */
struct index_load {
    enum status (*segment)(const struct index_segment *row, void *arg);
    enum status (*record)(const struct index_row *row, void *arg);
    void (*soon)(const struct index_row *row, void *arg); /* this one comes some rows later */
    void *arg;
};
NODISCARD enum status index_load(struct index *ix, const struct index_load *load, struct err *e);
NODISCARD enum status index_each_tomb(struct index *ix,
                                      enum status (*each)(const struct index_tomb *, void *),
                                      void *arg, struct err *e);
NODISCARD enum status index_find_tomb(struct index *ix, const struct digest *key,
                                      uint64_t *sequence, struct err *e); /* E_NOT_FOUND */
/* Is there a killed copy of key in a segment other than `except`? */
NODISCARD enum status index_has_dead(struct index *ix, const struct digest *key, uint64_t except,
                                     bool *out, struct err *e);
/* Segments that hold bytes of deleted records, or of ones that were set aside. */
NODISCARD enum status index_each_dead_segment(struct index *ix,
                                              enum status (*each)(uint64_t segment, void *arg),
                                              void *arg, struct err *e);
NODISCARD enum status index_count_quarantined(struct index *ix, uint64_t *out, struct err *e);
/* Checks the file's structure; E_CORRUPT. */
NODISCARD enum status index_check(struct index *ix, struct err *e);
/* Any thread.  Up to n_max keys of the family at or before `order`, nearest first (is_after: behind
 * it).  Keys of records that are gone may be among them. */
uint32_t index_neighbours(struct index *ix, const struct digest *family, const uint8_t *order,
                          uint32_t order_len, bool is_after, struct digest *keys, uint32_t n_max);
/* Any thread.  The row of a key, as last committed. */
NODISCARD enum status index_find(struct index *ix, const struct digest *key, struct index_row *out,
                                 struct err *e);
/* Any thread.  Why the newest bytes of a key that were set aside were; E_NOT_FOUND: none are. */
#define INDEX_WHY_BYTES 128u
NODISCARD enum status index_find_quarantined(struct index *ix, const struct digest *key,
                                             char why[INDEX_WHY_BYTES], struct err *e);
/* Any thread.  Changes when another connection has committed. */
uint64_t index_version(struct index *ix);
uint64_t index_bytes(struct index *ix);
/* Bytes written since the open, to the log and from it to the file.  Thread: the writing half's. */
uint64_t index_written_bytes(struct index *ix);

/* ---- writing: between index_begin and index_commit ---- */
NODISCARD enum status index_begin(struct index *ix, struct err *e);
/* Failed calls are remembered: index_commit then rolls back and reports the first. */
NODISCARD enum status index_commit(struct index *ix, struct err *e);
void index_put_facts(struct index *ix, const struct index_facts *facts);
void index_put_next_sequence(struct index *ix, uint64_t next_sequence);
void index_put_day(struct index *ix, uint64_t day, uint64_t day_bytes);
/* `old`: the row that is there now, NULL if none. */
void index_put(struct index *ix, const struct index_row *row, const struct index_row *old);
void index_remove(struct index *ix, const struct index_row *old);
void index_touch(struct index *ix, const struct digest *key, uint64_t last_used_ms, uint32_t hits);
void index_put_sibling(struct index *ix, const struct index_sibling *sibling);
void index_remove_sibling(struct index *ix, const struct index_sibling *sibling);
void index_put_segment(struct index *ix, const struct index_segment *row);
/* The segment's file is gone: so are its tombs, dead copies and quarantined records. */
void index_drop_segment(struct index *ix, uint64_t number);
void index_put_tomb(struct index *ix, const struct index_tomb *tomb);
void index_put_dead(struct index *ix, const struct digest *key, uint64_t segment);
void index_put_quarantined(struct index *ix, const struct digest *key, uint64_t segment,
                           uint64_t offset, const char *why);

#endif
