/* SPDX-License-Identifier: MIT
 * store.h — records of bytes kept under the digest of what produced them, crash-safe.
 * For:     KV pages, heads, token lists, sessions, tenants that survive restarts and power cuts.
 * Not for: anything that knows a token, a tensor or HTTP.
 * Files:   DIR/segments/ (append-only, the only truth), DIR/index.db (SQLite, derived), DIR/LOCK.
 *          Format: docs/format-store.md.   Invariants and write order: commit.c.
 * Thread:  look-ups, pins and queueing from any thread; writing, eviction and compaction happen on
 *          the store's own thread.  Callbacks run on the store thread and must not block.
 * Order:   store_open → (store_put | store_get → … → store_unpin)* → store_close. */
#ifndef KVASIR_STORE_STORE_H
#define KVASIR_STORE_STORE_H

#include "base/checksum.h"
#include "base/digest.h"
#include "os/fs.h"

#define STORE_META_MAX       2032u /* bytes of meta of one record */
#define STORE_ORDER_MAX      256u  /* bytes of a sibling's sort key */
#define STORE_CHUNKS_MAX     1024u /* payload chunks of one record */
#define STORE_RECORD_MAX     (512u << 20)
#define STORE_QUEUE_MAX      4096u /* puts waiting for the store thread */
#define STORE_REACH_MAX      255u
#define STORE_FILE_KEY_BYTES 32u

enum record_kind {
    RECORD_PAGE = 1, /* a cache of tokens: counted in the budget, evicted */
    RECORD_HEAD = 2, /* likewise, and evicted before pages */
    RECORD_TOKENS = 3,
    RECORD_SESSION = 4,
    RECORD_TENANT = 5,
    RECORD_KEY = 6, /* written by the store alone: a data key, wrapped by the file's */
    RECORD_KIND_LAST = RECORD_KEY,
};

struct store;

struct store_options {
    uint64_t max_bytes; /* budget of pages and heads; 0: a quarter of free + used, see DESIGN §3 */
    bool is_read_only;  /* no lock, no writes, no thread */
    uint64_t keep_free_bytes;   /* 0: max(2 GiB, 5 % of the disk) stays free of KV */
    uint64_t segment_bytes;     /* 0: the default; tests use small ones */
    uint64_t max_write_per_day; /* bytes of pages and heads written in one UTC day; 0: no ceiling */
    const uint8_t *file_key; /* [STORE_FILE_KEY_BYTES]: new records are encrypted, old ones can be
                              * read.  NULL: encrypted ones are misses, and a store that has some
                              * opens read-only alone (E_DENIED).  Copied */
    uint64_t scrub_bytes_per_s; /* read again in the background to find damage; 0: nothing is */
};

/* Opens or creates dir (0700).  E_BUSY: another process writes; the message names it.  Recovers:
 * unsynced bytes are verified, copied, synced, then indexed; a lost index is rebuilt. */
NODISCARD enum status store_open(const struct os_fs *fs, const char *dir,
                                 const struct store_options *options, struct store **out,
                                 struct err *e);
/* Makes everything queued durable, then closes. */
void store_close(struct store *s);

/* ---- writing ---- */
struct store_chunk {
    const void *bytes;
    uint64_t len;
};
struct store_put {
    enum record_kind kind;
    struct digest key;    /* unique; a later put of the same key replaces (higher sequence wins) */
    struct digest chain;  /* digest of the chain this record ends; zero if none */
    struct digest parent; /* of the chain before it; zero for a root */
    uint64_t layout;      /* opaque to the store: what the payload's bytes look like */
    uint32_t depth;       /* of the page in its chain: eviction takes the deepest of equals first */
    float cost_ms;        /* what computing it again would cost; for eviction */
    uint64_t owner;       /* whose data key encrypts it, when the store has a file key */
    uint32_t reach;       /* n > 0: it is of use only while the chain ends fewer than n records
                           * behind it, so it goes before others once that is over; 0: always */
    struct digest family; /* siblings with one family are ordered by `order`; zero: not indexed */
    uint8_t order[STORE_ORDER_MAX];
    uint32_t order_len;
    const void *meta; /* copied by store_put */
    uint32_t meta_len;
    const struct store_chunk *chunks; /* the array is copied, the bytes are not: they must stay */
    uint32_t n_chunks;                /* until done() */
    /* Called once, on the store thread: OK once the record is durable *and* indexed; otherwise the
     * reason (E_FULL, E_IO, E_LIMIT …).  May be NULL. */
    void (*done)(void *arg, enum status st, const struct err *e);
    void *arg;
};
/* Queues.  E_BUSY: the queue is full; nothing was taken, done is not called.  E_DENIED: read-only.
 */
NODISCARD enum status store_put(struct store *s, const struct store_put *put, struct err *e);
/* The same and waits: on OK the record is durable (acknowledged). */
NODISCARD enum status store_put_wait(struct store *s, const struct store_put *put, struct err *e);
/* Queues a tombstone and does not wait.  E_BUSY, E_DENIED: nothing was queued. */
NODISCARD enum status store_delete(struct store *s, const struct digest *key, struct err *e);
/* Durable tombstone; E_NOT_FOUND when there is no such record. */
NODISCARD enum status store_delete_wait(struct store *s, const struct digest *key, struct err *e);
/* Waits until everything queued before is durable or has failed. */
void store_flush(struct store *s);

/* ---- reading ---- */
/* A record and a hold on its bytes: valid until store_unpin, whatever is evicted or compacted. */
struct store_pin {
    struct digest key, chain, parent;
    enum record_kind kind;
    uint64_t layout;
    uint64_t sequence;
    uint32_t depth;
    const uint8_t *meta; /* its checksum was checked by store_get */
    uint32_t meta_len;
    uint32_t n_chunks;
    const uint8_t *payload; /* in the map; chunks follow each other, each 64-aligned.  4 KiB aligned
                             * from 64 KiB on; smaller payloads share the head's 4 KiB */
    uint64_t payload_len;
    uint64_t record_bytes; /* in all, head included */
    uint64_t last_used_ms; /* unix; as of the look-up */
    void *hold;
    uint64_t at;    /* of the record in its segment */
    bool is_unread; /* given by store_get_unread: of meta, chain, parent, layout, depth and chunks
                     * nothing is known before store_fault_in */
    struct clear *clear; /* of an encrypted record: meta and payload lie here, in the clear; payload
                          * is filled chunk by chunk by store_check_chunk.  NULL: in the map */
};
/* Are new records encrypted? */
bool store_encrypts(const struct store *s);
/* The owner of records whose keys are made with this salt. */
uint64_t store_owner_of(const struct digest *salt);
/* E_NOT_FOUND: a miss, also when the header is damaged (the record is then quarantined).  Checks
 * the header's checksum, not the payload's. */
NODISCARD enum status store_get(struct store *s, const struct digest *key, struct store_pin *pin,
                                struct err *e);
/* The same without a look at the record, so without a wait for the disk, for who knows what the
 * payload's size must be: where the record lies is in memory, what it is, is checked by
 * store_fault_in.  Records that are encrypted or smaller than STORE_UNREAD_MIN are read as by
 * store_get. */
#define STORE_UNREAD_MIN (64u << 10)
NODISCARD enum status store_get_unread(struct store *s, const struct digest *key,
                                       uint64_t payload_len, struct store_pin *pin, struct err *e);
bool store_has(struct store *s, const struct digest *key);
void store_unpin(struct store *s, struct store_pin *pin);
/* Offset, length and checksum of chunk i of a pinned record. */
struct store_chunk_ref {
    const uint8_t *bytes;
    uint64_t len;
    struct checksum sum;
};
struct store_chunk_ref store_chunk(const struct store_pin *pin, uint32_t i);
/* Faults a record's whole payload in, in one piece: one system call instead of one a chunk, and
 * reads from disk that are as long as they can be.  E_IO: the bytes cannot be had.  Of an unread
 * pin the head comes with it and is checked: E_CORRUPT, it is not the record that was asked for
 * (the caller treats it as a miss and calls store_quarantine). */
NODISCARD enum status store_fault_in(struct store_pin *pin, struct err *e);
/* Begins to read the payloads of pinned records from disk, in the order in which they lie there,
 * and returns at once.  A hint.  Thread: any; the pins may be given back at any time. */
void store_read_ahead(struct store *s, const struct store_pin *const *pins, uint32_t n_pins);
/* Compares the checksum of chunk i, which was faulted in. */
NODISCARD enum status store_check_chunk(const struct store_pin *pin, uint32_t i, struct err *e);
/* Faults chunk i in and compares its checksum.  E_CORRUPT or E_IO: the caller treats the record as
 * a miss and calls store_quarantine. */
NODISCARD enum status store_verify_chunk(const struct store_pin *pin, uint32_t i, struct err *e);
/* Faults chunk i in and copies it into dst [its len]; the copy is what was verified, so it stays
 * right when the mapping loses its bytes.  E_CORRUPT, E_IO. */
NODISCARD enum status store_copy_chunk(const struct store_pin *pin, uint32_t i, void *dst,
                                       struct err *e);
/* Reads chunk i into dst through pread, verified: for a kernel without MADV_POPULATE_READ. */
NODISCARD enum status store_read_chunk(struct store *s, const struct store_pin *pin, uint32_t i,
                                       void *dst, struct err *e);
/* Takes the record out of the index for good; reported by stat and verify until removed. */
void store_quarantine(struct store *s, const struct digest *key, const char *why);

/* The siblings of a family just before-or-equal and just after `order`, by memcmp: 0..2 keys. */
NODISCARD uint32_t store_neighbours(struct store *s, const struct digest *family,
                                    const uint8_t *order, uint32_t order_len,
                                    struct digest keys[2]);

/* Marks records as used now (eviction order, hits).  Cheap; written to the index lazily. */
void store_touch(struct store *s, const struct digest *keys, uint32_t n_keys);

/* From now on eviction spares these chains, named by their ends, and all pages that they hang on.
 * Replaces the list given before; nothing of it is kept on disk.  Thread: any.  E_DENIED, E_NOMEM.
 */
NODISCARD enum status store_keep_chains(struct store *s, const struct digest *chains,
                                        uint32_t n_chains, struct err *e);

/* Calls each(pin, arg) for all records of a kind, newest first, until it returns false.  The pin is
 * valid during the call only. */
NODISCARD enum status store_each(struct store *s, enum record_kind kind,
                                 bool (*each)(const struct store_pin *pin, void *arg), void *arg,
                                 struct err *e);

/* Read-only: has the writer written since *seen was set by this?  Ask before a list of a kind
 * (store_each): what is written while it is made is news the next time. */
bool store_has_news(struct store *s, uint64_t *seen);

/* ---- looking after it ---- */
struct store_stat {
    uint64_t n_records[RECORD_KIND_LAST + 1]; /* by kind */
    uint64_t live_bytes[RECORD_KIND_LAST + 1];
    uint64_t n_segments, segment_bytes, index_bytes;
    uint64_t max_bytes, free_bytes;
    uint64_t n_quarantined;
    uint64_t
        n_unreadable; /* segments that the open could make no use of: their records are misses */
    uint64_t n_evicted, evicted_bytes, n_compacted, compacted_bytes; /* since open */
    uint64_t written_bytes, n_syncs, n_failed_syncs; /* since open; to segments … */
    uint64_t written_by_kind[RECORD_KIND_LAST + 1];  /* … of new records */
    uint64_t index_written_bytes;                    /* since open: log and file of index.db */
    uint64_t day_bytes, day_bytes_max; /* written to segments this UTC day; its ceiling, 0: none */
    uint64_t scrub_bytes_per_s, scrubbed_bytes, n_scrub_passes, n_scrub_bad; /* since open */
    uint64_t n_queued; /* not durable yet, and not failed */
    bool is_read_only;
    uint64_t recovered_records, recovered_bytes; /* by the last open */
};
void store_stat(struct store *s, struct store_stat *out);

struct store_verify_report {
    uint64_t n_records, n_bytes, n_bad, n_quarantined, unclaimed_bytes;
    uint32_t n_segments;
};
/* Reads and checks everything: each record's checksums, the index against the segments.  Calls
 * bad(what, arg) for each damaged one.  Works on a directory that a server has open (read-only). */
NODISCARD enum status store_verify(const struct os_fs *fs, const char *dir,
                                   void (*bad)(const char *what, void *arg), void *arg,
                                   struct store_verify_report *out, struct err *e);
/* The same for one record of an open store, added to the report.  E_NOT_FOUND: there is none.
 * E_CORRUPT, E_IO: damaged; or set aside as damaged, and those bytes are still on disk.  Thread:
 * any; a writing store counts what is set aside when it opens and when it sets aside. */
NODISCARD enum status store_verify_record(struct store *s, const struct digest *key,
                                          struct store_verify_report *report, struct err *e);
/* Makes index.db again from the segments alone; the store must not be open for writing. */
NODISCARD enum status store_rebuild(const struct os_fs *fs, const char *dir, struct err *e);
/* Copies live records out of segments that are mostly dead and unlinks those; evicts down to the
 * budget.  Runs on the store thread; waits for it.  Also happens by itself. */
NODISCARD enum status store_collect(struct store *s, struct err *e);

#endif
