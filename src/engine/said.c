/* SPDX-License-Identifier: MIT
 * said.c — a table of the newest turns, and their durable rows: RECORD_TOKENS, meta u32 length of
 * the lead, payload lead and written text. */
#include "engine/said.h"

#include <pthread.h>

#include "base/endian.h"
#include "base/map.h"
#include "base/mem.h"
#include "session/session.h"

struct entry {
    struct digest key;
    struct entry *newer;
    size_t lead_len, len;
    char bytes[];
};

struct said {
    struct store *store; /* or NULL */
    bool is_read_only;
    pthread_mutex_t mutex; /* guards the table and the list; never held across I/O */
    struct map table;      /* key → entry */
    struct entry *oldest, *newest;
    size_t bytes, n_entries;
};

enum status said_new(struct store *store, bool is_read_only, struct said **out, struct err *e)
{
    struct said *s = mem_try_new(1, sizeof *s);
    if (!s)
        return err_set(e, E_NOMEM, "no memory for the turns said");
    s->store = store;
    s->is_read_only = is_read_only;
    pthread_mutex_init(&s->mutex, NULL);
    *out = s;
    return OK;
}

static void drop_oldest(struct said *s)
{
    struct entry *x = s->oldest;
    uint64_t value;
    s->oldest = x->newer;
    if (!s->oldest)
        s->newest = NULL;
    s->bytes -= x->len;
    s->n_entries--;
    /* A key may have been written again since: its newer entry stays. */
    if (map_get(&s->table, &x->key, &value) && value == (uint64_t)(uintptr_t)x)
        map_remove(&s->table, &x->key);
    mem_free(x);
}

void said_free(struct said *s)
{
    if (!s)
        return;
    while (s->oldest)
        drop_oldest(s);
    map_release(&s->table);
    pthread_mutex_destroy(&s->mutex);
    mem_free(s);
}

static struct digest row_key(const struct digest *owner, const struct digest *key)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir said", owner->b, sizeof owner->b);
    digest_field(&d, "turn", key->b, sizeof key->b);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

static void remember(struct said *s, const struct digest *row, const char *bytes, size_t len,
                     size_t lead_len)
{
    struct entry *x = mem_try_new(1, sizeof *x + len);
    if (!x)
        return;
    *x = (struct entry){.key = *row, .len = len, .lead_len = lead_len};
    memcpy(x->bytes, bytes, len);
    pthread_mutex_lock(&s->mutex);
    while (s->oldest && (s->bytes + len > SAID_BYTES_MAX || s->n_entries >= SAID_ENTRIES_MAX))
        drop_oldest(s);
    if (map_put(&s->table, row, (uint64_t)(uintptr_t)x) == OK) {
        *(s->newest ? &s->newest->newer : &s->oldest) = x;
        s->newest = x;
        s->bytes += len;
        s->n_entries++;
        x = NULL;
    }
    pthread_mutex_unlock(&s->mutex);
    mem_free(x);
}

static void row_done(void *arg, enum status st, const struct err *e)
{
    (void)st; /* losing a row costs computing the turn again, and the cache warns about the disk */
    (void)e;
    mem_free(arg);
}

static void put_row(struct said *s, const struct digest *row, const struct said_place *place,
                    char *bytes, size_t len, size_t lead_len)
{
    uint8_t meta[TURN_ROW_META_BYTES];
    struct err e;
    struct checksum sum = checksum_of(place->tokens, (size_t)place->n_tokens * 4);
    put_le32(meta, (uint32_t)lead_len);
    put_le32(meta + 4, place->n_tokens);
    put_le64(meta + 8, sum.low);
    put_le64(meta + 16, sum.high);
    struct store_chunk chunk = {bytes, len};
    struct store_put put = {.kind = RECORD_TOKENS,
                            .key = *row,
                            .owner = place->owner,
                            .meta = meta,
                            .meta_len = sizeof meta,
                            .chunks = &chunk,
                            .n_chunks = 1,
                            .done = row_done,
                            .arg = bytes};
    if (store_put(s->store, &put, &e) != OK)
        mem_free(bytes);
}

void said_put(struct said *s, const struct digest *owner, const struct digest *key,
              const struct said_place *place, struct slice lead, struct slice written)
{
    size_t len = lead.len + written.len;
    if (len == 0 || lead.len > SAID_TURN_MAX || len > SAID_TURN_MAX)
        return;
    char *bytes = mem_try_new(len, 1);
    if (!bytes)
        return;
    if (lead.len)
        memcpy(bytes, lead.ptr, lead.len);
    if (written.len)
        memcpy(bytes + lead.len, written.ptr, written.len);
    struct digest row = row_key(owner, key);
    remember(s, &row, bytes, len, lead.len);
    if (s->store && !s->is_read_only)
        put_row(s, &row, place, bytes, len, lead.len);
    else
        mem_free(bytes);
}

static bool recall(struct said *s, const struct digest *row, struct buf *out, size_t *lead_len)
{
    uint64_t value;
    pthread_mutex_lock(&s->mutex);
    bool found = map_get(&s->table, row, &value);
    if (found) {
        const struct entry *x = (const struct entry *)(uintptr_t)value;
        buf_add(out, x->bytes, x->len);
        *lead_len = x->lead_len;
    }
    pthread_mutex_unlock(&s->mutex);
    return found;
}

static bool recall_row(struct said *s, const struct digest *row, struct buf *out, size_t *lead_len)
{
    struct store_pin pin;
    struct err e;
    if (!s->store || !store_has(s->store, row) || store_get(s->store, row, &pin, &e) != OK)
        return false;
    bool is_row = pin.meta_len == TURN_ROW_META_BYTES || pin.meta_len == TURN_ROW_META_OLD;
    bool ok = pin.kind == RECORD_TOKENS && is_row && pin.n_chunks == 1;
    struct store_chunk_ref chunk = ok ? store_chunk(&pin, 0) : (struct store_chunk_ref){0};
    ok = ok && chunk.len <= SAID_TURN_MAX && get_le32(pin.meta) <= chunk.len &&
         store_verify_chunk(&pin, 0, &e) == OK; /* and the copy below, which is what counts */
    size_t from = out->len;
    if (ok) {
        buf_add(out, chunk.bytes, chunk.len);
        *lead_len = get_le32(pin.meta);
        ok = !out->failed && checksum_equal(checksum_of(out->ptr + from, chunk.len), chunk.sum);
    }
    store_unpin(s->store, &pin);
    if (ok)
        remember(s, row, out->ptr + from, out->len - from, *lead_len);
    else if (!out->failed)
        out->len = from;
    return ok;
}

bool said_get(struct said *s, const struct digest *owner, const struct digest *key, struct buf *out,
              size_t *lead_len)
{
    struct digest row = row_key(owner, key);
    return recall(s, &row, out, lead_len) || recall_row(s, &row, out, lead_len);
}
