/* SPDX-License-Identifier: MIT
 * scrub.c — reads all records again, slowly, and takes damaged ones out of the index.
 * Runs on the store thread between batches: at most scrub_bytes_per_s, in steps of one record; a
 * batch that waits goes first then.  It reads through the file, so bytes that the page cache still
 * holds are compared as they are there; what was damaged on disk since is found once they left it.
 */
#include <string.h>

#include "base/mem.h"
#include "os/clock.h"
#include "store/store_int.h"

#define SLICE_IDS   4096u /* entries passed over in one call, live or not */
#define SAVED_UP_MS 1000u /* of the rate at most: a pause is not made good in one go */

static enum status read_record(struct store *s, const struct entry *entry, struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    const struct segment *g = s->segments[entry->slot];
    segment_path(s->dir, g->head.number, path, sizeof path);
    struct os_file f;
    enum status st = s->fs->open(s->fs, path, FS_READ, &f, e);
    if (st != OK)
        return st;
    st = verify_entry(s, &f, g->head.number, entry, e);
    s->fs->close(&f);
    return st;
}

void scrub_some(struct store *s)
{
    uint64_t now = clock_now_ns() / 1000000;
    uint64_t since = s->scrub_ms ? now - s->scrub_ms : 0;
    s->scrub_ms = now;
    if (s->scrub_bytes_per_s == 0 || s->table.count == 0)
        return;
    s->scrub_credit += s->scrub_bytes_per_s * (since < SAVED_UP_MS ? since : SAVED_UP_MS) / 1000;
    if (s->scrub_credit > s->scrub_bytes_per_s)
        s->scrub_credit = s->scrub_bytes_per_s;
    for (uint32_t i = 0; i < SLICE_IDS; i++) {
        if (s->scrub_at >= s->table.n_used) {
            s->scrub_at = 0;
            pthread_mutex_lock(&s->lock);
            s->stat.n_scrub_passes++;
            pthread_mutex_unlock(&s->lock);
            return;
        }
        const struct entry *entry = table_at(&s->table, s->scrub_at);
        uint64_t bytes = (uint64_t)entry->n_units * RECORD_UNIT;
        if (entry->kind == 0 || entry->is_quarantined) {
            s->scrub_at++;
            continue;
        }
        if (bytes > s->scrub_credit && s->scrub_credit < s->scrub_bytes_per_s)
            return; /* the rest is saved up first; a record larger than that is read at once */
        s->scrub_credit -= bytes < s->scrub_credit ? bytes : s->scrub_credit;
        s->scrub_at++;
        struct err why;
        struct digest key = entry->key;
        enum status st = read_record(s, entry, &why);
        bool is_bad = st == E_CORRUPT || st == E_IO || st == E_NOT_FOUND;
        pthread_mutex_lock(&s->lock);
        s->stat.scrubbed_bytes += bytes;
        s->stat.n_scrub_bad += is_bad;
        pthread_mutex_unlock(&s->lock);
        if (is_bad)
            store_quarantine(s, &key, why.msg);
        if (store_has_work(s))
            return;
    }
}
