/* SPDX-License-Identifier: MIT
 * read.c — look-ups and pins: a hash probe under the lock, then the record's head in the map,
 * checked.  No I/O but page faults; those happen outside the lock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "os/clock.h"
#include "store/store_int.h"

#define NEIGHBOUR_TRIES 8u /* rows looked at for one that still lives */
#define GET_TRIES_MAX   4u /* a record may move while it is looked up */

static bool is_inside(const struct segment *g, uint64_t offset, uint64_t bytes)
{
    return offset >= RECORD_UNIT && bytes >= RECORD_UNIT && offset <= g->head.capacity &&
           bytes <= g->head.capacity - offset;
}

enum status read_head(const struct segment *g, uint64_t offset, uint64_t bytes,
                      const struct digest *key, struct record *out, struct err *e)
{
    struct record_place place = {g->head.store, g->head.number, offset};
    if (!is_inside(g, offset, bytes))
        return err_at(e, E_CORRUPT, offset, "a record outside its segment");
    size_t avail = bytes < RECORD_HEAD_MAX ? (size_t)bytes : RECORD_HEAD_MAX;
    enum status st = record_parse(g->map + offset, avail, &place, out, e);
    if (st == OK && (out->bytes != bytes || !digest_equal(&out->key, key)))
        st = err_at(e, E_CORRUPT, offset, "not the record that the index names");
    return st;
}

struct found {
    struct segment *g; /* held */
    uint64_t offset, bytes, sequence;
    uint64_t last_used_ms;
    unsigned kind;
    bool is_sealed; /* encrypted */
};

static bool find_held(struct store *s, const struct digest *key, struct found *f)
{
    bool is_found = false;
    pthread_mutex_lock(&s->lock);
    uint32_t id = table_find(&s->table, key);
    if (id != TABLE_NONE) {
        const struct entry *entry = table_at(&s->table, id);
        if (!entry->is_quarantined) {
            *f = (struct found){s->segments[entry->slot],
                                (uint64_t)entry->unit * RECORD_UNIT,
                                (uint64_t)entry->n_units * RECORD_UNIT,
                                entry->sequence,
                                entry->last_used_ms,
                                entry->kind,
                                entry->data_key != 0};
            segment_hold(f->g);
            is_found = true;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return is_found;
}

static void pin_from(struct store_pin *pin, const struct record *r, const struct found *f)
{
    *pin = (struct store_pin){
        .key = r->key,
        .chain = r->chain,
        .parent = r->parent,
        .kind = (enum record_kind)r->kind,
        .layout = r->layout,
        .sequence = r->sequence,
        .depth = r->depth,
        .meta = r->meta,
        .meta_len = r->meta_len,
        .n_chunks = r->n_chunks,
        .payload = f->g->map + f->offset + r->payload_at,
        .payload_len = r->payload_len,
        .record_bytes = r->bytes,
        .last_used_ms = f->last_used_ms,
        .hold = f->g,
        .at = f->offset,
    };
}

/* The table of a read-only store is as old as its last load. */
static bool find_fresh(struct store *s, const struct digest *key, struct found *f)
{
    if (find_held(s, key, f))
        return true;
    return s->is_read_only && follow_find(s, key) && find_held(s, key, f);
}

/* A fault alone reads as much around it as the disk's setting says (128 KiB, or 8 MiB), and waits
 * for all of that; what was asked for before, it waits for alone. */
static void ask_for(const struct found *f)
{
    uint64_t most = STORE_UNREAD_MIN + RECORD_UNIT;
    if (is_inside(f->g, f->offset, f->bytes))
        os_map_advise(f->g->map + f->offset, (size_t)(f->bytes < most ? f->bytes : most),
                      MAP_ADVISE_WILLNEED);
}

enum status store_get(struct store *s, const struct digest *key, struct store_pin *pin,
                      struct err *e)
{
    struct err why;
    *pin = (struct store_pin){0};
    for (uint32_t tries = 0; tries < GET_TRIES_MAX; tries++) {
        struct found f, again;
        struct record r;
        if (!find_fresh(s, key, &f))
            return err_set(e, E_NOT_FOUND, "no such record");
        ask_for(&f);
        enum status st = read_head(f.g, f.offset, f.bytes, key, &r, &why);
        if (st == OK && r.sequence == f.sequence && r.kind == f.kind) {
            pin_from(pin, &r, &f);
            if (r.data_key == 0)
                return OK;
            st = sealed_pin(s, pin, &r, pin->payload, &why);
            if (st == OK)
                return OK;
            *pin = (struct store_pin){0};
            if (st != E_CORRUPT) { /* not damaged: nobody can read it now */
                segment_drop(f.g);
                return err_set(e, E_NOT_FOUND, "%s", why.msg);
            }
        }
        segment_drop(f.g);
        if (st == OK)
            err_set(&why, E_CORRUPT, "sequence or kind other than the index says");
        /* Moved meanwhile?  Then the place that was read is none of its any more. */
        if (!find_held(s, key, &again))
            return err_set(e, E_NOT_FOUND, "no such record");
        bool is_same = again.g == f.g && again.offset == f.offset;
        segment_drop(again.g);
        if (is_same) {
            store_quarantine(s, key, why.msg);
            return err_set(e, E_NOT_FOUND, "damaged: %s", why.msg);
        }
    }
    return err_set(e, E_NOT_FOUND, "moved too often");
}

/* ---- unread: trusted until it is used ----
 * A cold chain has its heads all over the disk, each behind a page of payload: read one after the
 * other they cost a wait each, and the first page could not be used before the last one's was in.
 * A payload of RECORD_PAYLOAD_UNIT_MIN bytes or more begins and ends on a unit, so where it lies
 * follows from its length and the record's. */
static uint64_t payload_units(uint64_t payload_len)
{
    return (payload_len + RECORD_UNIT - 1) / RECORD_UNIT * RECORD_UNIT;
}

enum status store_get_unread(struct store *s, const struct digest *key, uint64_t payload_len,
                             struct store_pin *pin, struct err *e)
{
    struct found f;
    if (payload_len < STORE_UNREAD_MIN)
        return store_get(s, key, pin, e);
    *pin = (struct store_pin){0};
    if (!find_fresh(s, key, &f))
        return err_set(e, E_NOT_FOUND, "no such record");
    uint64_t payload = payload_units(payload_len);
    if (f.is_sealed || !is_inside(f.g, f.offset, f.bytes) || f.bytes < payload + RECORD_UNIT) {
        segment_drop(f.g);
        return store_get(s, key, pin, e);
    }
    *pin = (struct store_pin){
        .key = *key,
        .kind = (enum record_kind)f.kind,
        .sequence = f.sequence,
        .payload = f.g->map + f.offset + f.bytes - payload,
        .payload_len = payload_len,
        .record_bytes = f.bytes,
        .last_used_ms = f.last_used_ms,
        .hold = f.g,
        .at = f.offset,
        .is_unread = true,
    };
    return OK;
}

/* The head of an unread pin, which was faulted in. */
static enum status read_now(struct store_pin *pin, struct err *e)
{
    struct segment *g = pin->hold;
    uint64_t payload_at = (uint64_t)(pin->payload - g->map) - pin->at;
    struct record r;
    enum status st = read_head(g, pin->at, pin->record_bytes, &pin->key, &r, e);
    if (st == OK &&
        (r.sequence != pin->sequence || r.kind != (unsigned)pin->kind || r.data_key != 0 ||
         r.payload_at != payload_at || r.payload_len != pin->payload_len))
        st = err_set(e, E_CORRUPT, "not the record that the index names");
    if (st != OK)
        return st;
    struct found f = {.g = g, .offset = pin->at, .last_used_ms = pin->last_used_ms};
    pin_from(pin, &r, &f);
    return OK;
}

bool store_has(struct store *s, const struct digest *key)
{
    struct found f;
    if (!find_fresh(s, key, &f))
        return false;
    segment_drop(f.g);
    return true;
}

void store_unpin(struct store *s, struct store_pin *pin)
{
    (void)s;
    sealed_unpin(pin);
    segment_drop(pin->hold);
    *pin = (struct store_pin){0};
}

struct store_chunk_ref store_chunk(const struct store_pin *pin, uint32_t i)
{
    CHECK(!pin->is_unread && i < pin->n_chunks);
    if (pin->clear)
        return sealed_chunk(pin, i);
    struct record_chunk c =
        record_chunk_at(record_table(pin->meta, pin->meta_len), i, pin->payload_len);
    return (struct store_chunk_ref){pin->payload + c.at, c.len, c.sum};
}

static enum status fault_in(const void *p, uint64_t bytes, struct err *e)
{
    enum status st = os_map_populate(p, (size_t)bytes, e);
    return st == E_UNSUPPORTED ? OK : st; /* without it a bad page gives zeros: os/fault.h */
}

static enum status fault_in_cipher(const struct store_pin *pin, struct err *e)
{
    struct sealed_bytes cipher = sealed_cipher(pin);
    return fault_in(cipher.bytes, cipher.len, e);
}

enum status store_fault_in(struct store_pin *pin, struct err *e)
{
    if (pin->clear)
        return fault_in_cipher(pin, e);
    if (!pin->is_unread)
        return fault_in(pin->payload, pin->payload_len, e);
    const struct segment *g = pin->hold;
    const uint8_t *start = g->map + pin->at;
    enum status st = fault_in(start, (uint64_t)(pin->payload - start) + pin->payload_len, e);
    return st == OK ? read_now(pin, e) : st;
}

enum status store_verify_chunk(const struct store_pin *pin, uint32_t i, struct err *e)
{
    struct store_chunk_ref c = store_chunk(pin, i);
    enum status st = pin->clear ? fault_in_cipher(pin, e) : fault_in(c.bytes, c.len, e);
    return st == OK ? store_check_chunk(pin, i, e) : st;
}

enum status store_check_chunk(const struct store_pin *pin, uint32_t i, struct err *e)
{
    if (pin->clear)
        return sealed_check_chunk(pin, i, e);
    struct store_chunk_ref c = store_chunk(pin, i);
    if (!checksum_equal(checksum_of(c.bytes, (size_t)c.len), c.sum))
        return err_set(e, E_CORRUPT, "chunk %u of %u: checksum", i, pin->n_chunks);
    return OK;
}

enum status store_copy_chunk(const struct store_pin *pin, uint32_t i, void *dst, struct err *e)
{
    struct store_chunk_ref c = store_chunk(pin, i);
    enum status st = pin->clear ? fault_in_cipher(pin, e) : fault_in(c.bytes, c.len, e);
    if (st == OK && pin->clear)
        st = sealed_check_chunk(pin, i, e); /* into memory of the pin's own */
    if (st == OK && c.len > 0)
        memcpy(dst, c.bytes, (size_t)c.len);
    if (st == OK && !pin->clear && !checksum_equal(checksum_of(dst, (size_t)c.len), c.sum))
        st = err_set(e, E_CORRUPT, "chunk %u of %u: checksum", i, pin->n_chunks);
    return st;
}

/* The file may be gone already (reclaimed while pinned): then the map is all there is. */
enum status store_read_chunk(struct store *s, const struct store_pin *pin, uint32_t i, void *dst,
                             struct err *e)
{
    struct store_chunk_ref c = store_chunk(pin, i);
    const struct segment *g = pin->hold;
    char path[FS_PATH_BYTES_MAX];
    struct os_file f;
    size_t n = 0;
    if (pin->clear)
        return store_copy_chunk(pin, i, dst, e);
    segment_path(s->dir, g->head.number, path, sizeof path);
    enum status st = s->fs->open(s->fs, path, FS_READ, &f, e);
    if (st == OK) {
        st = s->fs->read_at(&f, dst, (size_t)c.len, (uint64_t)(c.bytes - g->map), &n, e);
        s->fs->close(&f);
    } else if (st == E_NOT_FOUND) {
        st = os_map_populate(c.bytes, (size_t)c.len, e);
        if (st == OK || st == E_UNSUPPORTED) {
            memcpy(dst, c.bytes, (size_t)c.len);
            n = (size_t)c.len;
            st = OK;
        }
    }
    if (st == OK && (n != c.len || !checksum_equal(checksum_of(dst, n), c.sum)))
        st = err_set(e, E_CORRUPT, "chunk %u of %u: checksum", i, pin->n_chunks);
    return st;
}

uint32_t store_neighbours(struct store *s, const struct digest *family, const uint8_t *order,
                          uint32_t order_len, struct digest keys[2])
{
    uint32_t n = 0;
    uint8_t sealed[STORE_ORDER_MAX];
    if (!s->index || order_len > STORE_ORDER_MAX)
        return 0;
    if (s->keyring.has_file_key) {
        memcpy(sealed, order, order_len);
        seal_order(&s->keyring, family, sealed, order_len);
        order = sealed;
    }
    for (int is_after = 0; is_after < 2; is_after++) {
        struct digest found[NEIGHBOUR_TRIES];
        uint32_t count =
            index_neighbours(s->index, family, order, order_len, is_after, found, NEIGHBOUR_TRIES);
        for (uint32_t i = 0; i < count; i++) {
            if (store_has(s, &found[i])) {
                keys[n++] = found[i];
                break;
            }
        }
    }
    return n;
}

void store_touch(struct store *s, const struct digest *keys, uint32_t n_keys)
{
    uint64_t now = (uint64_t)clock_unix_ms();
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < n_keys; i++) {
        uint32_t id = table_find(&s->table, &keys[i]);
        if (id == TABLE_NONE)
            continue;
        struct entry *entry = table_at(&s->table, id);
        entry->last_used_ms = now;
        if (entry->hits < UINT32_MAX)
            entry->hits++;
        s->n_touched += !entry->is_touched;
        entry->is_touched = 1;
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- all of a kind ---- */
struct sighting {
    uint64_t sequence;
    struct digest key;
};

static int newest_first(const void *a, const void *b)
{
    const struct sighting *x = a, *y = b;
    return x->sequence > y->sequence ? -1 : x->sequence < y->sequence;
}

enum status store_each(struct store *s, enum record_kind kind,
                       bool (*each)(const struct store_pin *pin, void *arg), void *arg,
                       struct err *e)
{
    CHECK(kind_is_data(kind));
    if (s->is_read_only)
        follow_refresh(s);
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    size_t most = (size_t)s->stat.n_records[kind];
    struct sighting *seen = mem_try_new(most ? most : 1, sizeof *seen);
    for (uint32_t id = 0; seen && id < s->table.n_used && n < most; id++) {
        const struct entry *entry = table_at(&s->table, id);
        if (entry->kind == kind)
            seen[n++] = (struct sighting){entry->sequence, entry->key};
    }
    pthread_mutex_unlock(&s->lock);
    if (!seen)
        return err_set(e, E_NOMEM, "%zu records", most);
    if (n > 0)
        qsort(seen, n, sizeof *seen, newest_first);
    for (size_t i = 0; i < n; i++) {
        struct store_pin pin;
        if (store_get(s, &seen[i].key, &pin, NULL) != OK)
            continue; /* gone or damaged since */
        bool go_on = each(&pin, arg);
        store_unpin(s, &pin);
        if (!go_on)
            break;
    }
    mem_free(seen);
    return OK;
}
