/* SPDX-License-Identifier: MIT
 * recover.c — from the files to a store: opening, after a clean end, a crash, or without an index.
 *
 * 1. Segments: read headers, map.  A header that names a failed segment limits what is believed of
 *    that one.
 * 2. Index: load the rows; a damaged one is set aside and counts as empty.  Rows whose segment is
 *    missing, too short or not believed so far are dropped.
 * 3. Tails: each segment is walked from the `end` that the index has for it (from its start, if
 *    the index has none).  Each record found there carries a sync mark: how much of its segment
 *    was durable when it was written.  Below the highest mark a record is durable and is indexed
 *    in place.  Behind it, it may be in the page cache only: if it is whole it is copied to a new
 *    segment, synced, and the copy is indexed.
 * 4. The highest sequence of a key wins; a tombstone that wins makes a miss.
 * Nothing is appended to an old segment, unless it was closed cleanly and nothing was found behind
 * its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/prng.h"
#include "os/clock.h"
#include "store/store_int.h"

#define SEGMENTS_MAX (1u << 20)

/* ---- 1. segments ---- */
struct numbers {
    uint64_t *n;
    uint32_t count, cap;
    struct store *s;
};

static enum status keep_number(struct numbers *list, uint64_t number)
{
    if (list->count == list->cap) {
        uint32_t cap = list->cap ? list->cap * 2 : 64;
        uint64_t *grown = cap <= SEGMENTS_MAX ? mem_try_resize(list->n, cap, sizeof *grown) : NULL;
        if (!grown)
            return E_NOMEM;
        list->n = grown;
        list->cap = cap;
    }
    list->n[list->count++] = number;
    return OK;
}

static bool has_number(const struct numbers *list, uint64_t number)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->n[i] == number)
            return true;
    return false;
}

static enum status each_name(const char *name, void *arg)
{
    struct numbers *list = arg;
    struct store *s = list->s;
    size_t len = strlen(name);
    if (!s->is_read_only && len > 4 && strcmp(name + len - 4, ".tmp") == 0) {
        char path[FS_PATH_BYTES_MAX];
        if (snprintf(path, sizeof path, "%s/segments/%s", s->dir, name) < (int)sizeof path)
            s->fs->unlink(s->fs, path, NULL); /* a segment that never got its name */
        return OK;
    }
    uint64_t number = segment_number_of(name);
    if (number == 0)
        return OK;
    return keep_number(list, number);
}

static int number_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* unusable: gets the numbers of segments that are there and cannot be used now. */
static enum status open_segments(struct store *s, struct numbers *unusable, struct err *e)
{
    char folder[FS_PATH_BYTES_MAX];
    struct numbers list = {.s = s};
    snprintf(folder, sizeof folder, "%s/segments", s->dir);
    enum status st = s->fs->list(s->fs, folder, each_name, &list, e);
    if (st == OK && list.count > 0)
        qsort(list.n, list.count, sizeof *list.n, number_order);
    for (uint32_t i = 0; i < list.count && st == OK; i++) {
        struct segment *g;
        st = segment_open(s->fs, s->dir, list.n[i], &g, e);
        if (list.n[i] >= s->next_number)
            s->next_number = list.n[i] + 1;
        if (st == OK) {
            st = commit_add_slot(s, g, e);
            if (st != OK)
                segment_drop(g);
        } else if (st != E_UNSUPPORTED && st != E_NOMEM && st != E_DENIED) {
            log_warn("store", "segment not usable: %s", e->msg);
            s->n_bad_segments++;
            st = keep_number(unusable, list.n[i]);
        }
    }
    mem_free(list.n);
    return st;
}

/* Segments of another store (copied in by hand) are not ours to read: the id that most have is. */
static void choose_store_id(struct store *s, const struct index_facts *facts)
{
    uint32_t most = 0;
    if (facts)
        s->id = facts->store;
    for (uint32_t i = 0; i < s->n_slots && !facts; i++) {
        uint32_t same = 0;
        for (uint32_t k = 0; k < s->n_slots; k++)
            same +=
                memcmp(&s->segments[i]->head.store, &s->segments[k]->head.store, sizeof s->id) == 0;
        if (same > most) {
            most = same;
            s->id = s->segments[i]->head.store;
        }
    }
    if (!facts && most == 0)
        prng_entropy(&s->id, sizeof s->id);
}

static void drop_foreign(struct store *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct segment *g = s->segments[i];
        if (memcmp(&g->head.store, &s->id, sizeof s->id) == 0) {
            s->segments[kept++] = g;
            continue;
        }
        log_warn("store", "segment=%llx belongs to another store",
                 (unsigned long long)g->head.number);
        segment_drop(g);
    }
    s->n_slots = kept;
}

static void apply_heads(struct store *s)
{
    for (uint32_t i = 0; i < s->n_slots; i++) {
        struct segment *g = s->segments[i];
        /* Beside a writer the file may have grown since; reads find out. */
        g->used = g->synced = s->is_read_only ? g->head.capacity : g->file_bytes;
        if (g->head.next_sequence > s->next_sequence)
            s->next_sequence = g->head.next_sequence;
        if (g->head.budget_bytes > 0 && s->max_bytes == 0)
            s->max_bytes = g->head.budget_bytes;
    }
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct segment_head *h = &s->segments[i]->head;
        uint32_t slot = h->failed_number ? follow_slot_of(s, h->failed_number) : TABLE_NONE;
        if (slot == TABLE_NONE)
            continue;
        struct segment *failed = s->segments[slot];
        failed->state = SEGMENT_FAILED;
        if (h->failed_good < failed->synced)
            failed->used = failed->synced = h->failed_good;
    }
}

/* ---- 2. index ---- */
static void index_path(const struct store *s, const char *suffix, char out[FS_PATH_BYTES_MAX])
{
    snprintf(out, FS_PATH_BYTES_MAX, "%s/index.db%s", s->dir, suffix);
}

static void set_index_aside(struct store *s, const struct err *why)
{
    char from[FS_PATH_BYTES_MAX], to[FS_PATH_BYTES_MAX];
    log_warn("store", "index damaged, made again from the segments: %s", why->msg);
    index_path(s, "", from);
    index_path(s, ".damaged", to);
    s->fs->rename(s->fs, from, to, NULL);
    index_path(s, "-wal", from);
    s->fs->unlink(s->fs, from, NULL);
    index_path(s, "-shm", from);
    s->fs->unlink(s->fs, from, NULL);
    s->fs->sync_dir(s->fs, s->dir, NULL);
}

struct loading {
    struct store *s;
    struct index_segment
        *rows; /* [n_rows] by slot; number 0: the index does not know the segment */
    uint32_t n_rows;
    struct index_row *bad; /* rows to drop */
    uint32_t n_bad, bad_cap;
    struct numbers gone;     /* segments that the index knows and nobody has */
    struct numbers unusable; /* there, but not to be used now: a bad header, a bad sector.  Rows
                              * about them stay in the index, for when the disk is well again */
};

static enum status load_segment(const struct index_segment *row, void *arg)
{
    struct loading *l = arg;
    uint32_t slot = follow_slot_of(l->s, row->number);
    if (slot < l->n_rows) {
        l->rows[slot] = *row;
        l->s->segments[slot]->indexed_end = row->end;
        return OK;
    }
    return has_number(&l->unusable, row->number) ? OK : keep_number(&l->gone, row->number);
}

static enum status load_record(const struct index_row *row, void *arg)
{
    struct loading *l = arg;
    struct store *s = l->s;
    uint32_t slot =
        s->is_read_only ? follow_fresh_slot(s, row->segment) : follow_slot_of(s, row->segment);
    if (row->sequence >= s->next_sequence)
        s->next_sequence = row->sequence + 1;
    if (follow_is_plausible(s, row, slot)) {
        pthread_mutex_lock(&s->lock);
        bool is_placed = commit_place(s, row, slot);
        pthread_mutex_unlock(&s->lock);
        return is_placed ? OK : E_NOMEM;
    }
    s->n_bad_rows++;
    if (has_number(&l->unusable, row->segment))
        return OK;
    if (l->n_bad == l->bad_cap) {
        uint32_t cap = l->bad_cap ? l->bad_cap * 2 : 64;
        struct index_row *grown = mem_try_resize(l->bad, cap, sizeof *grown);
        if (!grown)
            return E_NOMEM;
        l->bad = grown;
        l->bad_cap = cap;
    }
    l->bad[l->n_bad++] = *row;
    return OK;
}

static void load_soon(const struct index_row *row, void *arg)
{
    const struct loading *l = arg;
    table_prefetch(&l->s->table, &row->key);
}

static void forget_load(struct loading *l)
{
    struct store *s = l->s;
    follow_clear(s);
    memset(l->rows, 0, (size_t)l->n_rows * sizeof *l->rows);
    l->n_bad = l->gone.count = 0;
    s->n_bad_rows = 0;
}

/* SQLite would make the file readable to all; made by us it is 0600, and its log follows it. */
static enum status make_private(struct store *s, const char *path, struct err *e)
{
    struct os_file f;
    if (s->is_read_only)
        return OK;
    enum status st = s->fs->open(s->fs, path, FS_WRITE | FS_CREATE, &f, e);
    if (st == OK)
        s->fs->close(&f);
    return st;
}

/* Opens index.db and loads it.  E_CORRUPT: nothing was loaded. */
static enum status try_index(struct store *s, struct loading *l, struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    struct index_facts facts;
    index_path(s, "", path);
    enum status st = make_private(s, path, e);
    if (st == OK)
        st = index_open(path, s->is_read_only, &s->index, e);
    if (st != OK)
        return st;
    st = index_facts(s->index, &facts, e);
    bool is_fresh = st == E_NOT_FOUND;
    for (uint32_t i = 0; i < s->n_slots && st == OK; i++) {
        /* An index that no segment agrees with belongs elsewhere. */
        if (memcmp(&s->segments[i]->head.store, &facts.store, sizeof facts.store) == 0)
            break;
        if (i + 1 == s->n_slots)
            st = err_set(e, E_CORRUPT, "index.db of another store");
    }
    if (st == OK || is_fresh) {
        choose_store_id(s, is_fresh ? NULL : &facts);
        drop_foreign(s);
        apply_heads(s);
        st = OK;
    }
    if (st == OK && !is_fresh) {
        if (facts.next_sequence > s->next_sequence)
            s->next_sequence = facts.next_sequence;
        if (s->max_bytes == 0)
            s->max_bytes = facts.budget_bytes;
        s->day = facts.day;
        s->day_bytes = facts.day_bytes;
        struct index_load load = {load_segment, load_record, load_soon, l};
        s->seen_version = index_version(s->index);
        st = index_load(s->index, &load, e);
    }
    if (st != OK) {
        index_close(s->index);
        s->index = NULL;
        forget_load(l);
    }
    return st;
}

static void drop_bad_rows(struct store *s, const struct loading *l)
{
    for (uint32_t i = 0; i < l->n_bad; i++) {
        struct change c = {.kind = CHANGE_REMOVE};
        c.record.old = l->bad[i];
        commit_change(s, &c);
    }
    for (uint32_t i = 0; i < l->gone.count; i++) {
        struct change c = {.kind = CHANGE_SEGMENT_GONE};
        c.gone.segment = l->gone.n[i];
        commit_change(s, &c);
    }
    if (l->n_bad > 0)
        log_warn("store", "index rows without a record dropped=%u", l->n_bad);
}

/* ---- 3. tails ---- */
struct finding {
    struct index_row row;
    uint32_t slot;
    bool is_durable;
};
struct tails {
    struct store *s;
    struct finding *found;
    size_t n, cap;
    uint32_t slot;    /* being walked */
    uint64_t durable; /* bytes of it, by the marks seen so far */
    bool is_touched;  /* something was found in it */
    bool is_partial;  /* some of it could not be read */
};
enum tail { TAIL_EMPTY, TAIL_FOUND, TAIL_PARTIAL };

static enum status each_found(const struct record *r, void *arg)
{
    struct tails *t = arg;
    const struct segment *g = t->s->segments[t->slot];
    if (r->synced > t->durable)
        t->durable = r->synced;
    if (r->sequence >= t->s->next_sequence)
        t->s->next_sequence = r->sequence + 1;
    t->is_touched = true;
    if (r->kind == RECORD_MARK)
        return OK;
    if (g->state == SEGMENT_FAILED && r->place.offset + r->bytes > g->synced)
        return OK; /* invariant 4 of commit.c */
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 1024;
        struct finding *grown = mem_try_resize(t->found, cap, sizeof *grown);
        if (!grown)
            return E_NOMEM;
        t->found = grown;
        t->cap = cap;
    }
    struct finding *f = &t->found[t->n++];
    *f = (struct finding){.slot = t->slot};
    f->row = (struct index_row){
        .key = r->key,
        .kind = r->kind,
        .segment = r->place.segment,
        .offset = r->place.offset,
        .bytes = r->bytes,
        .sequence = r->sequence,
        .last_used_ms = g->head.created_ms,
    }; /* what the head says besides is read again when it is indexed */
    return OK;
}

/* Walks one segment from `from`; *durable: bytes that its marks, or the index, vouch for. */
static enum status walk_tail(struct tails *t, uint32_t slot, uint64_t from, struct err *e)
{
    struct store *s = t->s;
    struct segment *g = s->segments[slot];
    size_t first = t->n;
    t->slot = slot;
    t->durable = from;
    t->is_touched = false;
    struct segment_walked walked;
    enum status st =
        segment_walk(s->fs, s->dir, g->head.number, &s->id, from, each_found, t, &walked, e);
    t->is_partial = walked.n_unreadable > 0;
    if (g->state == SEGMENT_FAILED && g->synced > t->durable)
        t->durable = g->synced; /* as its successor says */
    for (size_t i = first; i < t->n; i++) {
        struct index_row *row = &t->found[i].row;
        t->found[i].is_durable = row->offset + row->bytes <= t->durable;
    }
    return st;
}

/* ---- 4. who wins ---- */
static enum status gather_tombs(const struct tails *t, struct map *tombs)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct index_row *row = &t->found[i].row;
        uint64_t before = 0;
        if (row->kind != RECORD_TOMBSTONE ||
            (map_get(tombs, &row->key, &before) && before >= row->sequence))
            continue;
        if (map_put(tombs, &row->key, row->sequence) != OK)
            return E_NOMEM;
    }
    return OK;
}

static bool is_killed(struct store *s, const struct map *tombs, const struct index_row *row)
{
    uint64_t sequence;
    if (map_get(tombs, &row->key, &sequence) && sequence > row->sequence)
        return true;
    return s->index && !s->is_read_only && !s->is_index_lost &&
           index_find_tomb(s->index, &row->key, &sequence, NULL) == OK && sequence > row->sequence;
}

static void note_dead(struct store *s, const struct index_row *row)
{
    struct change c = {.kind = CHANGE_DEAD};
    c.gone.key = row->key;
    c.gone.segment = row->segment;
    commit_change(s, &c);
}

/* Reads the head of a finding again and puts it into table and index, as if it had been written
 * just now at its place. */
static void index_in_place(struct store *s, const struct finding *f)
{
    struct segment *g = s->segments[f->slot];
    struct item item = {.state = ITEM_SYNCED, .segment = g, .last_used_ms = f->row.last_used_ms};
    struct err why;
    if (read_head(g, f->row.offset, f->row.bytes, &f->row.key, &item.r, &why) != OK) {
        log_warn("store", "record not indexed: %s", why.msg);
        return;
    }
    commit_publish(s, &item, 1);
}

/* The table has it, or something newer. */
static bool is_known(const struct store *s, const struct index_row *row)
{
    uint32_t id = table_find(&s->table, &row->key);
    return id != TABLE_NONE && table_at(&s->table, id)->sequence >= row->sequence;
}

/* A record that may be in the page cache only.  False: it is whole, maybe, and could not be copied.
 */
static bool copy_finding(struct store *s, const struct finding *f, uint64_t *bytes)
{
    struct segment *g = s->segments[f->slot];
    struct item item = {.segment = g, .last_used_ms = f->row.last_used_ms, .is_copy = true};
    struct err why;
    if (read_head(g, f->row.offset, f->row.bytes, &f->row.key, &item.r, &why) != OK)
        return true;
    struct store_chunk *chunks = mem_try_new(item.r.n_chunks ? item.r.n_chunks : 1, sizeof *chunks);
    if (!chunks)
        return false;
    const uint8_t *payload = g->map + f->row.offset + item.r.payload_at;
    for (uint32_t i = 0; i < item.r.n_chunks; i++) {
        struct record_chunk c = record_chunk_at(item.r.table, i, item.r.payload_len);
        chunks[i] = (struct store_chunk){payload + c.at, c.len};
    }
    item.chunks = chunks;
    commit_write(s, &item, 1); /* compares the checksums: a torn record is FAILED, E_CORRUPT */
    item.is_copy = false;      /* the index has no sibling row of it yet */
    commit_publish(s, &item, 1);
    if (item.state == ITEM_SYNCED) {
        s->stat.recovered_records++;
        *bytes += item.r.bytes;
        note_dead(s, &f->row); /* the source is a copy that a deletion would have to kill */
    } else if (item.e.code != E_CORRUPT) {
        log_warn("store", "unsynced record not recovered: %s", item.e.msg);
    }
    mem_free(chunks);
    return item.state == ITEM_SYNCED || item.e.code == E_CORRUPT;
}

static void flush_if_many(struct store *s)
{
    if (s->n_changes >= STORE_PENDING_MAX / 4)
        commit_changes(s);
}

/* One that does not win, or has its twin elsewhere: it lies there all the same, and a tombstone
 * must outlive it. */
static bool settle_loser(struct store *s, const struct map *tombs, const struct index_row *row)
{
    if (!is_killed(s, tombs, row) && !is_known(s, row))
        return false;
    if (row->kind != RECORD_TOMBSTONE)
        note_dead(s, row);
    return true;
}

static enum status settle(struct store *s, struct tails *t, enum tail *tails, struct err *e)
{
    struct map tombs = {0};
    enum status st = gather_tombs(t, &tombs);
    uint64_t n_in_place = 0;
    for (size_t i = 0; i < t->n && st == OK; i++) {
        const struct finding *f = &t->found[i];
        if (!f->is_durable)
            continue;
        if (f->row.kind != RECORD_TOMBSTONE && settle_loser(s, &tombs, &f->row))
            continue;
        index_in_place(s, f);
        n_in_place++;
        flush_if_many(s);
    }
    for (size_t i = 0; i < t->n && st == OK && !s->is_read_only; i++) {
        const struct finding *f = &t->found[i];
        if (f->is_durable || settle_loser(s, &tombs, &f->row))
            continue;
        if (!copy_finding(s, f, &s->stat.recovered_bytes))
            tails[f->slot] =
                TAIL_PARTIAL; /* it was acknowledged, maybe: the next open tries again */
        flush_if_many(s);
    }
    s->stat.recovered_records += n_in_place;
    map_release(&tombs);
    return st == OK ? OK : err_set(e, st, "recovery");
}

/* Every segment but a cleanly closed last one is sealed: what lies in its unused rest is never
 * looked at again. */
static enum status finish_segments(struct store *s, const struct loading *l, const enum tail *tails,
                                   uint32_t n_slots, struct err *e)
{
    for (uint32_t i = 0; i < n_slots; i++) {
        struct segment *g = s->segments[i];
        const struct index_segment *row = &l->rows[i];
        if (row->number && row->state == INDEX_SEGMENT_SEALED)
            continue;
        if (tails[i] == TAIL_PARTIAL)
            continue; /* the next open looks again */
        if (i + 1 == n_slots && row->number && row->state == INDEX_SEGMENT_CLOSED &&
            tails[i] == TAIL_EMPTY && g->state == SEGMENT_SEALED && !s->current &&
            row->end <= g->file_bytes) {
            enum status st = segment_reopen(g, s->dir, row->end, e);
            if (st != OK)
                return st;
            s->current = g;
            continue;
        }
        struct change c = {.kind = CHANGE_SEGMENT,
                           .segment = {g->head.number, g->file_bytes, INDEX_SEGMENT_SEALED}};
        commit_change(s, &c);
    }
    return OK;
}

static enum status recover_tails(struct store *s, struct loading *l, struct err *e)
{
    struct tails t = {.s = s};
    /* Segments that were added since the folder was read are not walked. */
    uint32_t n_slots = s->n_slots < l->n_rows ? s->n_slots : l->n_rows;
    enum tail *tails = mem_try_new(n_slots ? n_slots : 1, sizeof *tails);
    enum status st = tails ? OK : err_set(e, E_NOMEM, "recovery");
    for (uint32_t i = 0; i < n_slots && st == OK; i++) {
        const struct index_segment *row = &l->rows[i];
        if (row->number && row->state == INDEX_SEGMENT_SEALED)
            continue;
        if (s->is_read_only && row->number)
            continue; /* the writer's to settle */
        st = walk_tail(&t, i, row->number ? row->end : RECORD_UNIT, e);
        tails[i] = t.is_partial ? TAIL_PARTIAL : t.is_touched ? TAIL_FOUND : TAIL_EMPTY;
    }
    if (st == OK)
        st = settle(s, &t, tails, e);
    if (st == OK && !s->is_read_only)
        st = finish_segments(s, l, tails, n_slots, e);
    mem_free(tails);
    mem_free(t.found);
    return st;
}

static void loading_release(struct loading *l)
{
    mem_free(l->rows);
    mem_free(l->bad);
    mem_free(l->gone.n);
    mem_free(l->unusable.n);
}

static enum status put_facts(struct store *s, struct err *e)
{
    struct index_facts facts = {
        .store = s->id, .next_sequence = s->next_sequence, .budget_bytes = s->max_bytes};
    enum status st = index_begin(s->index, e);
    if (st != OK)
        return st;
    index_put_facts(s->index, &facts);
    return index_commit(s->index, e);
}

/* The budget, if nobody named one yet: a quarter of what is free or ours already. */
static enum status choose_budget(struct store *s, struct err *e)
{
    uint64_t free_bytes, total, used = 0;
    enum status st = s->fs->free_bytes(s->fs, s->dir, &free_bytes, &total, e);
    if (st != OK)
        return st;
    for (uint32_t i = 0; i < s->n_slots; i++)
        used += s->segments[i]->file_bytes;
    if (s->max_bytes == 0)
        s->max_bytes = (free_bytes + used) / 4;
    if (s->keep_free_bytes == 0) {
        s->keep_free_bytes = total / 20;
        if (s->keep_free_bytes < STORE_KEEP_FREE_MIN)
            s->keep_free_bytes = STORE_KEEP_FREE_MIN;
    }
    if (s->segment_bytes == 0) {
        s->segment_bytes = STORE_SEGMENT_BYTES;
        while (s->segment_bytes > STORE_SEGMENT_BYTES_MIN && s->segment_bytes > s->max_bytes / 16)
            s->segment_bytes /= 2;
    }
    return OK;
}

static enum status open_index(struct store *s, struct loading *l, struct err *e)
{
    enum status st =
        s->is_rebuild ? err_set(e, E_CORRUPT, "a rebuild was asked for") : try_index(s, l, e);
    if (st == OK || st == E_UNSUPPORTED || st == E_NOMEM)
        return st;
    if (s->is_read_only) { /* without an index: the segments alone */
        log_warn("store", "index not readable, the segments are walked: %s", e->msg);
        choose_store_id(s, NULL);
        drop_foreign(s);
        apply_heads(s);
        return OK;
    }
    if (st != E_CORRUPT)
        return st;
    set_index_aside(s, e);
    return try_index(s, l, e);
}

static enum status try_open(struct store *s, struct err *e)
{
    struct loading l = {.s = s};
    s->next_sequence = 1;
    s->next_number = 1;
    enum status st = open_segments(s, &l.unusable, e);
    if (st != OK) {
        loading_release(&l);
        return st;
    }
    l.n_rows = s->n_slots;
    l.rows = mem_try_new(l.n_rows ? l.n_rows : 1, sizeof *l.rows);
    st = l.rows ? open_index(s, &l, e) : err_set(e, E_NOMEM, "recovery");
    if (st == OK)
        st = choose_budget(s, e);
    if (st == OK && !s->is_read_only) {
        drop_bad_rows(s, &l);
        st = put_facts(s, e);
    }
    if (st == OK)
        st = recover_tails(s, &l, e);
    if (st == OK && !s->is_read_only && !commit_changes(s))
        st = s->is_index_lost ? err_set(e, E_CORRUPT, "index.db is damaged")
                              : err_set(e, E_IO, "index.db cannot be written");
    if (st == OK && s->index)
        st = index_count_quarantined(s->index, &s->stat.n_quarantined, e);
    loading_release(&l);
    return st;
}

/* Back to before try_open(); the files may have a segment more. */
static void undo_open(struct store *s)
{
    index_close(s->index);
    s->index = NULL;
    for (uint32_t i = 0; i < s->n_slots; i++)
        segment_drop(s->segments[i]);
    s->n_slots = 0;
    s->current = NULL;
    table_release(&s->table);
    s->stat = (struct store_stat){0};
    s->kv_live_bytes = 0;
    s->n_changes = 0;
    s->is_index_lost = false;
    s->failed_number = 0;
    s->n_bad_rows = s->n_bad_segments = 0;
}

enum status recover_open(struct store *s, struct err *e)
{
    enum status st = try_open(s, e);
    if (st != E_CORRUPT || s->is_read_only || s->is_rebuild)
        return st;
    undo_open(s); /* the damage showed only when the index was written to */
    s->is_rebuild = true;
    return try_open(s, e);
}
