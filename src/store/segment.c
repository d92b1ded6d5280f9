/* SPDX-License-Identifier: MIT
 * segment.c — segment files: birth, growth, maps, walks. */
#include "store/segment.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/fault.h"

#define WALK_BUFFER_BYTES (1u << 20)
_Static_assert(WALK_BUFFER_BYTES > RECORD_HEAD_MAX + RECORD_UNIT, "a head fits the walk's buffer");

void segment_path(const char *dir, uint64_t number, char *out, size_t out_bytes)
{
    int n = snprintf(out, out_bytes, "%s/segments/%016llx.seg", dir, (unsigned long long)number);
    CHECK(n > 0 && (size_t)n < out_bytes);
}

uint64_t segment_number_of(const char *name)
{
    if (strlen(name) != 20 || strcmp(name + 16, ".seg") != 0)
        return 0;
    uint64_t n = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            return 0;
        n = n << 4 | digit;
    }
    return n;
}

static enum status map_segment(struct segment *g, const struct os_file *f, struct err *e)
{
    const void *p;
    enum status st = f->fs->map(f, g->head.capacity, &p, e);
    if (st != OK)
        return st;
    g->map = p;
    struct err why;
    g->is_guarded = os_fault_guard_add(p, g->head.capacity, &why) == OK;
    if (!g->is_guarded)
        log_warn("store", "segment=%llx unguarded: %s", (unsigned long long)g->head.number,
                 why.msg);
    return OK;
}

static struct segment *new_segment(const struct os_fs *fs, const struct segment_head *head)
{
    struct segment *g = mem_try_new(1, sizeof *g);
    if (!g)
        return NULL;
    g->fs = fs;
    g->head = *head;
    g->file.fd = -1;
    atomic_init(&g->holds, 1);
    return g;
}

uint64_t segment_growth(const struct segment *g, uint64_t bytes)
{
    uint64_t need = g->used + bytes;
    if (need <= g->file_bytes)
        return 0;
    uint64_t step = g->file_bytes;
    if (step < SEGMENT_STEP_MIN)
        step = SEGMENT_STEP_MIN;
    if (step > SEGMENT_STEP_MAX)
        step = SEGMENT_STEP_MAX;
    uint64_t to = g->file_bytes + step;
    if (to < need)
        to = need;
    if (to > g->head.capacity)
        to = g->head.capacity;
    return to - g->file_bytes;
}

enum status segment_reserve(struct segment *g, uint64_t bytes, struct err *e)
{
    CHECK(g->used + bytes <= g->head.capacity);
    uint64_t more = segment_growth(g, bytes);
    if (more == 0)
        return OK;
    enum status st = g->fs->allocate(&g->file, g->file_bytes + more, e);
    if (st == OK)
        g->file_bytes += more;
    return st;
}

enum status segment_create(const struct os_fs *fs, const char *dir, const struct segment_head *head,
                           struct segment **out, struct err *e)
{
    char path[FS_PATH_BYTES_MAX], tmp[FS_PATH_BYTES_MAX], folder[FS_PATH_BYTES_MAX];
    uint8_t unit[RECORD_UNIT];
    segment_path(dir, head->number, path, sizeof path);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    snprintf(folder, sizeof folder, "%s/segments", dir);
    struct segment *g = new_segment(fs, head);
    if (!g)
        return err_set(e, E_NOMEM, "segment");
    bool is_named = false;
    segment_head_encode(head, unit);
    enum status st = fs->open(fs, tmp, FS_WRITE | FS_CREATE | FS_EXCL, &g->file, e);
    if (st != OK)
        goto out;
    st = fs->write_at(&g->file, unit, sizeof unit, 0, e);
    g->file_bytes = g->used = g->synced = RECORD_UNIT;
    if (st == OK)
        st = segment_reserve(g, RECORD_UNIT, e);
    if (st == OK)
        st = fs->full_sync(&g->file, e);
    if (st == OK)
        st = fs->rename(fs, tmp, path, e);
    is_named = st == OK;
    if (st == OK)
        st = fs->sync_dir(fs, folder, e);
    if (st == OK)
        st = map_segment(g, &g->file, e);
    if (st != OK) {
        fs->unlink(fs, is_named ? path : tmp, NULL); /* the first error is the one to report */
        goto out;
    }
    g->state = SEGMENT_OPEN;
    *out = g;
    return OK;
out:
    segment_drop(g);
    return st;
}

enum status segment_open(const struct os_fs *fs, const char *dir, uint64_t number,
                         struct segment **out, struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    uint8_t unit[RECORD_UNIT];
    struct segment_head head;
    struct segment *g = NULL;
    struct os_file f;
    uint64_t file_bytes;
    size_t n;
    segment_path(dir, number, path, sizeof path);
    enum status st = fs->open(fs, path, FS_READ, &f, e);
    if (st != OK)
        return st;
    st = fs->size(&f, &file_bytes, e);
    if (st == OK)
        st = fs->read_at(&f, unit, sizeof unit, 0, &n, e);
    if (st == OK)
        st = segment_head_parse(unit, n, &head, e);
    if (st == OK && head.number != number)
        st = err_at(e, E_CORRUPT, 0, "calls itself segment %llx", (unsigned long long)head.number);
    if (st == OK && !(g = new_segment(fs, &head)))
        st = err_set(e, E_NOMEM, "segment");
    if (st == OK) {
        g->file_bytes = file_bytes;
        st = map_segment(g, &f, e);
    }
    fs->close(&f);
    if (st != OK) {
        segment_drop(g);
        return err_prefix(e, "%s", path), st;
    }
    g->state = SEGMENT_SEALED;
    *out = g;
    return OK;
}

enum status segment_reopen(struct segment *g, const char *dir, uint64_t used, struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    CHECK(g->state == SEGMENT_SEALED && used <= g->file_bytes);
    segment_path(dir, g->head.number, path, sizeof path);
    enum status st = g->fs->open(g->fs, path, FS_WRITE, &g->file, e);
    if (st != OK)
        return st;
    g->used = g->synced = used;
    g->state = SEGMENT_OPEN;
    return OK;
}

void segment_close_file(struct segment *g)
{
    if (g->file.fs)
        g->file.fs->close(&g->file);
    g->file = (struct os_file){.fd = -1};
}

void segment_hold(struct segment *g)
{
    atomic_fetch_add_explicit(&g->holds, 1, memory_order_relaxed);
}

void segment_drop(struct segment *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->holds, 1, memory_order_acq_rel) != 1)
        return;
    segment_close_file(g);
    if (g->map) {
        if (g->is_guarded)
            os_fault_guard_remove(g->map);
        g->fs->unmap(g->fs, g->map, g->head.capacity);
    }
    mem_free(g);
}

/* ---- walking ---- */
struct walk {
    struct os_file f;
    struct record_place place;
    uint8_t *buffer; /* [WALK_BUFFER_BYTES]: bytes of the file from `start` on */
    uint64_t start;
    size_t filled;
};

/* At least `want` bytes at `offset` in the buffer, or as many as the file has. */
static enum status walk_fill(struct walk *w, uint64_t offset, size_t want, const uint8_t **p,
                             size_t *avail, struct err *e)
{
    if (offset < w->start || offset + want > w->start + w->filled) {
        w->start = offset;
        const struct os_fs *fs = w->f.fs;
        enum status st = fs->read_at(&w->f, w->buffer, WALK_BUFFER_BYTES, offset, &w->filled, e);
        if (st == E_IO) /* the bad sector may lie further on: ask for no more than is needed */
            st = fs->read_at(&w->f, w->buffer, want, offset, &w->filled, e);
        if (st != OK) {
            w->filled = 0;
            return st;
        }
    }
    size_t skip = (size_t)(offset - w->start);
    *p = w->buffer + skip;
    *avail = w->filled > skip ? w->filled - skip : 0;
    return OK;
}

static enum status walk_records(struct walk *w, uint64_t from, struct segment_walked *out,
                                enum status (*each)(const struct record *r, void *arg), void *arg,
                                struct err *e)
{
    uint64_t at = from;
    while (at + RECORD_UNIT <= out->file_bytes) {
        const uint8_t *p;
        size_t avail;
        enum status st = walk_fill(w, at, RECORD_UNIT, &p, &avail, e);
        uint32_t head = st == OK ? record_claimed_head(p, avail) : 0;
        if (st == OK && head > avail)
            st = walk_fill(w, at, head, &p, &avail, e);
        if (st == E_IO) { /* a bad sector: one unit is passed over */
            out->n_unreadable++;
            at += RECORD_UNIT;
            continue;
        }
        if (st != OK)
            return st;
        struct record r;
        struct err why;
        w->place.offset = at;
        if (head > 0)
            st = record_parse(p, avail, &w->place, &r, &why);
        if (st == E_UNSUPPORTED)
            return err_at(e, st, at, "segment %llx: %s", (unsigned long long)w->place.segment,
                          why.msg);
        if (st != OK || head == 0) {
            at += RECORD_UNIT;
            continue;
        }
        at += r.bytes;
        st = each(&r, arg);
        if (st != OK)
            return err_set(e, st, "walk stopped");
    }
    return OK;
}

enum status segment_walk(const struct os_fs *fs, const char *dir, uint64_t number,
                         const struct store_id *store, uint64_t from,
                         enum status (*each)(const struct record *r, void *arg), void *arg,
                         struct segment_walked *out, struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    struct walk w = {.place = {.store = *store, .segment = number}};
    *out = (struct segment_walked){0};
    segment_path(dir, number, path, sizeof path);
    enum status st = fs->open(fs, path, FS_READ, &w.f, e);
    if (st != OK)
        return st;
    st = fs->size(&w.f, &out->file_bytes, e);
    if (st == OK && !(w.buffer = mem_try_new(1, WALK_BUFFER_BYTES)))
        st = err_set(e, E_NOMEM, "walk");
    if (st == OK)
        st = walk_records(&w, from < RECORD_UNIT ? RECORD_UNIT : from, out, each, arg, e);
    mem_free(w.buffer);
    fs->close(&w.f);
    return st;
}

enum status segment_check_payload(const struct os_file *f, const struct record *r, struct err *e)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < r->n_chunks; i++) {
        uint64_t len = record_chunk_at(r->table, i, r->payload_len).len;
        most = len > most ? len : most;
    }
    uint8_t *bytes = mem_try_new(1, most ? most : 1);
    if (!bytes)
        return err_set(e, E_NOMEM, "%llu bytes", (unsigned long long)most);
    enum status st = OK;
    for (uint32_t i = 0; i < r->n_chunks && st == OK; i++) {
        struct record_chunk c = record_chunk_at(r->table, i, r->payload_len);
        uint64_t at = r->place.offset + r->payload_at + c.at;
        size_t n;
        st = f->fs->read_at(f, bytes, c.len, at, &n, e);
        if (st == OK && (n != c.len || !checksum_equal(checksum_of(bytes, n), c.sum)))
            st = err_at(e, E_CORRUPT, at, "chunk %u of a record at %llu: checksum", i,
                        (unsigned long long)r->place.offset);
    }
    mem_free(bytes);
    return st;
}
