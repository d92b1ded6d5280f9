/* SPDX-License-Identifier: MIT
 * commit.c — how records become durable.
 *
 * Invariants (docs/crash-safety.md has the reasons and what tests them):
 *  1. A row of the index, and an entry of the table, names a record that was synced.
 *  2. done(OK) is called after 1 for that record, or, when the index cannot be written, after the
 *     sync alone: the next open finds the record behind the segment's `end`.
 *  3. A byte below segment.synced never changes.
 *  4. A segment whose sync failed is never appended to again, nothing of it behind its last good
 *     sync is ever indexed, and the next segment's header names it and that place.
 *  5. The segments row `end` is written in the same transaction as the rows of all records before
 *     it, or later.
 *  6. A segment's file is unlinked only when the index names no record in it and the transaction
 *     that says so is committed.
 *
 * Order of one batch:   write records → fdatasync → table → index rows → done().
 *
 *   WAITING ──append──▶ WRITTEN ──sync_current──▶ SYNCED ──commit_publish──▶ in table and index
 *      ▲ │                 │ fail_segment
 *      └─┼─────────────────┘ (a new segment, STORE_WRITE_TRIES_MAX times)
 *        └─▶ FAILED (no space, a ceiling, tries used up): done(reason) */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "store/store_int.h"

#define MS_PER_DAY  86400000u
#define TOUCH_SLICE 4096u /* entries looked at under one hold of the lock */
_Static_assert(STORE_STAGING_BYTES > 2 * RECORD_HEAD_MAX, "a head fits the staging buffer");

/* ---- appending ---- */
struct sink { /* collects bytes for one record and writes them in large pieces */
    struct store *s;
    struct segment *g;
    uint64_t start, at; /* of the record in the file; bytes of it so far */
    size_t filled;
};

static enum status sink_flush(struct sink *k, struct err *e)
{
    if (k->filled == 0)
        return OK;
    enum status st =
        k->s->fs->write_at(&k->g->file, k->s->staging, k->filled, k->start + k->at - k->filled, e);
    k->filled = 0;
    return st;
}

/* bytes NULL: zeros. */
static enum status sink_add(struct sink *k, const void *bytes, uint64_t len, struct err *e)
{
    while (len > 0) {
        size_t n = STORE_STAGING_BYTES - k->filled;
        if (n > len)
            n = (size_t)len;
        if (bytes) {
            memcpy(k->s->staging + k->filled, bytes, n);
            bytes = (const uint8_t *)bytes + n;
        } else {
            memset(k->s->staging + k->filled, 0, n);
        }
        k->filled += n;
        k->at += n;
        len -= n;
        if (k->filled == STORE_STAGING_BYTES) {
            enum status st = sink_flush(k, e);
            if (st != OK)
                return st;
        }
    }
    return OK;
}

static enum status write_record(struct store *s, struct segment *g, const struct record *r,
                                const struct store_chunk *chunks, struct err *e)
{
    struct record_chunk *rows = s->rows;
    uint8_t head[RECORD_HEAD_MAX];
    uint64_t at = 0;
    for (uint32_t i = 0; i < r->n_chunks; i++) {
        at = (at + RECORD_CHUNK_ALIGN - 1) / RECORD_CHUNK_ALIGN * RECORD_CHUNK_ALIGN;
        rows[i] = (struct record_chunk){at, chunks[i].len,
                                        checksum_of(chunks[i].bytes, (size_t)chunks[i].len)};
        at += chunks[i].len;
        /* A copy must not give damaged bytes a checksum that fits them. */
        if (r->table &&
            !checksum_equal(rows[i].sum, record_chunk_at(r->table, i, r->payload_len).sum))
            return err_set(e, E_CORRUPT, "chunk %u of a record to be copied: checksum", i);
    }
    CHECK(at == r->payload_len);
    record_encode(r, rows, head);
    struct sink k = {.s = s, .g = g, .start = r->place.offset};
    enum status st = sink_add(&k, head, r->head_bytes, e);
    for (uint32_t i = 0; i < r->n_chunks && st == OK; i++) {
        st = sink_add(&k, NULL, r->payload_at + rows[i].at - k.at, e);
        if (st == OK)
            st = sink_add(&k, chunks[i].bytes, chunks[i].len, e);
    }
    if (st == OK)
        st = sink_add(&k, NULL, r->bytes - k.at, e);
    if (st == OK)
        st = sink_flush(&k, e);
    return st;
}

static void note_segment(struct store *s, const struct segment *g, enum index_segment_state state)
{
    struct change c = {.kind = CHANGE_SEGMENT, .segment = {g->head.number, g->synced, state}};
    commit_change(s, &c);
}

/* The edge to FAILED of a segment: invariant 4. */
static void fail_segment(struct store *s, struct item *items, uint32_t n, const struct err *why)
{
    struct segment *g = s->current;
    log_warn("store", "write failed segment=%llx good_bytes=%llu: %s; a new segment begins",
             (unsigned long long)g->head.number, (unsigned long long)g->synced, why->msg);
    pthread_mutex_lock(&s->lock);
    g->state = SEGMENT_FAILED;
    g->used = g->synced;
    s->stat.n_failed_syncs++;
    pthread_mutex_unlock(&s->lock);
    s->failed_number = g->head.number;
    s->failed_good = g->synced;
    segment_close_file(g);
    s->current = NULL;
    for (uint32_t i = 0; i < n; i++)
        if (items[i].state == ITEM_WRITTEN && items[i].segment == g)
            items[i].state = ITEM_WAITING;
}

/* The edge WRITTEN → SYNCED. */
static enum status sync_current(struct store *s, struct item *items, uint32_t n, struct err *e)
{
    struct segment *g = s->current;
    enum status st = s->fs->data_sync(&g->file, e);
    if (st != OK) {
        fail_segment(s, items, n, e);
        return E_IO; /* whatever the reason, only a new segment helps */
    }
    g->synced = g->used;
    for (uint32_t i = 0; i < n; i++)
        if (items[i].state == ITEM_WRITTEN && items[i].segment == g)
            items[i].state = ITEM_SYNCED;
    note_segment(s, g, INDEX_SEGMENT_OPEN);
    pthread_mutex_lock(&s->lock);
    s->stat.n_syncs++;
    pthread_mutex_unlock(&s->lock);
    return OK;
}

/* A mark says that all before it is durable.  Missing ones cost a copy at recovery, no more; so a
 * failure here is no failure of the caller's. */
static void write_mark(struct store *s, struct segment *g)
{
    struct err why;
    struct record r = {.kind = RECORD_MARK,
                       .sequence = s->next_sequence,
                       .synced = g->synced,
                       .place = {s->id, g->head.number, g->used}};
    if (record_shape(&r, NULL, &why) != OK || g->used + r.bytes > g->head.capacity)
        return;
    if (segment_reserve(g, r.bytes, &why) != OK || write_record(s, g, &r, NULL, &why) != OK)
        return;
    if (s->fs->data_sync(&g->file, &why) != OK)
        return;
    g->used += r.bytes;
    g->synced = g->used;
}

void commit_seal(struct store *s, enum index_segment_state state)
{
    struct segment *g = s->current;
    if (!g)
        return;
    CHECK(g->used == g->synced);
    write_mark(s, g);
    note_segment(s, g, state);
    pthread_mutex_lock(&s->lock);
    g->state = SEGMENT_SEALED;
    pthread_mutex_unlock(&s->lock);
    segment_close_file(g);
    s->current = NULL;
}

enum status commit_add_slot(struct store *s, struct segment *g, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    struct segment **grown =
        mem_try_resize(s->segments, (size_t)s->n_slots + 1, sizeof *s->segments);
    if (grown) {
        s->segments = grown;
        s->segments[s->n_slots++] = g;
    }
    pthread_mutex_unlock(&s->lock);
    return grown ? OK : err_set(e, E_NOMEM, "list of segments");
}

static enum status begin_segment(struct store *s, uint64_t record_bytes, struct err *e)
{
    uint64_t capacity = record_bytes + 2 * RECORD_UNIT; /* header and closing mark */
    if (capacity < s->segment_bytes)
        capacity = s->segment_bytes;
    struct segment_head head = {
        .store = s->id,
        .number = s->next_number,
        .capacity = (capacity + RECORD_UNIT - 1) / RECORD_UNIT * RECORD_UNIT,
        .created_ms = (uint64_t)clock_unix_ms(),
        .failed_number = s->failed_number,
        .failed_good = s->failed_good,
        .budget_bytes = s->max_bytes,
        .next_sequence = s->next_sequence,
    };
    struct segment *g;
    enum status st = segment_create(s->fs, s->dir, &head, &g, e);
    if (st != OK)
        return st;
    s->next_number++;
    st = commit_add_slot(s, g, e);
    if (st != OK) {
        segment_drop(g);
        return st;
    }
    s->failed_number = 0;
    s->current = g;
    note_segment(s, g, INDEX_SEGMENT_OPEN);
    return OK;
}

bool commit_may_write_today(struct store *s, uint64_t bytes)
{
    uint64_t today = (uint64_t)clock_unix_ms() / MS_PER_DAY;
    if (today != s->day) {
        s->day = today;
        s->day_bytes = 0;
    }
    return s->max_write_per_day == 0 || s->day_bytes + bytes <= s->max_write_per_day;
}

/* keep_free_bytes belongs to the user; small records may use it. */
static enum status check_free(struct store *s, const struct record *r, uint64_t growth,
                              struct err *e)
{
    uint64_t free_bytes, total;
    if (growth == 0 || !kind_is_kv(r->kind))
        return OK;
    enum status st = s->fs->free_bytes(s->fs, s->dir, &free_bytes, &total, e);
    if (st == OK && (free_bytes < growth || free_bytes - growth < s->keep_free_bytes))
        st = err_set(e, E_FULL, "%llu MiB free on the disk of %s, %llu MiB are kept free",
                     (unsigned long long)(free_bytes >> 20), s->dir,
                     (unsigned long long)(s->keep_free_bytes >> 20));
    return st;
}

static enum status append(struct store *s, struct item *item, struct item *items, uint32_t n,
                          struct err *e)
{
    struct record *r = &item->r;
    enum status st;
    uint64_t with_mark = r->bytes + RECORD_UNIT;
    if (!commit_may_write_today(s, r->bytes) && kind_is_kv(r->kind) && !item->is_copy)
        return err_set(e, E_FULL, "%llu MiB were written today, the ceiling is %llu MiB",
                       (unsigned long long)(s->day_bytes >> 20),
                       (unsigned long long)(s->max_write_per_day >> 20));
    if (s->current && s->current->used + with_mark > s->current->head.capacity) {
        st = sync_current(s, items, n, e);
        if (st != OK)
            return st;
        commit_seal(s, INDEX_SEGMENT_SEALED);
    }
    if (!s->current) {
        st = check_free(s, r, with_mark + SEGMENT_STEP_MIN, e);
        if (st == OK)
            st = begin_segment(s, r->bytes, e);
        if (st != OK)
            return st;
    }
    struct segment *g = s->current;
    st = check_free(s, r, segment_growth(g, r->bytes), e);
    if (st == OK)
        st = segment_reserve(g, r->bytes, e);
    if (st != OK)
        return st;
    r->place = (struct record_place){s->id, g->head.number, g->used};
    r->synced = g->synced;
    st = write_record(s, g, r, item->chunks, e);
    if (st != OK)
        return st; /* `used` stays: the next record goes over what was written of this one */
    item->segment = g;
    item->state = ITEM_WRITTEN;
    g->used += r->bytes;
    s->day_bytes += r->bytes;
    pthread_mutex_lock(&s->lock);
    s->stat.written_bytes += r->bytes;
    if (!item->is_copy && kind_is_data(r->kind))
        s->stat.written_by_kind[r->kind] += r->bytes;
    s->stat.day_bytes = s->day_bytes;
    pthread_mutex_unlock(&s->lock);
    return OK;
}

/* One pass over the items; E_IO: a segment failed and another pass is due. */
static enum status write_pass(struct store *s, struct item *items, uint32_t n, struct err *e)
{
    bool is_any = false;
    for (uint32_t i = 0; i < n; i++) {
        struct item *item = &items[i];
        if (item->state != ITEM_WAITING)
            continue;
        enum status st = append(s, item, items, n, e);
        if (st == E_IO) {
            if (s->current)
                fail_segment(s, items, n, e);
            return st;
        }
        if (st != OK) {
            item->state = ITEM_FAILED;
            item->e = *e;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        is_any |= items[i].state == ITEM_WRITTEN;
    return is_any ? sync_current(s, items, n, e) : OK;
}

void commit_write(struct store *s, struct item *items, uint32_t n)
{
    struct err e = {0};
    for (uint32_t i = 0; i < n; i++)
        if (!items[i].is_copy && items[i].state == ITEM_WAITING && items[i].r.sequence == 0)
            items[i].r.sequence = s->next_sequence++; /* an encrypted one has it already */
    for (uint32_t tries = 0; tries < STORE_WRITE_TRIES_MAX; tries++)
        if (write_pass(s, items, n, &e) == OK)
            break;
    for (uint32_t i = 0; i < n; i++) {
        if (items[i].state == ITEM_WAITING || items[i].state == ITEM_WRITTEN) {
            items[i].state = ITEM_FAILED;
            items[i].e = e;
        }
    }
}

/* ---- table and index ---- */
struct index_row row_of(const struct store *s, const struct entry *entry)
{
    return (struct index_row){
        .key = entry->key,
        .kind = entry->kind,
        .segment = s->segments[entry->slot]->head.number,
        .offset = (uint64_t)entry->unit * RECORD_UNIT,
        .bytes = (uint64_t)entry->n_units * RECORD_UNIT,
        .sequence = entry->sequence,
        .depth = entry->depth,
        .cost_ms = entry->cost_ms,
        .last_used_ms = entry->last_used_ms,
        .hits = entry->hits,
        .chain = entry->chain,
        .parent = entry->parent,
        .reach = entry->reach,
        .data_key = entry->data_key ? s->keyring.keys[entry->data_key - 1].number : 0,
    };
}

/* Adds (+1) or takes away (-1) what an entry counts for.  Under the lock. */
static void account(struct store *s, const struct entry *entry, int sign)
{
    uint64_t bytes = (uint64_t)entry->n_units * RECORD_UNIT;
    uint64_t delta = sign > 0 ? bytes : -bytes; /* modulo 2^64 */
    struct segment *g = s->segments[entry->slot];
    g->live_bytes += delta;
    g->n_live += (uint32_t)sign;
    s->stat.n_records[entry->kind] += (uint64_t)(int64_t)sign;
    s->stat.live_bytes[entry->kind] += delta;
    if (kind_is_kv(entry->kind))
        s->kv_live_bytes += delta;
    if (entry->data_key)
        s->keyring.keys[entry->data_key - 1].n_live += (uint32_t)sign;
}

bool commit_place(struct store *s, const struct index_row *row, uint32_t slot)
{
    uint32_t data_key = row->data_key ? keyring_place(&s->keyring, row->data_key) + 1 : 0;
    if (row->data_key && data_key == 0)
        return false;
    uint32_t id = table_find(&s->table, &row->key);
    if (id == TABLE_NONE) {
        id = table_add(&s->table, &row->key);
        if (id == TABLE_NONE)
            return false;
    } else {
        account(s, table_at(&s->table, id), -1);
    }
    struct entry *entry = table_at(&s->table, id);
    entry->kind = (uint8_t)row->kind;
    entry->sequence = row->sequence;
    entry->slot = slot;
    entry->unit = (uint32_t)(row->offset / RECORD_UNIT);
    entry->n_units = (uint32_t)(row->bytes / RECORD_UNIT);
    entry->depth = row->depth;
    entry->cost_ms = row->cost_ms;
    entry->last_used_ms = row->last_used_ms;
    entry->hits = row->hits;
    entry->chain = row->chain;
    entry->parent = row->parent;
    entry->reach = (uint8_t)row->reach;
    entry->data_key = data_key;
    entry->is_quarantined = 0;
    account(s, entry, +1);
    return true;
}

void commit_change(struct store *s, const struct change *c)
{
    if (s->is_index_lost || !s->index || s->is_read_only)
        return;
    if (s->n_changes == s->changes_cap) {
        uint32_t cap = s->changes_cap ? s->changes_cap * 2 : 256;
        struct change *grown =
            cap <= STORE_PENDING_MAX ? mem_try_resize(s->changes, cap, sizeof *grown) : NULL;
        if (!grown) {
            log_warn("store", "index too far behind changes=%u: it is made again at the next open",
                     s->n_changes);
            s->is_index_lost = true;
            s->n_changes = 0;
            return;
        }
        s->changes = grown;
        s->changes_cap = cap;
    }
    s->changes[s->n_changes++] = *c;
}

static void apply_change(struct index *ix, const struct change *c)
{
    switch (c->kind) {
    case CHANGE_PUT:
        index_put(ix, &c->record.row, c->has_old ? &c->record.old : NULL);
        break;
    case CHANGE_REMOVE:
        index_remove(ix, &c->record.old);
        break;
    case CHANGE_TOUCH:
        index_touch(ix, &c->record.row.key, c->record.row.last_used_ms, c->record.row.hits);
        break;
    case CHANGE_SIBLING_PUT:
    case CHANGE_SIBLING_REMOVE: {
        struct index_sibling sibling = {c->sibling.family, c->sibling.key, c->sibling.order,
                                        c->sibling.order_len};
        if (c->kind == CHANGE_SIBLING_PUT)
            index_put_sibling(ix, &sibling);
        else
            index_remove_sibling(ix, &sibling);
        break;
    }
    case CHANGE_SEGMENT:
        index_put_segment(ix, &c->segment);
        break;
    case CHANGE_SEGMENT_GONE:
        index_drop_segment(ix, c->gone.segment);
        break;
    case CHANGE_TOMB:
        index_put_tomb(ix, &c->tomb);
        break;
    case CHANGE_DEAD:
        index_put_dead(ix, &c->gone.key, c->gone.segment);
        break;
    case CHANGE_QUARANTINE:
        index_put_quarantined(ix, &c->gone.key, c->gone.segment, c->gone.offset, c->gone.why);
        break;
    }
}

bool commit_changes(struct store *s)
{
    struct err e;
    if (s->is_index_lost || !s->index)
        return false;
    if (s->n_changes == 0)
        return true;
    enum status st = index_begin(s->index, &e);
    if (st == OK) {
        for (uint32_t i = 0; i < s->n_changes; i++)
            apply_change(s->index, &s->changes[i]);
        /* With the rows: tombstones and dead records have sequences too, but no rows. */
        index_put_next_sequence(s->index, s->next_sequence);
        index_put_day(s->index, s->day, s->day_bytes);
        st = index_commit(s->index, &e);
    }
    if (st == OK) {
        s->n_changes = 0;
        pthread_mutex_lock(&s->lock);
        s->stat.index_written_bytes = index_written_bytes(s->index);
        pthread_mutex_unlock(&s->lock);
        return true;
    }
    if (st == E_CORRUPT) {
        s->is_index_lost = true;
        s->n_changes = 0;
    }
    log_warn("store", "index not written changes=%u: %s; records stay durable", s->n_changes,
             e.msg);
    return false;
}

static void change_sibling(struct store *s, enum change_kind kind, const struct record *r)
{
    if (digest_is_zero(&r->family))
        return;
    struct change c = {.kind = kind};
    c.sibling.family = r->family;
    c.sibling.key = r->key;
    c.sibling.order_len = r->order_len;
    if (r->order_len > 0)
        memcpy(c.sibling.order, r->order, r->order_len);
    commit_change(s, &c);
}

static void change_dead(struct store *s, const struct digest *key, uint64_t segment)
{
    struct change c = {.kind = CHANGE_DEAD};
    c.gone.key = *key;
    c.gone.segment = segment;
    commit_change(s, &c);
}

/* The sibling row of an entry needs family and order, which only its head has.  If that is damaged
 * the row stays behind; whoever meets it finds no such key. */
static void forget_sibling(struct store *s, const struct index_row *row, uint32_t slot)
{
    struct record r;
    struct err why;
    if (kind_is_kv(row->kind) &&
        read_head(s->segments[slot], row->offset, row->bytes, &row->key, &r, &why) == OK)
        change_sibling(s, CHANGE_SIBLING_REMOVE, &r);
}

void commit_forget(struct store *s, uint32_t id, bool with_sibling)
{
    struct change c = {.kind = CHANGE_REMOVE};
    pthread_mutex_lock(&s->lock);
    struct entry *entry = table_at(&s->table, id);
    uint32_t slot = entry->slot;
    c.record.old = row_of(s, entry);
    pthread_mutex_unlock(&s->lock);
    if (with_sibling)
        forget_sibling(s, &c.record.old, slot);
    commit_change(s, &c);
    pthread_mutex_lock(&s->lock);
    account(s, entry, -1);
    s->n_touched -= entry->is_touched;
    table_remove(&s->table, id);
    pthread_mutex_unlock(&s->lock);
}

static float sane_cost(float cost_ms)
{
    return isfinite(cost_ms) && cost_ms > 0 ? cost_ms : 0; /* NaN and -0 have no row in SQLite */
}

static void publish_tombstone(struct store *s, const struct item *item)
{
    const struct record *r = &item->r;
    struct change c = {.kind = CHANGE_TOMB,
                       .tomb = {r->key, r->sequence, r->place.segment, r->place.offset, r->bytes}};
    commit_change(s, &c);
    uint32_t id = table_find(&s->table, &r->key);
    if (id == TABLE_NONE || table_at(&s->table, id)->sequence >= r->sequence)
        return;
    change_dead(s, &r->key, s->segments[table_at(&s->table, id)->slot]->head.number);
    commit_forget(s, id, true);
}

static void publish_record(struct store *s, struct item *item)
{
    const struct record *r = &item->r;
    struct change c = {.kind = CHANGE_PUT};
    c.record.row = (struct index_row){
        .key = r->key,
        .kind = r->kind,
        .segment = r->place.segment,
        .offset = r->place.offset,
        .bytes = r->bytes,
        .sequence = r->sequence,
        .depth = r->depth,
        .cost_ms = sane_cost(r->cost_ms),
        .last_used_ms = item->last_used_ms,
        .hits = item->hits,
        .chain = evict_name_of(&r->chain),
        .parent = evict_name_of(&r->parent),
        .data_key = r->data_key,
        .reach = r->reach,
    };
    uint32_t slot = 0, old_slot = 0;
    while (s->segments[slot] != item->segment)
        slot++;
    pthread_mutex_lock(&s->lock);
    uint32_t id = table_find(&s->table, &r->key);
    if (id != TABLE_NONE) {
        const struct entry *entry = table_at(&s->table, id);
        c.has_old = true;
        c.record.old = row_of(s, entry);
        old_slot = entry->slot;
        if (item->is_copy) { /* touched since the copy was begun, maybe */
            c.record.row.last_used_ms = entry->last_used_ms;
            c.record.row.hits = entry->hits;
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (c.has_old && c.record.old.sequence > r->sequence)
        return; /* a copy of what was replaced meanwhile */
    /* In one segment the old goes when the new does: what notes the one dead notes both. */
    if (c.has_old && c.record.old.segment != r->place.segment)
        change_dead(s, &r->key, c.record.old.segment);
    if (c.has_old && !item->is_copy)
        forget_sibling(s, &c.record.old, old_slot);

    pthread_mutex_lock(&s->lock);
    bool is_placed = commit_place(s, &c.record.row, slot);
    pthread_mutex_unlock(&s->lock);
    if (!is_placed) {
        item->state = ITEM_FAILED;
        err_set(&item->e, E_NOMEM, "table of records");
        return;
    }
    commit_change(s, &c);
    if (!c.has_old || !item->is_copy)
        change_sibling(s, CHANGE_SIBLING_PUT, r);
}

void commit_publish(struct store *s, struct item *items, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (items[i].state != ITEM_SYNCED)
            continue;
        if (items[i].r.kind == RECORD_TOMBSTONE)
            publish_tombstone(s, &items[i]);
        else
            publish_record(s, &items[i]);
    }
}

void commit_touched(struct store *s)
{
    for (uint32_t at = 0; at < s->table.n_used; at += TOUCH_SLICE) {
        pthread_mutex_lock(&s->lock);
        for (uint32_t id = at; id < at + TOUCH_SLICE && id < s->table.n_used; id++) {
            struct entry *entry = table_at(&s->table, id);
            if (entry->kind == 0 || !entry->is_touched)
                continue;
            entry->is_touched = 0;
            s->n_touched--;
            struct change c = {.kind = CHANGE_TOUCH};
            c.record.row = row_of(s, entry);
            commit_change(s, &c);
        }
        pthread_mutex_unlock(&s->lock);
        commit_changes(s);
    }
    s->touched_written_ms = (uint64_t)clock_unix_ms();
}

/* ---- jobs ---- */
static void fill_put(struct store *s, const struct job *job, struct item *item)
{
    *item = (struct item){
        .r = job->shape, .chunks = job->put.chunks, .last_used_ms = (uint64_t)clock_unix_ms()};
    if (kind_is_kv(job->put.kind) && job->shape.bytes > s->max_bytes) {
        item->state = ITEM_FAILED;
        err_set(&item->e, E_FULL, "a record of %llu bytes, the store keeps %llu",
                (unsigned long long)job->shape.bytes, (unsigned long long)s->max_bytes);
    }
}

/* The index's n-th item deletes what an earlier one of the batch deleted already. */
static bool is_deleted_before(const struct item *items, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (items[i].state == ITEM_WAITING && digest_equal(&items[i].r.key, &items[n].r.key))
            return true;
    return false;
}

static void fill_delete(struct store *s, const struct job *job, struct item *items, uint32_t n)
{
    struct item *item = &items[n];
    *item = (struct item){.r = {.kind = RECORD_TOMBSTONE, .key = job->put.key}};
    enum status st = record_shape(&item->r, NULL, &item->e);
    CHECK(st == OK); /* nothing but a head */
    uint32_t id = table_find(&s->table, &job->put.key);
    if (id == TABLE_NONE || is_deleted_before(items, n)) {
        item->state = ITEM_FAILED;
        err_set(&item->e, E_NOT_FOUND, "no such record");
    }
}

/* What is left when all that may be evicted was: pinned chains.  The last records of the batch are
 * refused, so that those that are kept are the beginnings of chains. */
static void refuse_overflow(struct store *s, struct item *items, uint32_t n, uint64_t kv_bytes)
{
    for (uint32_t i = n; i-- > 0 && s->kv_live_bytes + kv_bytes > s->max_bytes;) {
        if (items[i].state != ITEM_WAITING || !kind_is_kv(items[i].r.kind))
            continue;
        kv_bytes -= items[i].r.bytes;
        items[i].state = ITEM_FAILED;
        err_set(&items[i].e, E_FULL, "the budget of %llu MiB is full of pinned chains",
                (unsigned long long)(s->max_bytes >> 20));
    }
}

static void free_blocks(void **blocks, uint32_t n)
{
    for (uint32_t i = 0; i < n && blocks; i++)
        mem_free(blocks[i]);
    mem_free(blocks);
}

/* blocks [n]: what encrypted items lie in until they are written. */
static void run_writes(struct store *s, struct job *first, struct item *items, void **blocks,
                       uint32_t n)
{
    uint64_t kv_bytes = 0;
    uint32_t i = 0;
    for (struct job *job = first; job; job = job->next, i++) {
        if (job->kind == JOB_PUT)
            fill_put(s, job, &items[i]);
        else
            fill_delete(s, job, items, i);
        if (items[i].state == ITEM_WAITING && kind_is_kv(items[i].r.kind))
            kv_bytes += items[i].r.bytes;
    }
    if (kv_bytes > 0) {
        collect_make_room(s, kv_bytes);
        refuse_overflow(s, items, n, kv_bytes);
    }
    i = 0;
    for (struct job *job = first; job; job = job->next, i++)
        if (job->kind == JOB_PUT)
            sealed_fill(s, &items[i], &job->put, &blocks[i]);
    commit_write(s, items, n);
    commit_publish(s, items, n);
    commit_changes(s);
    i = 0;
    for (struct job *job = first; job; job = job->next, i++) {
        job->st = items[i].state == ITEM_FAILED ? items[i].e.code : OK;
        job->e = items[i].e;
    }
}

static void run_forget(struct store *s, struct job *job)
{
    struct change c = {.kind = CHANGE_QUARANTINE};
    uint32_t id = table_find(&s->table, &job->put.key);
    if (id == TABLE_NONE)
        return;
    pthread_mutex_lock(&s->lock);
    struct entry *entry = table_at(&s->table, id);
    bool is_quarantined = entry->is_quarantined;
    struct index_row row = row_of(s, entry);
    pthread_mutex_unlock(&s->lock);
    if (!is_quarantined)
        return; /* written anew since */
    c.gone.key = row.key;
    c.gone.segment = row.segment;
    c.gone.offset = row.offset;
    memcpy(c.gone.why, job->why, sizeof c.gone.why);
    commit_change(s, &c);
    commit_forget(s, id, true);
}

static void finish(struct store *s, struct job *first)
{
    while (first) {
        struct job *next = first->next;
        if (first->put.done)
            first->put.done(first->put.arg, first->st, &first->e);
        mem_free(first);
        first = next;
        pthread_mutex_lock(&s->queue_lock);
        s->n_finished++;
        pthread_cond_broadcast(&s->queue_room);
        pthread_mutex_unlock(&s->queue_lock);
    }
}

void commit_jobs(struct store *s, struct job *first)
{
    uint32_t n = 0;
    for (struct job *job = first; job; job = job->next)
        n++;
    if (first->kind == JOB_FORGET) {
        for (struct job *job = first; job; job = job->next)
            run_forget(s, job);
        commit_changes(s);
    } else if (first->kind == JOB_COLLECT) {
        for (struct job *job = first; job; job = job->next)
            job->st = collect_all(s, &job->e);
    } else {
        struct item *items = mem_try_new(n, sizeof *items);
        void **blocks = mem_try_new(n, sizeof *blocks);
        bool has_room = items && blocks;
        if (has_room)
            run_writes(s, first, items, blocks, n);
        for (struct job *job = first; job && !has_room; job = job->next)
            job->st = err_set(&job->e, E_NOMEM, "a batch of %u records", n);
        free_blocks(blocks, n);
        mem_free(items);
    }
    finish(s, first);
}
