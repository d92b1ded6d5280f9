/* SPDX-License-Identifier: MIT
 * store_int.h — inner door of the store room: the store itself, and who may touch which part.
 * Owners: fields under "lock" by any thread that holds it; fields under "store thread" by that
 *         thread alone (by the opener before it starts, by the closer after it ended).
 *         The table and the list of segments change on the store thread only, under the lock, so
 *         that thread reads them without it.
 * Order of locks: queue_lock and lock are never held together; neither across I/O. */
#ifndef KVASIR_STORE_STORE_INT_H
#define KVASIR_STORE_STORE_INT_H

#include <pthread.h>

#include "os/team.h"
#include "store/index.h"
#include "store/seal.h"
#include "store/segment.h"
#include "store/table.h"

#define STORE_SEGMENT_BYTES     (256u << 20) /* of an ordinary segment */
#define STORE_SEGMENT_BYTES_MIN (1u << 20)
#define STORE_BATCH_JOBS_MAX    512u
#define STORE_BATCH_BYTES_MAX   (64u << 20)
#define STORE_STAGING_BYTES     (1u << 20)
#define STORE_WRITE_TRIES_MAX   3u     /* segments that one batch may fail in */
#define STORE_PENDING_MAX       65536u /* changes that wait for a full or busy index */
#define STORE_KEEP_FREE_MIN     (2ull << 30)

/* ---- changes of the index, in order; they wait here when the index cannot take them ---- */
enum change_kind {
    CHANGE_PUT,
    CHANGE_REMOVE,
    CHANGE_TOUCH,
    CHANGE_SIBLING_PUT,
    CHANGE_SIBLING_REMOVE,
    CHANGE_SEGMENT,
    CHANGE_SEGMENT_GONE,
    CHANGE_TOMB,
    CHANGE_DEAD,
    CHANGE_QUARANTINE,
};
struct change {
    enum change_kind kind;
    bool has_old;
    union {
        struct {
            struct index_row row, old;
        } record;
        struct {
            struct digest family, key;
            uint8_t order[STORE_ORDER_MAX];
            uint32_t order_len;
        } sibling;
        struct index_segment segment;
        struct index_tomb tomb;
        struct {
            struct digest key;
            uint64_t segment, offset;
            char why[96];
        } gone;
    };
};

/* ---- work for the store thread ---- */
enum job_kind { JOB_PUT, JOB_DELETE, JOB_FORGET, JOB_COLLECT };
struct job {
    struct job *next;
    enum job_kind kind;
    uint64_t ticket;
    struct store_put put; /* meta and chunks point behind the job; of other kinds only key */
    struct record shape;
    char why[96]; /* of JOB_FORGET */
    enum status st;
    struct err e;
};

/* One record on its way to disk. */
enum item_state { ITEM_WAITING, ITEM_WRITTEN, ITEM_SYNCED, ITEM_FAILED };
struct item {
    struct record r;
    const struct store_chunk *chunks; /* [r.n_chunks] */
    enum item_state state;
    struct segment *segment;
    uint64_t last_used_ms;
    uint32_t hits;
    bool is_copy; /* by reclamation or recovery: keeps its sequence */
    struct err e; /* of ITEM_FAILED */
};

/* The data key that new records of an owner are encrypted with. */
#define STORE_SEALINGS_MAX 64u
struct sealing {
    uint64_t segment; /* it was begun with */
    struct data_key key;
};

/* A segment that is being emptied in slices. */
struct moving {
    uint64_t segment; /* its number; 0: none */
    uint64_t *found;  /* [n]: unit << 32 | id of its records when the list was made */
    uint32_t n, at;
};

struct store {
    const struct os_fs *fs;
    char *dir;
    struct store_id id;
    bool is_read_only;
    bool is_rebuild;                     /* open as if the index were damaged */
    uint32_t n_bad_segments, n_bad_rows; /* met by the open */
    uint64_t max_bytes, keep_free_bytes, segment_bytes, max_write_per_day;
    struct os_file lock_file;
    struct index *index; /* NULL: none could be opened (read-only) */

    pthread_mutex_t lock;
    /* lock: */
    struct table table;
    struct segment **segments; /* by slot, oldest first; NULL: reclaimed */
    uint32_t n_slots;
    struct store_stat stat;
    uint32_t n_touched;
    uint64_t kv_live_bytes;
    uint64_t seen_version; /* read-only: index_version() of what the table holds */
    uint64_t *pinned_next; /* of store_keep_chains(), until the store thread takes it; NULL: none */
    uint32_t n_pinned_next;
    struct keyring keyring; /* file_key: set at the open, then read only */
    struct ahead *ahead;    /* NULL: nobody has asked yet */

    /* store thread: */
    struct segment *current;
    uint64_t next_sequence, next_number;
    uint64_t failed_number, failed_good; /* to be named by the next segment */
    struct change *changes;
    uint32_t n_changes, changes_cap;
    bool is_index_lost; /* damaged: no more reads or writes; set aside at close */
    uint64_t touched_written_ms;
    uint64_t housekept_ms, slice_due_ms; /* monotonic */
    struct moving moving;
    struct sealing sealings[STORE_SEALINGS_MAX];
    uint64_t *pinned; /* names of the ends of chains that eviction spares */
    uint32_t n_pinned;
    uint64_t scrub_bytes_per_s, scrub_credit, scrub_ms; /* scrub_ms: of the last call */
    uint32_t scrub_at;                                  /* the next id */
    uint64_t day, day_bytes;   /* UTC day since 1970, and what was written to segments in it */
    uint8_t *staging;          /* [STORE_STAGING_BYTES] */
    struct record_chunk *rows; /* [STORE_CHUNKS_MAX] */

    pthread_mutex_t queue_lock;
    pthread_cond_t queue_wake, queue_room;
    /* queue_lock: */
    struct job *queue_first, *queue_last;
    uint32_t n_queued;
    uint64_t n_tickets, n_finished;
    bool is_stopping;
    struct os_thread *thread;
};

static inline bool kind_is_kv(unsigned kind)
{
    return kind == RECORD_PAGE || kind == RECORD_HEAD;
}
static inline bool kind_is_data(unsigned kind)
{
    return kind >= RECORD_PAGE && kind <= RECORD_KIND_LAST;
}

/* ---- store.c ---- */
bool store_has_work(struct store *s); /* jobs wait */

/* ---- commit.c ---- */
/* Assigns sequences, writes, syncs; each item ends SYNCED or FAILED. */
void commit_write(struct store *s, struct item *items, uint32_t n);
/* Puts the SYNCED items into table and index. */
void commit_publish(struct store *s, struct item *items, uint32_t n);
void commit_change(struct store *s, const struct change *c);
/* Writes the waiting changes in one transaction; false: they still wait, or the index is lost. */
bool commit_changes(struct store *s);
/* Runs a batch of jobs of one kind, calls done. */
void commit_jobs(struct store *s, struct job *first);
void commit_touched(struct store *s);
/* Ends the current segment with a durable mark. */
void commit_seal(struct store *s, enum index_segment_state state);
/* Takes an entry out of table and index (not the bytes). */
void commit_forget(struct store *s, uint32_t id, bool with_sibling);
NODISCARD enum status commit_add_slot(struct store *s, struct segment *g, struct err *e);
/* Adds or moves an entry under the lock; false: out of memory. */
bool commit_place(struct store *s, const struct index_row *row, uint32_t slot);

/* May `bytes` more be written today? */
bool commit_may_write_today(struct store *s, uint64_t bytes);

/* ---- evict.c ---- */
/* Evicts at least `bytes` of pages and heads, if there are as many that may go; what it did. */
uint64_t evict_records(struct store *s, uint64_t bytes);
/* The eight bytes by which table and index know a chain. */
uint64_t evict_name_of(const struct digest *chain);

/* ---- collect.c ---- */
/* Evicts and reclaims so that `need` more bytes of pages and heads fit. */
void collect_make_room(struct store *s, uint64_t need);
/* Copies a slice out of the emptiest segment that is less than half full, if one is due, and
 * unlinks the segment when nothing is left in it.  In how many milliseconds to call again. */
#define COLLECT_IDLE_MS 1000u
uint32_t collect_slice(struct store *s);
void collect_release(struct store *s);
NODISCARD enum status collect_all(struct store *s, struct err *e);

/* ---- recover.c ---- */
NODISCARD enum status recover_open(struct store *s, struct err *e);

/* ---- follow.c ---- */
/* TABLE_NONE: no such segment.  Under the lock, or while opening. */
uint32_t follow_slot_of(const struct store *s, uint64_t number);
/* The same, and opens a segment that a writer has made since. */
uint32_t follow_fresh_slot(struct store *s, uint64_t number);
/* Could the row name a record of the segment in this slot? */
bool follow_is_plausible(const struct store *s, const struct index_row *row, uint32_t slot);
/* Empties the table; under the lock, or while opening. */
void follow_clear(struct store *s);
/* Read-only: looks a key up that a writer may have added or moved since the load. */
bool follow_find(struct store *s, const struct digest *key);
/* Read-only: loads all again when the index has changed. */
void follow_refresh(struct store *s);

/* ---- sealed.c ---- */
/* E_DENIED: the store's data keys were wrapped by another file key; or there are some, none was
 * given, and the store is open for writing. */
NODISCARD enum status sealed_check_file_key(struct store *s, struct err *e);
/* Deletes the data keys that no record needs any more: what was erased cannot be read then, even
 * where its bytes still are. */
void sealed_drop_unused(struct store *s);
/* Encrypts an item that is to be written; *block is the caller's to free after the write. */
void sealed_fill(struct store *s, struct item *item, const struct store_put *put, void **block);
/* Gives a pin memory of its own, with meta decrypted.  E_DENIED, E_NOT_FOUND: no key for it. */
NODISCARD enum status sealed_pin(struct store *s, struct store_pin *pin, const struct record *r,
                                 const uint8_t *payload, struct err *e);
void sealed_unpin(struct store_pin *pin); /* not encrypted: nothing happens */
struct store_chunk_ref sealed_chunk(const struct store_pin *pin, uint32_t i);
struct sealed_bytes {
    const uint8_t *bytes;
    uint64_t len;
};
struct sealed_bytes
sealed_cipher(const struct store_pin *pin); /* the payload as it lies in the map */
/* Decrypts chunk i into its place. */
NODISCARD enum status sealed_check_chunk(const struct store_pin *pin, uint32_t i, struct err *e);

/* ---- ahead.c ---- */
void ahead_free(struct ahead *a); /* NULL is fine */

/* ---- scrub.c ---- */
/* Reads on where it stopped, as far as the rate allows by now. */
void scrub_some(struct store *s);

/* ---- verify.c ---- */
/* Reads one record through the file of its segment and compares all its checksums. */
NODISCARD enum status verify_entry(const struct store *s, const struct os_file *f, uint64_t segment,
                                   const struct entry *entry, struct err *e);

/* ---- read.c ---- */
struct index_row row_of(const struct store *s, const struct entry *entry);
/* The head of an entry, checked, in the map; pointers stay valid while `g` is held. */
NODISCARD enum status read_head(const struct segment *g, uint64_t offset, uint64_t bytes,
                                const struct digest *key, struct record *out, struct err *e);

#endif
