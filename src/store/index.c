/* SPDX-License-Identifier: MIT
 * index.c — index.db through SQLite.  Statements are prepared once, from one table. */
#include "store/index.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"

/* Readers of the same file: a checkpoint may hold them for a moment. */
#define BUSY_TIMEOUT_MS 2000
#define CACHE_KIB       16384 /* of the writing connection */
/* Of a new index; an older one keeps its own.  Rows lie by key, so a commit touches a page for
 * nearly each: half of SQLite's default writes 0.085 bytes a byte of new KV where that wrote 0.148.
 */
#define INDEX_PAGE_BYTES 2048u
#define LOG_FRAMES_MAX   2000 /* of the log, before it is folded back into the file */

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS records("
    " key BLOB PRIMARY KEY, kind INTEGER NOT NULL, segment INTEGER NOT NULL,"
    " offset INTEGER NOT NULL, length INTEGER NOT NULL, sequence INTEGER NOT NULL,"
    " depth INTEGER NOT NULL, cost REAL NOT NULL, last_used INTEGER NOT NULL,"
    " hits INTEGER NOT NULL, sum INTEGER NOT NULL, chain INTEGER NOT NULL DEFAULT 0,"
    " parent INTEGER NOT NULL DEFAULT 0, reach INTEGER NOT NULL DEFAULT 0,"
    " data_key INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS siblings(family BLOB, ord BLOB, key BLOB,"
    " PRIMARY KEY(family, ord, key)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS segments(number INTEGER PRIMARY KEY, end INTEGER NOT NULL,"
    " state INTEGER NOT NULL, sum INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS tombs(key BLOB PRIMARY KEY, sequence INTEGER NOT NULL,"
    " segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS dead(key BLOB, segment INTEGER, PRIMARY KEY(key, segment))"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS quarantine(segment INTEGER, offset INTEGER, key BLOB, why TEXT,"
    " PRIMARY KEY(segment, offset)) WITHOUT ROWID;";

static const char migration[] = /* from format 1 */
    "BEGIN IMMEDIATE;"
    "ALTER TABLE records ADD COLUMN chain INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE records ADD COLUMN parent INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE records ADD COLUMN reach INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE records ADD COLUMN data_key INTEGER NOT NULL DEFAULT 0;"
    "UPDATE meta SET value=2 WHERE name='format';"
    "COMMIT";

#define COLUMNS   "key,kind,segment,offset,length,sequence,depth,cost,last_used,hits,sum"
#define COLUMNS_2 ",chain,parent,reach,data_key" /* of format 2 … */
#define COLUMNS_1 ",0,0,0,0" /* … and what a reader takes for them in format 1 */

#define STATEMENTS(X)                                                              \
    X(BEGIN, "BEGIN IMMEDIATE")                                                    \
    X(COMMIT, "COMMIT")                                                            \
    X(ROLLBACK, "ROLLBACK")                                                        \
    X(META_GET, "SELECT value FROM meta WHERE name=?")                             \
    X(META_PUT, "INSERT OR REPLACE INTO meta VALUES(?,?)")                         \
    X(PUT, "INSERT OR REPLACE INTO records VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)") \
    X(REMOVE, "DELETE FROM records WHERE key=?")                                   \
    X(TOUCH, "UPDATE records SET last_used=?,hits=? WHERE key=?")                  \
    X(SIBLING_PUT, "INSERT OR REPLACE INTO siblings VALUES(?,?,?)")                \
    X(SIBLING_REMOVE, "DELETE FROM siblings WHERE family=? AND ord=? AND key=?")   \
    X(SEGMENT_PUT, "INSERT OR REPLACE INTO segments VALUES(?,?,?,?)")              \
    X(SEGMENT_REMOVE, "DELETE FROM segments WHERE number=?")                       \
    X(TOMBS_DROP, "DELETE FROM tombs WHERE segment=?")                             \
    X(DEAD_DROP, "DELETE FROM dead WHERE segment=?")                               \
    X(QUARANTINE_DROP, "DELETE FROM quarantine WHERE segment=?")                   \
    X(TOMB_PUT, "INSERT OR REPLACE INTO tombs VALUES(?,?,?,?,?)")                  \
    X(DEAD_PUT, "INSERT OR REPLACE INTO dead VALUES(?,?)")                         \
    X(QUARANTINE_PUT, "INSERT OR REPLACE INTO quarantine VALUES(?,?,?,?)")         \
    X(SEGMENTS, "SELECT number,end,state,sum FROM segments")                       \
    X(RECORDS, "SELECT " COLUMNS COLUMNS_2 " FROM records")                        \
    X(TOMBS, "SELECT key,sequence,segment,offset,length FROM tombs")               \
    X(TOMB_FIND, "SELECT sequence FROM tombs WHERE key=?")                         \
    X(DEAD_FIND, "SELECT 1 FROM dead WHERE key=? AND segment<>? LIMIT 1")          \
    X(DEAD_SEGMENTS, "SELECT dead.segment FROM dead JOIN tombs USING(key)"         \
                     " UNION SELECT segment FROM quarantine")                      \
    X(QUARANTINE_COUNT, "SELECT count(*) FROM quarantine")

#define READ_STATEMENTS(X)                                                                      \
    X(BEFORE, "SELECT key FROM siblings WHERE family=? AND ord<=? ORDER BY ord DESC, key DESC"  \
              " LIMIT ?")                                                                       \
    X(AFTER, "SELECT key FROM siblings WHERE family=? AND ord>? ORDER BY ord, key LIMIT ?")     \
    X(FIND, "SELECT " COLUMNS COLUMNS_2 " FROM records WHERE key=?")                            \
    X(QUARANTINED, "SELECT why FROM quarantine WHERE key=? ORDER BY segment DESC, offset DESC") \
    X(VERSION, "PRAGMA data_version")

enum {
#define ENUM(name, sql) S_##name,
    STATEMENTS(ENUM) S_COUNT
#undef ENUM
};
enum {
#define ENUM(name, sql) R_##name,
    READ_STATEMENTS(ENUM) R_COUNT
#undef ENUM
};

struct index {
    sqlite3 *db;
    sqlite3_stmt *statements[S_COUNT];
    sqlite3 *read_db; /* guarded by read_lock, like its statements */
    sqlite3_stmt *read_statements[R_COUNT];
    pthread_mutex_t read_lock;
    uint64_t sum;        /* of the sums of all rows of `records` */
    uint64_t sum_before; /* at index_begin */
    enum status failed;  /* first failure within the transaction */
    struct err why;
    uint64_t page_bytes;
    uint64_t copied_frames; /* from the log to the file */
};

static enum status status_of_sqlite(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_SCHEMA:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
    case SQLITE_ERROR: /* a table that is not there: someone else's, or a damaged schema */
        return E_CORRUPT;
    case SQLITE_FULL:
        return E_FULL;
    case SQLITE_NOMEM:
        return E_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return E_BUSY;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return E_DENIED;
    default:
        return E_IO;
    }
}

static enum status db_error(sqlite3 *db, int rc, struct err *e)
{
    return err_set(e, status_of_sqlite(rc), "index.db: %s",
                   db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

/* ---- opening ---- */
static enum status run_sql(sqlite3 *db, const char *sql, struct err *e)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OK : db_error(db, rc, e);
}

/* A NULL among them: a statement that this file cannot run, and will not be asked to. */
static enum status prepare_all(sqlite3 *db, const char *const *sql, int n, sqlite3_stmt **out,
                               struct err *e)
{
    for (int i = 0; i < n; i++) {
        int rc = SQLITE_OK;
        if (sql[i])
            rc = sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &out[i], NULL);
        if (rc != SQLITE_OK)
            return db_error(db, rc, e);
    }
    return OK;
}

static enum status connect(const char *path, bool is_read_only, sqlite3 **db, struct err *e)
{
    int flags = is_read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    int rc =
        sqlite3_open_v2(path, db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
    if (rc != SQLITE_OK)
        return db_error(*db, rc, e);
    if (!is_read_only)
        (void)chmod(path, 0600); /* its WAL inherits it; a simulated disk has no such file */
    sqlite3_busy_timeout(*db, BUSY_TIMEOUT_MS);
    return run_sql(*db, "PRAGMA mmap_size=0; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON",
                   e);
}

/* Asked before the statements are prepared, because those depend on it.  A fresh file has none. */
static enum status find_format(sqlite3 *db, uint64_t *out, struct err *e)
{
    sqlite3_stmt *s = NULL;
    *out = INDEX_FORMAT;
    int rc = sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_schema WHERE name='meta'", -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    sqlite3_finalize(s);
    if (rc == SQLITE_DONE)
        return OK;
    if (rc == SQLITE_ROW)
        rc = sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE name='format'", -1, &s, NULL);
    if (rc != SQLITE_OK)
        return db_error(db, rc, e);
    rc = sqlite3_step(s);
    enum status st = rc == SQLITE_ROW || rc == SQLITE_DONE ? OK : db_error(db, rc, e);
    if (rc == SQLITE_ROW)
        *out = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    if (st == OK && *out > INDEX_FORMAT)
        st = err_set(e, E_UNSUPPORTED,
                     "index.db of version %llu; this program knows version %d: use a newer one",
                     (unsigned long long)*out, INDEX_FORMAT);
    return st;
}

static enum status find_page_bytes(struct index *ix, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(ix->db, "PRAGMA page_size", -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        ix->page_bytes = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc == SQLITE_ROW ? OK : db_error(ix->db, rc, e);
}

static enum status meta_get(struct index *ix, const char *name, sqlite3_stmt **row, struct err *e)
{
    sqlite3_stmt *s = ix->statements[S_META_GET];
    sqlite3_reset(s);
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        *row = s;
        return OK;
    }
    if (rc == SQLITE_DONE)
        return err_set(e, E_NOT_FOUND, "index.db: no %s", name);
    return db_error(ix->db, rc, e);
}

static enum status meta_get_u64(struct index *ix, const char *name, uint64_t *out, struct err *e)
{
    sqlite3_stmt *row = NULL;
    enum status st = meta_get(ix, name, &row, e);
    if (st == OK && sqlite3_column_type(row, 0) != SQLITE_INTEGER)
        st = err_set(e, E_CORRUPT, "index.db: %s is no number", name);
    if (st == OK)
        *out = (uint64_t)sqlite3_column_int64(row, 0);
    sqlite3_reset(ix->statements[S_META_GET]);
    return st;
}

/* A commit's pages go to the log; every two thousand frames or so they go from there to the file.
 */
static int on_commit(void *arg, sqlite3 *db, const char *name, int n_frames)
{
    struct index *ix = arg;
    int n_copied = 0;
    if (n_frames < LOG_FRAMES_MAX)
        return SQLITE_OK;
    if (sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, &n_copied) ==
            SQLITE_OK &&
        n_copied > 0)
        ix->copied_frames += (uint64_t)n_copied;
    return SQLITE_OK; /* a log that could not be folded back is tried again at the next commit */
}

enum status index_open(const char *path, bool is_read_only, struct index **out, struct err *e)
{
#define TEXT(name, text) text,
    const char *sql[] = {STATEMENTS(TEXT)};
    const char *read_sql[] = {READ_STATEMENTS(TEXT)};
#undef TEXT
    uint64_t format = INDEX_FORMAT;
    struct index *ix = mem_try_new(1, sizeof *ix);
    if (!ix)
        return err_set(e, E_NOMEM, "index");
    pthread_mutex_init(&ix->read_lock, NULL);
    char pragma[160];
    snprintf(pragma, sizeof pragma,
             "PRAGMA page_size=%u; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
             "PRAGMA cache_size=-%d",
             INDEX_PAGE_BYTES, CACHE_KIB);
    enum status st = connect(path, is_read_only, &ix->db, e);
    if (st == OK)
        st = find_format(ix->db, &format, e);
    if (st == OK && !is_read_only)
        st = run_sql(ix->db, pragma, e);
    if (st == OK)
        st = find_page_bytes(ix, e);
    if (st == OK && !is_read_only && format == 1)
        st = run_sql(ix->db, migration, e);
    if (st == OK && !is_read_only)
        st = run_sql(ix->db, schema, e);
    if (is_read_only && format == 1) {
        sql[S_PUT] = NULL;
        sql[S_RECORDS] = "SELECT " COLUMNS COLUMNS_1 " FROM records";
        read_sql[R_FIND] = "SELECT " COLUMNS COLUMNS_1 " FROM records WHERE key=?";
    }
    if (st == OK)
        st = prepare_all(ix->db, sql, S_COUNT, ix->statements, e);
    if (st == OK && !is_read_only)
        sqlite3_wal_hook(ix->db, on_commit, ix);
    if (st == OK)
        st = connect(path, true, &ix->read_db, e);
    if (st == OK)
        st = prepare_all(ix->read_db, read_sql, R_COUNT, ix->read_statements, e);
    if (st != OK) {
        index_close(ix);
        return st;
    }
    *out = ix;
    return OK;
}

void index_close(struct index *ix)
{
    if (!ix)
        return;
    for (int i = 0; i < R_COUNT; i++)
        sqlite3_finalize(ix->read_statements[i]);
    for (int i = 0; i < S_COUNT; i++)
        sqlite3_finalize(ix->statements[i]);
    /* The reader first: the writer, last to leave, folds the log back into the file. */
    sqlite3_close(ix->read_db);
    sqlite3_close(ix->db);
    pthread_mutex_destroy(&ix->read_lock);
    mem_free(ix);
}

/* ---- rows ---- */
static uint64_t row_sum(const struct index_row *r)
{
    uint8_t b[DIGEST_BYTES + 7 * 8];
    memset(b, 0, sizeof b);
    memcpy(b, r->key.b, DIGEST_BYTES);
    uint8_t *p = b + DIGEST_BYTES;
    put_le64(p, r->kind);
    put_le64(p + 8, r->segment);
    put_le64(p + 16, r->offset);
    put_le64(p + 24, r->bytes);
    put_le64(p + 32, r->sequence);
    put_le64(p + 40, r->depth);
    memcpy(p + 48, &r->cost_ms, sizeof r->cost_ms);
    return checksum_of(b, sizeof b).low;
}

static uint64_t segment_sum(const struct index_segment *g)
{
    uint8_t b[24];
    put_le64(b, g->number);
    put_le64(b + 8, g->end);
    put_le64(b + 16, (uint64_t)g->state);
    return checksum_of(b, sizeof b).low;
}

static bool column_digest(sqlite3_stmt *s, int i, struct digest *out)
{
    if (sqlite3_column_type(s, i) != SQLITE_BLOB || sqlite3_column_bytes(s, i) != DIGEST_BYTES)
        return false;
    memcpy(out->b, sqlite3_column_blob(s, i), DIGEST_BYTES);
    return true;
}

static enum status read_row(sqlite3_stmt *s, struct index_row *r, uint64_t *sum, struct err *e)
{
    if (!column_digest(s, 0, &r->key))
        return err_set(e, E_CORRUPT, "index.db: a key that is no digest");
    r->kind = (unsigned)sqlite3_column_int(s, 1);
    r->segment = (uint64_t)sqlite3_column_int64(s, 2);
    r->offset = (uint64_t)sqlite3_column_int64(s, 3);
    r->bytes = (uint64_t)sqlite3_column_int64(s, 4);
    r->sequence = (uint64_t)sqlite3_column_int64(s, 5);
    r->depth = (uint32_t)sqlite3_column_int64(s, 6);
    r->cost_ms = (float)sqlite3_column_double(s, 7);
    r->last_used_ms = (uint64_t)sqlite3_column_int64(s, 8);
    r->hits = (uint32_t)sqlite3_column_int64(s, 9);
    r->chain = (uint64_t)sqlite3_column_int64(s, 11);
    r->parent = (uint64_t)sqlite3_column_int64(s, 12);
    r->reach = (uint32_t)sqlite3_column_int64(s, 13);
    r->data_key = (uint64_t)sqlite3_column_int64(s, 14);
    *sum = row_sum(r);
    if (*sum != (uint64_t)sqlite3_column_int64(s, 10))
        return err_set(e, E_CORRUPT, "index.db: a row whose sum is wrong");
    return OK;
}

enum status index_facts(struct index *ix, struct index_facts *out, struct err *e)
{
    sqlite3_stmt *row = NULL;
    enum status st = meta_get(ix, "store", &row, e);
    if (st != OK) {
        sqlite3_reset(ix->statements[S_META_GET]);
        return st;
    }
    bool is_id = sqlite3_column_bytes(row, 0) == (int)sizeof out->store.b;
    if (is_id)
        memcpy(out->store.b, sqlite3_column_blob(row, 0), sizeof out->store.b);
    sqlite3_reset(row);
    if (!is_id)
        return err_set(e, E_CORRUPT, "index.db: store id");
    st = meta_get_u64(ix, "next_sequence", &out->next_sequence, e);
    if (st == OK)
        st = meta_get_u64(ix, "budget_bytes", &out->budget_bytes, e);
    out->day = out->day_bytes = 0;
    struct err none; /* an older program kept no count of days */
    if (st == OK && meta_get_u64(ix, "day", &out->day, &none) != OK)
        out->day = 0;
    if (st == OK && meta_get_u64(ix, "day_bytes", &out->day_bytes, &none) != OK)
        out->day_bytes = 0;
    return st == E_NOT_FOUND ? err_set(e, E_CORRUPT, "index.db: meta is not complete") : st;
}

#define ROWS_AHEAD 8u /* of a million rows each would wait for memory that its key leads to */

static enum status load_rows(struct index *ix, const struct index_load *load, struct err *e)
{
    sqlite3_stmt *s = ix->statements[S_SEGMENTS];
    enum status st = OK;
    int rc = SQLITE_DONE;
    while (st == OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct index_segment g = {(uint64_t)sqlite3_column_int64(s, 0),
                                  (uint64_t)sqlite3_column_int64(s, 1),
                                  (enum index_segment_state)sqlite3_column_int(s, 2)};
        /* A row that is wrong or missing costs a walk of that segment, nothing more. */
        if ((uint64_t)sqlite3_column_int64(s, 3) == segment_sum(&g))
            st = load->segment(&g, load->arg);
    }
    sqlite3_reset(s);
    if (st == OK && rc != SQLITE_DONE)
        return db_error(ix->db, rc, e);

    s = ix->statements[S_RECORDS];
    uint64_t sum, total = 0, wanted = 0;
    struct index_row rows[ROWS_AHEAD];
    uint32_t n_read = 0, n_given = 0;
    while (st == OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct index_row *row = &rows[n_read++ % ROWS_AHEAD];
        st = read_row(s, row, &sum, e);
        if (st != OK)
            break;
        total += sum;
        load->soon(row, load->arg);
        if (n_read - n_given == ROWS_AHEAD)
            st = load->record(&rows[n_given++ % ROWS_AHEAD], load->arg);
    }
    while (st == OK && n_given < n_read)
        st = load->record(&rows[n_given++ % ROWS_AHEAD], load->arg);
    if (st == OK && rc != SQLITE_DONE)
        st = db_error(ix->db, rc, e);
    sqlite3_reset(s);
    if (st == OK)
        st = meta_get_u64(ix, "sum", &wanted, e);
    if (st == E_NOT_FOUND && total == 0)
        return OK; /* fresh */
    if (st == E_NOT_FOUND || (st == OK && total != wanted))
        return err_set(e, E_CORRUPT, "index.db: rows are missing or from another time");
    if (st == OK)
        ix->sum = total;
    return st;
}

enum status index_load(struct index *ix, const struct index_load *load, struct err *e)
{
    /* One snapshot, also while another process writes. */
    enum status st = run_sql(ix->db, "BEGIN", e);
    if (st != OK)
        return st;
    st = load_rows(ix, load, e);
    sqlite3_exec(ix->db, "COMMIT", NULL, NULL, NULL);
    return st;
}

enum status index_each_tomb(struct index *ix,
                            enum status (*each)(const struct index_tomb *, void *), void *arg,
                            struct err *e)
{
    sqlite3_stmt *s = ix->statements[S_TOMBS];
    enum status st = OK;
    int rc = SQLITE_DONE;
    while (st == OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct index_tomb t = {.sequence = (uint64_t)sqlite3_column_int64(s, 1),
                               .segment = (uint64_t)sqlite3_column_int64(s, 2),
                               .offset = (uint64_t)sqlite3_column_int64(s, 3),
                               .bytes = (uint64_t)sqlite3_column_int64(s, 4)};
        if (!column_digest(s, 0, &t.key))
            st = err_set(e, E_CORRUPT, "index.db: a key that is no digest");
        else
            st = each(&t, arg);
    }
    if (st == OK && rc != SQLITE_DONE)
        st = db_error(ix->db, rc, e);
    sqlite3_reset(s);
    return st;
}

enum status index_find_tomb(struct index *ix, const struct digest *key, uint64_t *sequence,
                            struct err *e)
{
    sqlite3_stmt *s = ix->statements[S_TOMB_FIND];
    sqlite3_bind_blob(s, 1, key->b, DIGEST_BYTES, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    enum status st = rc == SQLITE_ROW    ? OK
                     : rc == SQLITE_DONE ? err_set(e, E_NOT_FOUND, "no tombstone")
                                         : db_error(ix->db, rc, e);
    if (st == OK)
        *sequence = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return st;
}

enum status index_has_dead(struct index *ix, const struct digest *key, uint64_t except, bool *out,
                           struct err *e)
{
    sqlite3_stmt *s = ix->statements[S_DEAD_FIND];
    sqlite3_bind_blob(s, 1, key->b, DIGEST_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)except);
    int rc = sqlite3_step(s);
    *out = rc == SQLITE_ROW;
    enum status st = rc == SQLITE_ROW || rc == SQLITE_DONE ? OK : db_error(ix->db, rc, e);
    sqlite3_reset(s);
    return st;
}

enum status index_each_dead_segment(struct index *ix,
                                    enum status (*each)(uint64_t segment, void *arg), void *arg,
                                    struct err *e)
{
    sqlite3_stmt *s = ix->statements[S_DEAD_SEGMENTS];
    enum status st = OK;
    int rc = SQLITE_DONE;
    while (st == OK && (rc = sqlite3_step(s)) == SQLITE_ROW)
        st = each((uint64_t)sqlite3_column_int64(s, 0), arg);
    if (st == OK && rc != SQLITE_DONE)
        st = db_error(ix->db, rc, e);
    sqlite3_reset(s);
    return st;
}

enum status index_count_quarantined(struct index *ix, uint64_t *out, struct err *e)
{
    sqlite3_stmt *s = ix->statements[S_QUARANTINE_COUNT];
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *out = (uint64_t)sqlite3_column_int64(s, 0);
    enum status st = rc == SQLITE_ROW ? OK : db_error(ix->db, rc, e);
    sqlite3_reset(s);
    return st;
}

enum status index_check(struct index *ix, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(ix->db, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    enum status st = OK;
    if (rc != SQLITE_ROW)
        st = db_error(ix->db, rc, e);
    else if (strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0)
        st = err_set(e, E_CORRUPT, "index.db: %s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return st;
}

/* ---- the reading connection ---- */
uint32_t index_neighbours(struct index *ix, const struct digest *family, const uint8_t *order,
                          uint32_t order_len, bool is_after, struct digest *keys, uint32_t n_max)
{
    uint32_t n = 0;
    pthread_mutex_lock(&ix->read_lock);
    sqlite3_stmt *s = ix->read_statements[is_after ? R_AFTER : R_BEFORE];
    sqlite3_bind_blob(s, 1, family->b, DIGEST_BYTES, SQLITE_STATIC);
    /* A NULL pointer would bind NULL, which no row compares with. */
    sqlite3_bind_blob(s, 2, order_len ? (const void *)order : "", (int)order_len, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, n_max);
    while (n < n_max && sqlite3_step(s) == SQLITE_ROW)
        if (column_digest(s, 0, &keys[n]))
            n++;
    sqlite3_reset(s);
    pthread_mutex_unlock(&ix->read_lock);
    return n;
}

enum status index_find(struct index *ix, const struct digest *key, struct index_row *out,
                       struct err *e)
{
    uint64_t sum;
    pthread_mutex_lock(&ix->read_lock);
    sqlite3_stmt *s = ix->read_statements[R_FIND];
    sqlite3_bind_blob(s, 1, key->b, DIGEST_BYTES, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    enum status st = rc == SQLITE_ROW    ? read_row(s, out, &sum, e)
                     : rc == SQLITE_DONE ? err_set(e, E_NOT_FOUND, "no such record")
                                         : db_error(ix->read_db, rc, e);
    sqlite3_reset(s);
    pthread_mutex_unlock(&ix->read_lock);
    return st;
}

enum status index_find_quarantined(struct index *ix, const struct digest *key,
                                   char why[INDEX_WHY_BYTES], struct err *e)
{
    pthread_mutex_lock(&ix->read_lock);
    sqlite3_stmt *s = ix->read_statements[R_QUARANTINED];
    sqlite3_bind_blob(s, 1, key->b, DIGEST_BYTES, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    enum status st = rc == SQLITE_ROW    ? OK
                     : rc == SQLITE_DONE ? err_set(e, E_NOT_FOUND, "not set aside")
                                         : db_error(ix->read_db, rc, e);
    if (st == OK) {
        const unsigned char *text = sqlite3_column_text(s, 0);
        snprintf(why, INDEX_WHY_BYTES, "%s", text ? (const char *)text : "");
    }
    sqlite3_reset(s);
    pthread_mutex_unlock(&ix->read_lock);
    return st;
}

uint64_t index_version(struct index *ix)
{
    pthread_mutex_lock(&ix->read_lock);
    sqlite3_stmt *s = ix->read_statements[R_VERSION];
    uint64_t version = sqlite3_step(s) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(s, 0) : 0;
    sqlite3_reset(s);
    pthread_mutex_unlock(&ix->read_lock);
    return version;
}

uint64_t index_bytes(struct index *ix)
{
    pthread_mutex_lock(&ix->read_lock);
    sqlite3_stmt *pages = NULL;
    uint64_t n = 0;
    if (sqlite3_prepare_v2(ix->read_db,
                           "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
                           -1, &pages, NULL) == SQLITE_OK &&
        sqlite3_step(pages) == SQLITE_ROW)
        n = (uint64_t)sqlite3_column_int64(pages, 0);
    sqlite3_finalize(pages);
    pthread_mutex_unlock(&ix->read_lock);
    return n;
}

uint64_t index_written_bytes(struct index *ix)
{
    int pages = 0, high = 0;
    sqlite3_db_status(ix->db, SQLITE_DBSTATUS_CACHE_WRITE, &pages, &high, 0);
    return ((uint64_t)pages + ix->copied_frames) * ix->page_bytes;
}

/* ---- writing ---- */
/* Steps a writing statement whose values are bound; a failure is kept for index_commit. */
static void run_bound(struct index *ix, sqlite3_stmt *s)
{
    int rc = sqlite3_step(s);
    sqlite3_reset(s);
    if (rc != SQLITE_DONE && ix->failed == OK)
        ix->failed = db_error(ix->db, rc, &ix->why);
}

enum status index_begin(struct index *ix, struct err *e)
{
    ix->failed = OK;
    ix->sum_before = ix->sum;
    int rc = sqlite3_step(ix->statements[S_BEGIN]);
    sqlite3_reset(ix->statements[S_BEGIN]);
    return rc == SQLITE_DONE ? OK : db_error(ix->db, rc, e);
}

static void meta_put_i64(struct index *ix, const char *name, uint64_t value)
{
    sqlite3_stmt *s = ix->statements[S_META_PUT];
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)value);
    run_bound(ix, s);
}

enum status index_commit(struct index *ix, struct err *e)
{
    if (ix->sum != ix->sum_before)
        meta_put_i64(ix, "sum", ix->sum);
    if (ix->failed == OK)
        run_bound(ix, ix->statements[S_COMMIT]);
    if (ix->failed == OK)
        return OK;
    if (!sqlite3_get_autocommit(ix->db)) {
        sqlite3_step(ix->statements[S_ROLLBACK]);
        sqlite3_reset(ix->statements[S_ROLLBACK]);
    }
    ix->sum = ix->sum_before;
    return err_set(e, ix->failed, "%s", ix->why.msg);
}

void index_put_facts(struct index *ix, const struct index_facts *facts)
{
    sqlite3_stmt *s = ix->statements[S_META_PUT];
    sqlite3_bind_text(s, 1, "store", -1, SQLITE_STATIC);
    sqlite3_bind_blob(s, 2, facts->store.b, sizeof facts->store.b, SQLITE_STATIC);
    run_bound(ix, s);
    meta_put_i64(ix, "format", INDEX_FORMAT);
    meta_put_i64(ix, "next_sequence", facts->next_sequence);
    meta_put_i64(ix, "budget_bytes", facts->budget_bytes);
}

void index_put_next_sequence(struct index *ix, uint64_t next_sequence)
{
    meta_put_i64(ix, "next_sequence", next_sequence);
}

void index_put_day(struct index *ix, uint64_t day, uint64_t day_bytes)
{
    meta_put_i64(ix, "day", day);
    meta_put_i64(ix, "day_bytes", day_bytes);
}

void index_put(struct index *ix, const struct index_row *row, const struct index_row *old)
{
    uint64_t sum = row_sum(row);
    sqlite3_stmt *s = ix->statements[S_PUT];
    sqlite3_bind_blob(s, 1, row->key.b, DIGEST_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, row->kind);
    sqlite3_bind_int64(s, 3, (sqlite3_int64)row->segment);
    sqlite3_bind_int64(s, 4, (sqlite3_int64)row->offset);
    sqlite3_bind_int64(s, 5, (sqlite3_int64)row->bytes);
    sqlite3_bind_int64(s, 6, (sqlite3_int64)row->sequence);
    sqlite3_bind_int64(s, 7, row->depth);
    sqlite3_bind_double(s, 8, (double)row->cost_ms);
    sqlite3_bind_int64(s, 9, (sqlite3_int64)row->last_used_ms);
    sqlite3_bind_int64(s, 10, row->hits);
    sqlite3_bind_int64(s, 11, (sqlite3_int64)sum);
    sqlite3_bind_int64(s, 12, (sqlite3_int64)row->chain);
    sqlite3_bind_int64(s, 13, (sqlite3_int64)row->parent);
    sqlite3_bind_int64(s, 14, row->reach);
    sqlite3_bind_int64(s, 15, (sqlite3_int64)row->data_key);
    run_bound(ix, s);
    ix->sum += sum - (old ? row_sum(old) : 0);
}

void index_remove(struct index *ix, const struct index_row *old)
{
    sqlite3_stmt *s = ix->statements[S_REMOVE];
    sqlite3_bind_blob(s, 1, old->key.b, DIGEST_BYTES, SQLITE_STATIC);
    run_bound(ix, s);
    ix->sum -= row_sum(old);
}

void index_touch(struct index *ix, const struct digest *key, uint64_t last_used_ms, uint32_t hits)
{
    sqlite3_stmt *s = ix->statements[S_TOUCH];
    sqlite3_bind_int64(s, 1, (sqlite3_int64)last_used_ms);
    sqlite3_bind_int64(s, 2, hits);
    sqlite3_bind_blob(s, 3, key->b, DIGEST_BYTES, SQLITE_STATIC);
    run_bound(ix, s);
}

static void run_sibling(struct index *ix, int which, const struct index_sibling *sibling)
{
    sqlite3_stmt *s = ix->statements[which];
    sqlite3_bind_blob(s, 1, sibling->family.b, DIGEST_BYTES, SQLITE_STATIC);
    sqlite3_bind_blob(s, 2, sibling->order_len ? (const void *)sibling->order : "",
                      (int)sibling->order_len, SQLITE_STATIC);
    sqlite3_bind_blob(s, 3, sibling->key.b, DIGEST_BYTES, SQLITE_STATIC);
    run_bound(ix, s);
}

void index_put_sibling(struct index *ix, const struct index_sibling *sibling)
{
    run_sibling(ix, S_SIBLING_PUT, sibling);
}

void index_remove_sibling(struct index *ix, const struct index_sibling *sibling)
{
    run_sibling(ix, S_SIBLING_REMOVE, sibling);
}

void index_put_segment(struct index *ix, const struct index_segment *row)
{
    sqlite3_stmt *s = ix->statements[S_SEGMENT_PUT];
    sqlite3_bind_int64(s, 1, (sqlite3_int64)row->number);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)row->end);
    sqlite3_bind_int64(s, 3, row->state);
    sqlite3_bind_int64(s, 4, (sqlite3_int64)segment_sum(row));
    run_bound(ix, s);
}

void index_drop_segment(struct index *ix, uint64_t number)
{
    static const int all[] = {S_SEGMENT_REMOVE, S_TOMBS_DROP, S_DEAD_DROP, S_QUARANTINE_DROP};
    for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
        sqlite3_bind_int64(ix->statements[all[i]], 1, (sqlite3_int64)number);
        run_bound(ix, ix->statements[all[i]]);
    }
}

void index_put_tomb(struct index *ix, const struct index_tomb *tomb)
{
    sqlite3_stmt *s = ix->statements[S_TOMB_PUT];
    sqlite3_bind_blob(s, 1, tomb->key.b, DIGEST_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)tomb->sequence);
    sqlite3_bind_int64(s, 3, (sqlite3_int64)tomb->segment);
    sqlite3_bind_int64(s, 4, (sqlite3_int64)tomb->offset);
    sqlite3_bind_int64(s, 5, (sqlite3_int64)tomb->bytes);
    run_bound(ix, s);
}

void index_put_dead(struct index *ix, const struct digest *key, uint64_t segment)
{
    sqlite3_stmt *s = ix->statements[S_DEAD_PUT];
    sqlite3_bind_blob(s, 1, key->b, DIGEST_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)segment);
    run_bound(ix, s);
}

void index_put_quarantined(struct index *ix, const struct digest *key, uint64_t segment,
                           uint64_t offset, const char *why)
{
    sqlite3_stmt *s = ix->statements[S_QUARANTINE_PUT];
    sqlite3_bind_int64(s, 1, (sqlite3_int64)segment);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)offset);
    sqlite3_bind_blob(s, 3, key->b, DIGEST_BYTES, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, why, -1, SQLITE_STATIC);
    run_bound(ix, s);
}
