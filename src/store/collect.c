/* SPDX-License-Identifier: MIT
 * collect.c — staying within the budget: when to evict (evict.c says what), and reclamation of
 * whole segments.
 *
 * Bytes come back only with the file: the live records of a segment are copied (sequence kept),
 * synced, indexed, and the segment is unlinked.  A tombstone is copied on while any other segment
 * holds a record that it kills (table `dead`).  A segment whose header names a failed one outlives
 * it, because that name is what keeps the failed one's tail from being believed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "store/store_int.h"

#define ROOM_TRIES_MAX 64 /* segments reclaimed or slices evicted for one batch */
#define EVICT_SLACK    32 /* evict 1/32 of the budget more than needed, so that sorting pays */
/* Copying what will soon be evicted anyway wastes writes: up to 1/8 of the budget is rather evicted
 * early, oldest first, so that old segments empty themselves.  budget_test, bytes written a byte of
 * new records: 3.5 without it, 1.55 with it. */
#define PATIENCE       8
#define SPARE_SEGMENTS 2 /* above the budget, so that copying has room to work in */
/* In the background: at most so much at a time and so often, 40 MiB/s, whether records wait or not.
 * The thread looks at its queue between slices, so a record waits for one slice at most. */
#define SLICE_BYTES           (4u << 20)
#define SLICE_EVERY_MS        100u
#define SLICE_REST_MS         10u    /* at least between two of them */
#define RETRY_MS              10000u /* after a failure: the disk is full, say */
#define TOMBS_PER_SEGMENT_MAX (1u << 20)

/* ---- reclamation ---- */
/* Records on their way from one segment to the current one. */
struct load {
    struct item *items;       /* [STORE_BATCH_JOBS_MAX] */
    struct store_chunk *rows; /* of all items, one behind the other */
    uint32_t n, n_rows, rows_cap;
    uint64_t bytes, bytes_max;
    bool is_background; /* a slice at a time */
};

static enum status load_init(struct load *l, bool is_background, struct err *e)
{
    l->is_background = is_background;
    l->bytes_max = is_background ? SLICE_BYTES : STORE_BATCH_BYTES_MAX;
    l->rows_cap = STORE_BATCH_JOBS_MAX + STORE_CHUNKS_MAX;
    l->items = mem_try_new(STORE_BATCH_JOBS_MAX, sizeof *l->items);
    l->rows = mem_try_new(l->rows_cap, sizeof *l->rows);
    return l->items && l->rows ? OK : err_set(e, E_NOMEM, "reclamation");
}

static void load_release(struct load *l)
{
    mem_free(l->items);
    mem_free(l->rows);
    *l = (struct load){0};
}

static bool load_has_room(const struct load *l, const struct record *r)
{
    return l->n < STORE_BATCH_JOBS_MAX && l->n_rows + r->n_chunks <= l->rows_cap &&
           (l->n == 0 || l->bytes + r->bytes <= l->bytes_max);
}

static void load_add(struct load *l, const struct record *r, const uint8_t *payload)
{
    struct item *item = &l->items[l->n++];
    *item = (struct item){.r = *r, .chunks = &l->rows[l->n_rows], .is_copy = true};
    for (uint32_t i = 0; i < r->n_chunks; i++) {
        struct record_chunk c = record_chunk_at(r->table, i, r->payload_len);
        l->rows[l->n_rows++] = (struct store_chunk){payload + c.at, c.len};
    }
    l->bytes += r->bytes;
}

/* A record that cannot be copied whole is lost here and now: its bytes are about to go. */
static void drop_damaged(struct store *s, const struct digest *key, const struct err *why)
{
    uint32_t id = table_find(&s->table, key);
    if (id == TABLE_NONE)
        return;
    log_warn("store", "damaged record dropped kind=%u: %s", table_at(&s->table, id)->kind,
             why->msg);
    commit_forget(s, id, true);
    pthread_mutex_lock(&s->lock);
    s->stat.n_quarantined++;
    pthread_mutex_unlock(&s->lock);
}

static enum status load_write(struct store *s, struct load *l, struct err *e)
{
    enum status st = OK;
    uint64_t bytes = 0;
    if (l->n == 0)
        return OK;
    commit_write(s, l->items, l->n);
    commit_publish(s, l->items, l->n);
    for (uint32_t i = 0; i < l->n; i++) {
        const struct item *item = &l->items[i];
        if (item->state == ITEM_SYNCED)
            bytes += item->r.bytes;
        else if (item->e.code == E_CORRUPT)
            drop_damaged(s, &item->r.key, &item->e);
        else
            st = err_set(e, item->e.code, "%s", item->e.msg);
    }
    pthread_mutex_lock(&s->lock);
    s->stat.compacted_bytes += bytes;
    pthread_mutex_unlock(&s->lock);
    l->n = l->n_rows = 0;
    l->bytes = 0;
    if (!commit_changes(s) && st == OK)
        st = err_set(e, E_BUSY, "the index cannot be written");
    if (st == OK && l->is_background)
        st = err_set(e, E_CANCELLED, "a slice is done"); /* what was moved has been moved */
    return st;
}

static int u64_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Lists the records in a slot in the order of their offsets, so that chains stay together. */
static enum status list_live(const struct store *s, uint32_t slot, struct moving *m, struct err *e)
{
    const struct segment *g = s->segments[slot];
    mem_free(m->found);
    *m = (struct moving){.segment = g->head.number};
    m->found = mem_try_new(g->n_live ? g->n_live : 1, sizeof *m->found);
    if (!m->found)
        return err_set(e, E_NOMEM, "reclamation");
    for (uint32_t id = 0; id < s->table.n_used && m->n < g->n_live; id++) {
        const struct entry *entry = table_at(&s->table, id);
        if (entry->kind != 0 && entry->slot == slot)
            m->found[m->n++] = (uint64_t)entry->unit << 32 | id;
    }
    if (m->n > 0)
        qsort(m->found, m->n, sizeof *m->found, u64_order);
    return OK;
}

void collect_release(struct store *s)
{
    mem_free(s->moving.found);
    s->moving = (struct moving){0};
}

static enum status move_records(struct store *s, uint32_t slot, struct moving *m, struct load *l,
                                struct err *e)
{
    struct segment *g = s->segments[slot];
    enum status st = OK;
    while (m->at < m->n) {
        uint32_t id = (uint32_t)m->found[m->at], unit = (uint32_t)(m->found[m->at] >> 32);
        const struct entry *entry = table_at(&s->table, id);
        if (entry->kind == 0 || entry->slot != slot || entry->unit != unit) {
            m->at++; /* deleted or replaced since the list was made */
            continue;
        }
        struct digest key = entry->key;
        pthread_mutex_lock(&s->lock);
        bool is_quarantined = entry->is_quarantined;
        pthread_mutex_unlock(&s->lock);
        struct record r;
        struct err why;
        st = read_head(g, (uint64_t)unit * RECORD_UNIT, (uint64_t)entry->n_units * RECORD_UNIT,
                       &key, &r, &why);
        if (st == OK && is_quarantined)
            st = err_set(&why, E_CORRUPT, "quarantined");
        if (st != OK) {
            drop_damaged(s, &key, &why);
            m->at++;
            continue;
        }
        if (!load_has_room(l, &r))
            st = load_write(s, l, e);
        if (st != OK)
            return st;
        load_add(l, &r, g->map + r.place.offset + r.payload_at);
        m->at++;
    }
    l->is_background = false; /* the last slice: go on to the end */
    return load_write(s, l, e);
}

struct tombs {
    struct index_tomb *rows;
    uint32_t n, cap;
    uint64_t segment;
};

static enum status keep_tomb(const struct index_tomb *tomb, void *arg)
{
    struct tombs *t = arg;
    if (tomb->segment != t->segment)
        return OK;
    if (t->n == t->cap) {
        uint32_t cap = t->cap ? t->cap * 2 : 64;
        struct index_tomb *grown =
            cap <= TOMBS_PER_SEGMENT_MAX ? mem_try_resize(t->rows, cap, sizeof *grown) : NULL;
        if (!grown)
            return E_NOMEM;
        t->rows = grown;
        t->cap = cap;
    }
    t->rows[t->n++] = *tomb;
    return OK;
}

static enum status move_tombs(struct store *s, uint64_t number, struct load *l, struct err *e)
{
    struct tombs t = {.segment = number};
    enum status st = index_each_tomb(s->index, keep_tomb, &t, e);
    for (uint32_t i = 0; i < t.n && st == OK; i++) {
        bool is_needed;
        st = index_has_dead(s->index, &t.rows[i].key, number, &is_needed, e);
        if (st != OK || !is_needed)
            continue;
        struct record r = {
            .kind = RECORD_TOMBSTONE, .key = t.rows[i].key, .sequence = t.rows[i].sequence};
        st = record_shape(&r, NULL, e);
        if (st == OK && !load_has_room(l, &r))
            st = load_write(s, l, e);
        if (st == OK)
            load_add(l, &r, NULL);
    }
    mem_free(t.rows);
    return st == OK ? load_write(s, l, e) : st;
}

static enum status unlink_segment(struct store *s, uint32_t slot, struct err *e)
{
    struct segment *g = s->segments[slot];
    char path[FS_PATH_BYTES_MAX], folder[FS_PATH_BYTES_MAX];
    CHECK(g->n_live == 0);
    segment_path(s->dir, g->head.number, path, sizeof path);
    snprintf(folder, sizeof folder, "%s/segments", s->dir);
    enum status st = s->fs->unlink(s->fs, path, e);
    if (st != OK && st != E_NOT_FOUND)
        return st;
    st = s->fs->sync_dir(s->fs, folder, e);
    struct change c = {.kind = CHANGE_SEGMENT_GONE};
    c.gone.segment = g->head.number;
    commit_change(s, &c);
    uint64_t n_quarantined;
    bool is_known = commit_changes(s) && index_count_quarantined(s->index, &n_quarantined, e) == OK;
    pthread_mutex_lock(&s->lock);
    if (is_known)
        s->stat.n_quarantined = n_quarantined; /* those of this segment are gone */
    s->segments[slot] = NULL;
    s->stat.n_compacted++;
    pthread_mutex_unlock(&s->lock);
    segment_drop(g);
    return st;
}

/* Copies what lives in a segment and unlinks it.  In the background one slice of it: E_CANCELLED,
 * there is more to do. */
static enum status reclaim(struct store *s, uint32_t slot, bool is_background, struct err *e)
{
    struct segment *g = s->segments[slot];
    struct moving whole = {0}, *m = is_background ? &s->moving : &whole;
    struct load l = {0};
    if (s->is_index_lost || !commit_changes(s))
        return err_set(e, E_BUSY, "the index cannot be written");
    enum status st = load_init(&l, is_background, e);
    if (st == OK && m->segment != g->head.number)
        st = list_live(s, slot, m, e);
    if (st == OK)
        st = move_records(s, slot, m, &l, e);
    if (st == OK)
        st = move_tombs(s, g->head.number, &l, e);
    load_release(&l);
    if (st == OK)
        st = unlink_segment(s, slot, e);
    mem_free(whole.found);
    if (is_background && st != E_CANCELLED)
        collect_release(s);
    return st;
}

/* ---- choosing ---- */
static bool has_segment(const struct store *s, uint64_t number)
{
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->segments[i] && s->segments[i]->head.number == number)
            return true;
    return false;
}

static bool may_go(const struct store *s, uint32_t slot)
{
    const struct segment *g = s->segments[slot];
    if (!g || g == s->current)
        return false;
    uint64_t failed = g->head.failed_number;
    if (s->failed_number == g->head.number)
        return false; /* the next segment has to name it first */
    return failed == 0 || !has_segment(s, failed);
}

static bool is_mostly_dead(const struct segment *g)
{
    return g->state == SEGMENT_FAILED || g->live_bytes * 2 < g->file_bytes;
}

/* The segment that gives most for least copying; TABLE_NONE: none below max_live of its size. */
static uint32_t emptiest(const struct store *s, double max_live)
{
    uint32_t best = TABLE_NONE;
    double least = max_live;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        if (!may_go(s, i))
            continue;
        const struct segment *g = s->segments[i];
        double live = g->file_bytes ? (double)g->live_bytes / (double)g->file_bytes : 0;
        if (g->state == SEGMENT_FAILED)
            live = 0;
        if (live < least) {
            least = live;
            best = i;
        }
    }
    return best;
}

static uint64_t total_file_bytes(const struct store *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->segments[i])
            n += s->segments[i]->file_bytes;
    return n;
}

static uint64_t small_live_bytes(const struct store *s)
{
    return s->stat.live_bytes[RECORD_TOKENS] + s->stat.live_bytes[RECORD_SESSION] +
           s->stat.live_bytes[RECORD_TENANT];
}

void collect_make_room(struct store *s, uint64_t need)
{
    uint64_t slack = s->max_bytes / EVICT_SLACK;
    if (s->kv_live_bytes + need > s->max_bytes)
        evict_records(s, s->kv_live_bytes + need - s->max_bytes + slack);
    uint64_t limit = s->max_bytes + small_live_bytes(s) + SPARE_SEGMENTS * s->segment_bytes;
    uint64_t evicted_for_room = 0;
    for (uint32_t tries = 0; tries < ROOM_TRIES_MAX; tries++) {
        if (total_file_bytes(s) + need <= limit)
            return;
        struct err e;
        bool is_patient = evicted_for_room < s->max_bytes / PATIENCE;
        uint32_t slot = emptiest(s, is_patient ? 0.5 : 0.8);
        if (slot == TABLE_NONE) {
            if (s->kv_live_bytes == 0)
                return;
            uint64_t done = evict_records(s, slack > 0 ? slack : 1);
            if (done == 0)
                return; /* what is left is pinned */
            evicted_for_room += done;
        } else if (reclaim(s, slot, false, &e) != OK) {
            log_warn("store", "segment not reclaimed: %s", e.msg);
            return;
        }
    }
}

uint32_t collect_slice(struct store *s)
{
    uint64_t now = clock_now_ns() / 1000000;
    if (now < s->slice_due_ms)
        return (uint32_t)(s->slice_due_ms - now);
    s->slice_due_ms = now + COLLECT_IDLE_MS;
    uint32_t slot = emptiest(s, 0.5);
    if (slot == TABLE_NONE || !commit_may_write_today(s, s->segments[slot]->live_bytes))
        return COLLECT_IDLE_MS;
    struct err e;
    uint64_t before = s->stat.compacted_bytes;
    enum status st = reclaim(s, slot, true, &e);
    bool is_well = st == OK || st == E_CANCELLED;
    if (!is_well)
        log_warn("store", "segment not reclaimed: %s", e.msg);
    uint64_t copied_ms = (s->stat.compacted_bytes - before) * SLICE_EVERY_MS / SLICE_BYTES;
    uint32_t wait_ms = is_well ? SLICE_REST_MS + (uint32_t)copied_ms : RETRY_MS;
    s->slice_due_ms = clock_now_ns() / 1000000 + wait_ms;
    return wait_ms;
}

struct numbers {
    uint64_t *n;
    uint32_t count, cap;
};

static enum status keep_number(uint64_t segment, void *arg)
{
    struct numbers *list = arg;
    if (list->count < list->cap)
        list->n[list->count++] = segment;
    return OK;
}

static bool is_listed(const struct numbers *list, uint64_t number)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->n[i] == number)
            return true;
    return false;
}

/* Asked for by a person: the bytes of deleted records, and of damaged ones that were set aside, go
 * too, whatever share of a segment they are. */
enum status collect_all(struct store *s, struct err *e)
{
    if (s->is_index_lost)
        return err_set(e, E_CORRUPT, "index.db is damaged; it is made again at the next start");
    commit_touched(s);
    collect_make_room(s, 0);
    sealed_drop_unused(s);
    if (!commit_changes(s))
        return err_set(e, E_BUSY, "the index cannot be written");
    struct numbers dead = {.cap = s->n_slots};
    dead.n = mem_try_new(s->n_slots ? s->n_slots : 1, sizeof *dead.n);
    if (!dead.n)
        return err_set(e, E_NOMEM, "reclamation");
    enum status st = index_each_dead_segment(s->index, keep_number, &dead, e);
    struct segment *g = s->current;
    if (st == OK && g &&
        (g->live_bytes * 2 < g->used - RECORD_UNIT || is_listed(&dead, g->head.number)))
        commit_seal(s, INDEX_SEGMENT_SEALED);
    /* Two rounds: the first may free what a segment waited for because it names it. */
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0, n = s->n_slots; i < n && st == OK; i++)
            if (may_go(s, i) &&
                (is_mostly_dead(s->segments[i]) || is_listed(&dead, s->segments[i]->head.number)))
                st = reclaim(s, i, false, e);
    }
    mem_free(dead.n);
    return st;
}
