/* SPDX-License-Identifier: MIT
 * record.h — the bytes of one record and of a segment's header: encode, parse, check.
 * For:     whoever writes or reads a segment file.   Not for: I/O, memory maps, the index.
 * Format:  docs/format-store.md; the tables there and the offsets in record.c change together.
 * Thread:  pure functions.
 * Trust:   parse functions take any bytes and never read past `avail`. */
#ifndef KVASIR_STORE_RECORD_H
#define KVASIR_STORE_RECORD_H

#include "store/store.h"

#define RECORD_META_MAX    (STORE_META_MAX + 16u) /* with the tag of an encrypted one */
#define RECORD_UNIT        4096u                  /* records start and end on units */
#define RECORD_VERSION     2u /* 1 is read; what 2 adds: docs/format-store.md, "Versions" */
#define SEGMENT_VERSION    1u
#define RECORD_FIXED_BYTES 256u /* of the head; meta follows */
#define RECORD_CHUNK_BYTES 32u  /* a row of the chunk table */
#define RECORD_CHUNK_ALIGN 64u
#define RECORD_HEAD_MAX                                                             \
    (RECORD_FIXED_BYTES + RECORD_META_MAX + STORE_CHUNKS_MAX * RECORD_CHUNK_BYTES + \
     STORE_ORDER_MAX + 16u)
/* From this payload on, the payload starts on a unit of its own: at most 1/16 is wasted, and a
 * page's bytes can be faulted in and read without its neighbours.  Smaller ones follow the head. */
#define RECORD_PAYLOAD_UNIT_MIN (64u << 10)
_Static_assert(STORE_UNREAD_MIN >= RECORD_PAYLOAD_UNIT_MIN, "see read.c, unread");

/* Kinds that only the store writes; the others are enum record_kind. */
enum { RECORD_TOMBSTONE = 64, RECORD_MARK = 65 };

struct store_id {
    uint8_t b[16]; /* random; without knowing it no payload can pose as a record */
};

/* Where a record lies; part of the checked bytes, so that a misplaced write is noticed. */
struct record_place {
    struct store_id store;
    uint64_t segment, offset;
};

struct record {
    struct record_place place;
    unsigned kind;
    uint64_t sequence;
    uint64_t synced; /* sync mark: bytes of this segment that were durable when this was written */
    uint64_t layout;
    uint64_t data_key; /* number of the key that meta and payload are encrypted with; 0: in clear */
    uint32_t depth;
    uint32_t reach; /* ≤ STORE_REACH_MAX; see struct store_put */
    float cost_ms;
    struct digest key, chain, parent, family;
    uint32_t order_len, meta_len, n_chunks;
    uint32_t head_bytes;
    uint64_t payload_at, payload_len;    /* from the record's start */
    uint64_t bytes;                      /* in all, whole units */
    const uint8_t *order, *meta, *table; /* into the parsed bytes */
};

struct record_chunk {
    uint64_t at, len; /* within the payload */
    struct checksum sum;
};

/* Fills head_bytes, payload_at, payload_len and bytes from order_len, meta_len and the chunks.
 * E_LIMIT: a ceiling of store.h. */
NODISCARD enum status record_shape(struct record *r, const struct store_chunk *chunks,
                                   struct err *e);
/* Writes the head: r->head_bytes bytes at dst.  rows [n_chunks]; order and meta are read from r. */
void record_encode(const struct record *r, const struct record_chunk *rows, uint8_t *dst);
/* Bytes of head that the unit at p claims, or 0 if no record starts here. */
uint32_t record_claimed_head(const uint8_t *p, size_t avail);
/* E_CORRUPT: not a whole record head of this place; E_UNSUPPORTED: of a newer version. */
NODISCARD enum status record_parse(const uint8_t *p, size_t avail, const struct record_place *place,
                                   struct record *out, struct err *e);
/* Row i of the chunk table; {0} when it points outside the payload. */
struct record_chunk record_chunk_at(const uint8_t *table, uint32_t i, uint64_t payload_len);
static inline const uint8_t *record_table(const uint8_t *meta, uint32_t meta_len)
{
    return meta + ((meta_len + 7u) & ~7u);
}

struct segment_head {
    struct store_id store;
    uint64_t number, capacity;
    uint64_t created_ms;    /* unix */
    uint64_t failed_number; /* a segment whose fdatasync failed, or 0 … */
    uint64_t failed_good;   /* … and the bytes of it that may be believed */
    uint64_t budget_bytes;  /* of the store; repeated so that it survives a lost index */
    uint64_t next_sequence; /* when this segment began */
};

/* Two copies, 2 KiB apart, so that one flipped sector does not cost the segment. */
void segment_head_encode(const struct segment_head *h, uint8_t unit[RECORD_UNIT]);
NODISCARD enum status segment_head_parse(const uint8_t *p, size_t avail, struct segment_head *out,
                                         struct err *e);

#endif
