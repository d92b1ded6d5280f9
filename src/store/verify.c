/* SPDX-License-Identifier: MIT
 * verify.c — store_verify, and the same of one record.
 * Verification trusts nothing it can read twice: every record that the index names is read through
 * the file and all its checksums are compared, and every small record (tokens, session, tenant)
 * that the segments hold must be in the index, replaced, or deleted. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/store_int.h"

#define VERIFY_OPENS_MAX 3
#define VERIFY_TRIES_MAX 4u /* a record may move while it is read */

struct audit {
    struct store *s; /* opened read-only: table and segments as the index has them */
    const char *dir;
    void (*bad)(const char *what, void *arg);
    void *arg;
    struct store_verify_report *out;
    const struct segment *g; /* being walked … */
    struct os_file f;        /* … and its file */
    uint64_t last_good_end;
};

static void report_bad(struct audit *a, const char *what)
{
    a->out->n_bad++;
    if (a->bad)
        a->bad(what, a->arg);
}

enum status verify_entry(const struct store *s, const struct os_file *f, uint64_t segment,
                         const struct entry *entry, struct err *e)
{
    struct record_place place = {s->id, segment, (uint64_t)entry->unit * RECORD_UNIT};
    struct record r;
    size_t want = (size_t)entry->n_units * RECORD_UNIT, n = 0;
    if (want > RECORD_HEAD_MAX)
        want = RECORD_HEAD_MAX;
    uint8_t *head = mem_try_new(1, want);
    if (!head)
        return err_set(e, E_NOMEM, "record");
    enum status st = s->fs->read_at(f, head, want, place.offset, &n, e);
    if (st == OK)
        st = record_parse(head, n, &place, &r, e);
    if (st == OK && (!digest_equal(&r.key, &entry->key) || r.kind != entry->kind ||
                     r.sequence != entry->sequence))
        st = err_set(e, E_CORRUPT, "not the record that the index names");
    if (st == OK)
        st = segment_check_payload(f, &r, e);
    mem_free(head);
    return st;
}

static void check_entry(struct audit *a, uint32_t id)
{
    const struct entry *entry = table_at(&a->s->table, id);
    struct err e = {0};
    enum status st = verify_entry(a->s, &a->f, a->g->head.number, entry, &e);
    a->out->n_records++;
    a->out->n_bytes += (uint64_t)entry->n_units * RECORD_UNIT;
    if (st != OK) {
        char what[400];
        snprintf(what, sizeof what, "segment %llx, offset %llu: %s",
                 (unsigned long long)a->g->head.number,
                 (unsigned long long)entry->unit * RECORD_UNIT, e.msg);
        report_bad(a, what);
    }
}

/* Small records are never evicted: one that the index lacks was replaced, deleted, or lost. */
static enum status check_found(const struct record *r, void *arg)
{
    struct audit *a = arg;
    struct store *s = a->s;
    uint64_t sequence;
    bool is_dead;
    struct err e;
    a->last_good_end = r->place.offset + r->bytes;
    if (!kind_is_data(r->kind) || kind_is_kv(r->kind) || !s->index)
        return OK;
    if (a->last_good_end > a->g->indexed_end)
        return OK; /* the next open settles it */
    if (a->g->state == SEGMENT_FAILED && a->last_good_end > a->g->head.failed_good)
        return OK;
    uint32_t id = table_find(&s->table, &r->key);
    if (id != TABLE_NONE && table_at(&s->table, id)->sequence >= r->sequence)
        return OK;
    if (index_find_tomb(s->index, &r->key, &sequence, NULL) == OK && sequence > r->sequence)
        return OK;
    if (index_has_dead(s->index, &r->key, 0, &is_dead, NULL) == OK && is_dead)
        return OK; /* replaced; or deleted, and the tombstone has done its work */
    struct index_row row;
    if (index_find(s->index, &r->key, &row, NULL) == OK && row.sequence >= r->sequence)
        return OK; /* written while we read */
    if (segment_check_payload(&a->f, r, &e) != OK)
        return OK; /* torn, so never acknowledged; or quarantined */
    char what[200];
    snprintf(what, sizeof what,
             "segment %llx, offset %llu: a whole record of kind %u that the index lacks",
             (unsigned long long)r->place.segment, (unsigned long long)r->place.offset, r->kind);
    report_bad(a, what);
    return OK;
}

/* The file went while we read: then the index must have moved its records. */
static void check_gone(struct audit *a, uint32_t id)
{
    const struct entry *entry = table_at(&a->s->table, id);
    struct index_row row;
    if (a->s->index && index_find(a->s->index, &entry->key, &row, NULL) == OK &&
        row.segment == a->g->head.number)
        report_bad(a, "a row of the index points to a segment that is gone");
}

static enum status check_segment(struct audit *a, uint32_t slot, struct err *e)
{
    const struct store *s = a->s;
    char path[FS_PATH_BYTES_MAX];
    struct segment_walked walked;
    a->g = s->segments[slot];
    a->last_good_end = RECORD_UNIT;
    segment_path(a->dir, a->g->head.number, path, sizeof path);
    enum status st = s->fs->open(s->fs, path, FS_READ, &a->f, e);
    bool is_gone = st == E_NOT_FOUND;
    if (st != OK && !is_gone)
        return st;
    for (uint32_t id = 0; id < s->table.n_used; id++) {
        const struct entry *entry = table_at(&s->table, id);
        if (entry->kind == 0 || entry->slot != slot)
            continue;
        if (is_gone)
            check_gone(a, id);
        else
            check_entry(a, id);
    }
    if (is_gone)
        return OK;
    st = segment_walk(s->fs, a->dir, a->g->head.number, &s->id, RECORD_UNIT, check_found, a,
                      &walked, e);
    s->fs->close(&a->f);
    if (st == OK && walked.file_bytes > a->last_good_end)
        a->out->unclaimed_bytes += walked.file_bytes - a->last_good_end;
    if (walked.n_unreadable > 0)
        report_bad(a, "parts of a segment cannot be read");
    return st == E_NOT_FOUND ? OK : st; /* reclaimed meanwhile */
}

static void check_index(struct audit *a)
{
    struct err why;
    const struct store *s = a->s;
    char what[400];
    if (s->n_bad_segments > 0) {
        snprintf(what, sizeof what, "%u segment files without a usable header", s->n_bad_segments);
        report_bad(a, what);
    }
    if (s->n_bad_rows > 0) {
        snprintf(what, sizeof what, "%u rows of the index without a record", s->n_bad_rows);
        report_bad(a, what);
    }
    if (!s->index && s->n_slots > 0) {
        report_bad(a, "index.db is missing or damaged: it is made again at the next start");
        return;
    }
    if (s->index && index_check(s->index, &why) != OK) {
        snprintf(what, sizeof what, "%s", why.msg);
        report_bad(a, what);
    }
}

enum status store_verify(const struct os_fs *fs, const char *dir,
                         void (*bad)(const char *what, void *arg), void *arg,
                         struct store_verify_report *out, struct err *e)
{
    struct store_options options = {.is_read_only = true};
    struct store *s = NULL;
    *out = (struct store_verify_report){0};
    /* A writer may reclaim a segment between our reading of the folder and of the index. */
    for (uint32_t tries = 0; tries < VERIFY_OPENS_MAX; tries++) {
        store_close(s);
        enum status st = store_open(fs, dir, &options, &s, e);
        if (st != OK)
            return st;
        if (s->n_bad_rows == 0)
            break;
    }
    struct audit a = {.s = s, .dir = dir, .bad = bad, .arg = arg, .out = out};
    enum status st = OK;
    check_index(&a);
    for (uint32_t slot = 0; slot < s->n_slots && st == OK; slot++) {
        st = check_segment(&a, slot, e);
        out->n_segments++;
    }
    out->n_quarantined = s->stat.n_quarantined;
    store_close(s);
    return st;
}

/* ---- one record ---- */
static bool copy_entry(struct store *s, const struct digest *key, struct entry *out,
                       uint64_t *segment)
{
    pthread_mutex_lock(&s->lock);
    uint32_t id = table_find(&s->table, key);
    bool is_there = id != TABLE_NONE && !table_at(&s->table, id)->is_quarantined;
    if (is_there) {
        *out = *table_at(&s->table, id);
        *segment = s->segments[out->slot]->head.number;
    }
    pthread_mutex_unlock(&s->lock);
    return is_there;
}

static enum status verify_now(struct store *s, const struct digest *key, uint64_t *bytes,
                              struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    enum status st = err_set(e, E_NOT_FOUND, "moved too often");
    for (uint32_t i = 0; i < VERIFY_TRIES_MAX; i++) {
        struct entry entry;
        uint64_t segment;
        struct os_file f;
        if (!store_has(s, key) || !copy_entry(s, key, &entry, &segment))
            return err_set(e, E_NOT_FOUND, "no such record");
        segment_path(s->dir, segment, path, sizeof path);
        st = s->fs->open(s->fs, path, FS_READ, &f, e);
        if (st == E_NOT_FOUND) { /* reclaimed: the index knows where to */
            if (s->is_read_only)
                follow_refresh(s);
            continue;
        }
        if (st != OK)
            return st;
        *bytes = (uint64_t)entry.n_units * RECORD_UNIT;
        st = verify_entry(s, &f, segment, &entry, e);
        s->fs->close(&f);
        return st;
    }
    return err_set(e, E_IO, "the file of its segment is gone");
}

enum status store_verify_record(struct store *s, const struct digest *key,
                                struct store_verify_report *report, struct err *e)
{
    char why[INDEX_WHY_BYTES];
    uint64_t bytes = 0;
    enum status st = verify_now(s, key, &bytes, e);
    if (st == OK || st == E_CORRUPT || st == E_IO) {
        report->n_records++;
        report->n_bytes += bytes;
        report->n_bad += st != OK;
    }
    if (st != OK && st != E_NOT_FOUND)
        return st;
    if (s->stat.n_quarantined == 0 || !s->index ||
        index_find_quarantined(s->index, key, why, NULL) != OK)
        return st;
    report->n_quarantined++;
    return err_set(e, E_CORRUPT, "set aside: %s", why);
}
