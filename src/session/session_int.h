/* SPDX-License-Identifier: MIT
 * session_int.h — what the files of this room share.
 *
 *   session "a" ──follows──▶ line 1: part 0 ── part 1 ── part 2 (open: rewritten until it is full)
 *   session "b" (fork, at n) ──▲  ▲
 *   line 2, parent (line 1, n) ───┘   what a fork, or an edited history, went on with
 *
 * A part holds tokens [from, to) and messages [mfrom, mto) of its line, counted from the beginning
 * of the conversation; what lies before a line's first part is its parent's.
 * Locks: writing, then mutex.  writing is held across disk writes: one change at a time, each
 *        acknowledged.  mutex guards everything in memory and is never held across I/O. */
#ifndef KVASIR_SESSION_INT_H
#define KVASIR_SESSION_INT_H

#include <pthread.h>

#include "base/buf.h"
#include "base/map.h"
#include "os/team.h"
#include "session/session.h"

#define LINE_PART_TOKENS   1024u /* a part with so many is closed: the next turn begins another */
#define LINE_PART_BYTES    (32u << 10) /* or with so much text */
#define LINE_DEPTH_MAX     16u         /* lines above one another; deeper ones are copied whole */
#define LINE_PARTS_MAX     (1u << 20)
#define LINE_META_BYTES    128u
#define LINE_ROW_BYTES     20u /* of a message: u32 end, its checksum */
#define LINES_LEFT_MAX     8u  /* of one session */
#define ORIGINS_MAX        256u
#define ORIGIN_MODEL_BYTES 96u
#define RELOAD_MS          500.0 /* a reader looks again for what the writer did */

struct session_id {
    uint8_t b[SESSION_ID_BYTES];
};

struct tenant {
    char *name;
    struct session_id id;
    struct digest salt;
    bool is_public;
    uint32_t n_keys;
    struct digest *keys;
};

struct origin {
    struct digest root, identity;
    char model[ORIGIN_MODEL_BYTES];
    char kv_type[8];
};

struct part {
    uint32_t from, to, mfrom, mto;
    uint32_t text_bytes;
};

struct session;
struct line {
    struct session_id id, parent_id;
    struct line *parent;          /* NULL: none, or it is lost */
    uint32_t parent_at, parent_m; /* how much of it comes before */
    struct part *parts;
    uint32_t n_parts, cap_parts;
    uint32_t refs; /* sessions and lines */
    struct session *follower;
    int64_t updated;
    bool is_marked; /* while loading */
};

struct session {
    struct session_id id, parent_id;
    uint32_t tenant;
    const struct origin *origin;
    char *name, *tag, *pin, *response; /* NULL: none */
    struct line *line;                 /* NULL: no tokens (yet; or lost: line_id says so) */
    struct session_id line_id;
    uint32_t n_tokens, n_messages; /* where !follows */
    bool follows;                  /* its end is its line's */
    uint32_t at;                   /* of the parent's tokens */
    bool is_imported;
    /* Lines that it went on from elsewhere: another history under the same name.  Their pages stay
     * in the cache, and go when the session is deleted.  Oldest first. */
    struct line *left[LINES_LEFT_MAX];
    uint32_t n_left;
    struct digest salt;    /* of an import */
    struct digest *chains; /* [n_chains] of a pinned one: what eviction spares */
    uint32_t n_chains;
    int64_t created, updated;
};

struct sessions {
    struct store *store;
    bool is_read_only;
    struct sessions_options options;
    pthread_mutex_t writing;
    pthread_mutex_t mutex;
    pthread_cond_t loaded, closing;
    struct os_thread *loader; /* loads, then expires */
    /* mutex: */
    bool is_loaded, is_closing;
    bool is_loading_names; /* all lines are there, sessions come newest first */
    enum status load_status;
    struct err load_err;
    uint64_t loaded_ns;
    uint64_t seen; /* of a reader: what the store had when it was loaded */
    struct tenant *tenants[TENANTS_MAX];
    uint32_t n_tenants;
    struct origin *origins[ORIGINS_MAX];
    uint32_t n_origins;
    struct session **all;
    uint32_t n_all, cap_all;
    struct map by_name, by_id, lines; /* values are pointers */
};

/* ---- tenant.c ---- */
NODISCARD enum status tenants_load(struct sessions *b, struct err *e);
void tenants_release(struct sessions *b);
bool tenant_by_id(const struct sessions *b, const struct session_id *id, uint32_t *index);

/* ---- line.c ---- */
struct digest line_key(const struct session_id *id, uint32_t part);
NODISCARD enum status lines_load(struct sessions *b, struct err *e);
/* A part of a line, of this version or a newer one; other tokens records are replayed turns. */
bool line_owns(const struct store_pin *pin);
struct line *line_find(const struct sessions *b, const struct session_id *id);
void line_end(const struct line *l, uint32_t *n_tokens, uint32_t *n_messages);
void line_ref(struct line *l);
/* Without owners it goes, and its records: queued for deletion. */
void line_unref(struct sessions *b, struct line *l);
void line_free(struct line *l);
/* Deletes lines that nobody has (a crash between two records). */
void lines_sweep(struct sessions *b);
/* The parts that hold the first n_tokens and n_messages, oldest first; under the mutex. */
struct span {
    struct digest key;
    uint32_t from, to, mfrom, mto; /* of the record that are wanted */
};
struct span_list {
    struct span *spans;
    uint32_t n, cap;
    bool is_cut;
};
NODISCARD enum status line_spans(const struct line *l, uint32_t n_tokens, uint32_t n_messages,
                                 struct span_list *out, struct err *e);
struct row {
    uint32_t end;
    struct checksum sum;
};
struct line_content {
    uint32_t *tokens;
    struct row *rows;
    struct buf messages;
    uint32_t n_tokens, n_messages; /* less than asked for: damage */
};
/* Reads and verifies; without the mutex. */
NODISCARD enum status line_read(struct sessions *b, const struct span_list *spans, unsigned wanted,
                                struct line_content *out, struct err *e);
void line_content_release(struct line_content *c);
/* Tokens up to the end of the first message of a user, read with its messages; 0: not known. */
uint32_t line_first_user_end(const struct line_content *c);
/* A part's record on its way to disk. */
struct part_write {
    struct line *line;
    uint32_t index;
    struct part part;
    struct session_id tenant;
    int64_t updated;
    const uint32_t *tokens; /* of the part */
    const char *text;
    uint8_t *rows; /* LINE_ROW_BYTES each */
};
struct write_group;
void part_put(struct sessions *b, const struct part_write *w, struct write_group *group);

/* ---- record.c ---- */
/* Several puts in one batch; write_wait ends it: OK when all are durable. */
struct write_group {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    uint32_t n_open;
    enum status st;
    struct err e;
};
void write_begin(struct write_group *g);
void write_put(struct sessions *b, struct write_group *g, struct store_put *put);
NODISCARD enum status write_wait(struct write_group *g, struct err *e);
struct digest session_key(const struct session_id *id);
/* The session's record; its strings' ceilings were checked. */
void session_put(struct sessions *b, const struct session *s, struct write_group *g);
NODISCARD enum status session_parse(struct sessions *b, struct slice meta, struct session **out,
                                    struct err *e);
void session_free(struct session *s);
struct session *session_copy(const struct session *s); /* NULL: no memory */
const struct origin *origin_of(struct sessions *b, const struct session_origin *o);
void id_make(struct session_id *id);
bool id_is_zero(const struct session_id *id);
void id_hex(const struct session_id *id, char out[2 * SESSION_ID_BYTES + 1]);
bool id_from_hex(struct session_id *out, struct slice hex);
struct digest id_digest(const struct session_id *id); /* as a key of maps */

/* ---- book.c ---- */
/* Waits for the load, takes the mutex.  On failure it is not held. */
NODISCARD enum status book_enter(struct sessions *b, struct err *e);
/* The same for who only reads one session: waits for that one alone. */
NODISCARD enum status book_enter_for(struct sessions *b, uint32_t tenant, struct slice which,
                                     struct err *e);
void book_leave(struct sessions *b);
struct session *book_find(const struct sessions *b, uint32_t tenant, struct slice which);
struct session *book_by_id(const struct sessions *b, const struct session_id *id);
NODISCARD enum status book_add(struct sessions *b, struct session *s, struct err *e);
void book_remove(struct sessions *b, struct session *s); /* and frees it */
void book_index_name(struct sessions *b, struct session *s, bool add);
void session_end(const struct session *s, uint32_t *n_tokens, uint32_t *n_messages);
/* It had tokens, and the line that they lie in is not there. */
bool session_is_lost(const struct session *s);
NODISCARD enum status book_may_write(const struct sessions *b, struct err *e);

/* ---- fork.c: what changes a session ---- */
NODISCARD enum status session_create(struct sessions *b, uint32_t tenant, struct slice name,
                                     struct slice tag, struct buf *out, struct err *e);
struct fork_place {
    bool is_given, by_message;
    uint32_t value;
};
NODISCARD enum status session_fork(struct sessions *b, uint32_t tenant, struct slice which,
                                   struct slice name, struct fork_place at, struct buf *out,
                                   struct err *e);
NODISCARD enum status session_change(struct sessions *b, uint32_t tenant, struct slice which,
                                     struct slice op, struct slice value, struct buf *out,
                                     struct err *e);
/* E_BUSY: it was used at or after `before`, or is pinned; INT64_MAX: it goes in any case. */
NODISCARD enum status session_delete(struct sessions *b, uint32_t tenant, struct slice which,
                                     int64_t before, struct err *e);

/* ---- left.c: what a session once said and says no more ---- */
/* Adds the line to s's list; *dropped: the oldest that found no room any more, or NULL. */
void left_add(struct session *s, struct line *line, struct line **dropped);
/* Takes lines off whose tokens all begin `tokens`: they are of what it says now. */
void left_forget(struct sessions *b, struct session *s, const uint32_t *tokens, uint32_t n_tokens);
/* A line's tokens, to be erased; false: they cannot be had. */
bool left_read(struct sessions *b, const struct session *s, const struct line *l,
               struct session_content *out);
/* Erases what of it no session of the tenant has.  Without the mutex. */
void left_erase(struct sessions *b, const struct session_content *c);
/* As hex ids one behind the other, and back; text [LINES_LEFT_MAX * 2 * SESSION_ID_BYTES + 1]. */
void left_write(const struct session *s, char *text);
void left_parse(const struct sessions *b, struct session *s, struct slice text);

/* ---- keep.c ---- */
/* What two messages are compared by. */
struct checksum session_message_sum(const struct json *message);

/* ---- pins.c ---- */
/* The session was pinned, unpinned, or grew; without the mutex. */
void pins_update(struct sessions *b, const struct session_id *id);
void pins_tell(struct sessions *b); /* one is gone */
void pins_load(struct sessions *b); /* all of them, once */

/* ---- erase.c ---- */
/* n_shared: of its tokens another session has, too. */
void erase_traces(struct sessions *b, const struct session_content *c, uint32_t n_shared);
/* Queued for deletion; a key that is not there is none. */
void session_erase_key(struct sessions *b, const struct digest *key);

/* ---- expire.c ---- */
void expire_until_closed(struct sessions *b);

/* ---- show.c ---- */
void session_write(const struct sessions *b, const struct session *s, struct json_writer *w);
int64_t session_updated(const struct session *s);

#endif
