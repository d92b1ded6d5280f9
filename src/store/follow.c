/* SPDX-License-Identifier: MIT
 * follow.c — the table as the index has it: what every open needs to place rows, and how a
 * read-only store follows a writer that goes on writing, moving and reclaiming.
 * A key that is not in the table is looked up in the index; a list of all of a kind loads the index
 * again if it has changed.  What a reader has found stays true: its maps outlive unlinked files. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/store_int.h"

uint32_t follow_slot_of(const struct store *s, uint64_t number)
{
    uint32_t low = 0, high = s->n_slots;
    while (low < high) { /* by number ascending; reclaimed ones are NULL only while running */
        uint32_t middle = low + (high - low) / 2;
        if (!s->segments[middle])
            break;
        if (s->segments[middle]->head.number < number)
            low = middle + 1;
        else
            high = middle;
    }
    /* A reader opens segments in the order in which it hears of them. */
    for (uint32_t i = s->is_read_only ? 0 : low; i < s->n_slots; i++)
        if (s->segments[i] && s->segments[i]->head.number == number)
            return i;
    return TABLE_NONE;
}

bool follow_is_plausible(const struct store *s, const struct index_row *row, uint32_t slot)
{
    return slot != TABLE_NONE && kind_is_data(row->kind) && row->offset >= RECORD_UNIT &&
           row->offset % RECORD_UNIT == 0 && row->bytes >= RECORD_UNIT &&
           row->bytes % RECORD_UNIT == 0 && row->offset <= s->segments[slot]->synced &&
           row->bytes <= s->segments[slot]->synced - row->offset;
}

void follow_clear(struct store *s)
{
    table_release(&s->table);
    for (uint32_t i = 0; i < s->n_slots; i++) {
        if (!s->segments[i])
            continue;
        s->segments[i]->live_bytes = 0;
        s->segments[i]->n_live = 0;
    }
    memset(s->stat.n_records, 0, sizeof s->stat.n_records);
    memset(s->stat.live_bytes, 0, sizeof s->stat.live_bytes);
    s->kv_live_bytes = 0;
}

/* The slot of a segment, opened now if a writer made it since.  Under the lock, I/O included: a
 * reader's threads have nothing better to do than to wait for it. */
uint32_t follow_fresh_slot(struct store *s, uint64_t number)
{
    uint32_t slot = follow_slot_of(s, number);
    struct segment *g;
    struct err why;
    if (slot != TABLE_NONE || segment_open(s->fs, s->dir, number, &g, &why) != OK)
        return slot;
    struct segment **grown =
        memcmp(&g->head.store, &s->id, sizeof s->id) == 0
            ? mem_try_resize(s->segments, (size_t)s->n_slots + 1, sizeof *s->segments)
            : NULL;
    if (!grown) {
        segment_drop(g);
        return TABLE_NONE;
    }
    g->synced = g->head.capacity; /* the writer's rows name durable records only */
    s->segments = grown;
    s->segments[s->n_slots] = g;
    return s->n_slots++;
}

static bool place_fresh(struct store *s, const struct index_row *row)
{
    uint32_t slot = follow_fresh_slot(s, row->segment);
    if (slot == TABLE_NONE)
        return false;
    return follow_is_plausible(s, row, slot) && commit_place(s, row, slot);
}

bool follow_find(struct store *s, const struct digest *key)
{
    struct index_row row;
    struct err why;
    if (!s->index || index_find(s->index, key, &row, &why) != OK)
        return false;
    pthread_mutex_lock(&s->lock);
    bool is_placed = place_fresh(s, &row);
    pthread_mutex_unlock(&s->lock);
    return is_placed;
}

static enum status skip_segment(const struct index_segment *row, void *arg)
{
    (void)row;
    (void)arg;
    return OK;
}

static void reload_soon(const struct index_row *row, void *arg)
{
    const struct store *s = arg;
    table_prefetch(&s->table, &row->key);
}

static enum status reload_record(const struct index_row *row, void *arg)
{
    (void)place_fresh(arg, row); /* reclaimed while we read: a miss */
    return OK;
}

/* Gives the disk back what the writer has reclaimed: a map of ours kept it.  Pins hold theirs. */
static void let_go_of_reclaimed(struct store *s)
{
    for (uint32_t i = 0; i < s->n_slots; i++) {
        char path[FS_PATH_BYTES_MAX];
        struct segment *g = s->segments[i];
        struct os_file f;
        if (!g || g->n_live > 0)
            continue;
        segment_path(s->dir, g->head.number, path, sizeof path);
        enum status st = s->fs->open(s->fs, path, FS_READ, &f, NULL);
        if (st == OK)
            s->fs->close(&f);
        if (st != E_NOT_FOUND)
            continue;
        s->segments[i] = NULL;
        segment_drop(g);
    }
}

bool store_has_news(struct store *s, uint64_t *seen)
{
    uint64_t version = s->is_read_only && s->index ? index_version(s->index) : 0;
    bool has = version != *seen;
    *seen = version;
    return has;
}

void follow_refresh(struct store *s)
{
    struct err why;
    if (!s->index)
        return;
    pthread_mutex_lock(&s->lock);
    uint64_t version = index_version(s->index);
    if (version != s->seen_version) {
        struct index_load load = {skip_segment, reload_record, reload_soon, s};
        follow_clear(s);
        if (index_load(s->index, &load, &why) == OK) {
            s->seen_version = version;
            let_go_of_reclaimed(s);
        } else {
            log_warn("store", "index not read again: %s", why.msg);
        }
    }
    pthread_mutex_unlock(&s->lock);
}
