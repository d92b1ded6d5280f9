/* SPDX-License-Identifier: MIT
 * sealed.c — where encryption meets the rest: data keys are made and found, records are encrypted
 * before they are written, and a pin of one gets memory of its own, filled chunk by chunk as the
 * chunks are checked.  So zero-copy is given up for them, and nothing else: reclamation, recovery,
 * verification and the scrubber handle ciphertext and need no key. */
#include <openssl/crypto.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prng.h"
#include "store/store_int.h"

/* What a pin of an encrypted record owns. */
struct clear {
    uint8_t key[SEAL_KEY_BYTES];
    struct record r;       /* its pointers are into the map, which the pin holds */
    const uint8_t *cipher; /* the payload in the map */
    uint8_t *payload;      /* 64-aligned, in the same block as this */
    struct store_chunk_ref chunks[];
};

static uint64_t aligned(uint64_t n)
{
    return (n + RECORD_CHUNK_ALIGN - 1) / RECORD_CHUNK_ALIGN * RECORD_CHUNK_ALIGN;
}

/* ---- data keys ---- */
static bool known_key(struct store *s, uint64_t number, uint8_t key[SEAL_KEY_BYTES])
{
    pthread_mutex_lock(&s->lock);
    uint32_t at = keyring_place(&s->keyring, number);
    bool is_open = at != UINT32_MAX && s->keyring.keys[at].is_open;
    if (is_open)
        memcpy(key, s->keyring.keys[at].key, SEAL_KEY_BYTES);
    pthread_mutex_unlock(&s->lock);
    return is_open;
}

static bool keep_key(struct store *s, const struct data_key *key)
{
    pthread_mutex_lock(&s->lock);
    uint32_t at = keyring_place(&s->keyring, key->number);
    if (at != UINT32_MAX) {
        struct data_key *kept = &s->keyring.keys[at];
        kept->owner = key->owner;
        memcpy(kept->key, key->key, SEAL_KEY_BYTES);
        kept->is_open = true;
    }
    pthread_mutex_unlock(&s->lock);
    return at != UINT32_MAX;
}

static enum status open_key(struct store *s, uint64_t number, uint8_t out[SEAL_KEY_BYTES],
                            struct err *e)
{
    if (!s->keyring.has_file_key)
        return err_set(e, E_DENIED, "it is encrypted, and no key was given");
    if (known_key(s, number, out))
        return OK;
    struct digest name = seal_record_key(number);
    struct store_pin pin;
    struct data_key key = {0};
    enum status st = store_get(s, &name, &pin, e);
    if (st != OK)
        return st;
    if (pin.kind != RECORD_KEY || pin.n_chunks != 1 || pin.payload_len != SEAL_WRAPPED_BYTES)
        st = err_set(e, E_CORRUPT, "not a data key");
    if (st == OK)
        st = store_verify_chunk(&pin, 0, e);
    if (st == OK)
        st = seal_unwrap(&s->keyring, &s->id, pin.payload, number, &key, e);
    store_unpin(s, &pin);
    if (st == OK && !keep_key(s, &key))
        st = err_set(e, E_NOMEM, "data keys");
    memcpy(out, key.key, SEAL_KEY_BYTES);
    OPENSSL_cleanse(&key, sizeof key);
    return st;
}

enum status sealed_check_file_key(struct store *s, struct err *e)
{
    uint8_t key[SEAL_KEY_BYTES];
    if (!s->keyring.has_file_key) {
        /* Without it tenants and their salts cannot be read: new ones in their place would be the
         * end of all that was kept under the old. */
        if (s->is_read_only || s->stat.n_records[RECORD_KEY] == 0)
            return OK;
        return err_set(e, E_DENIED, "%s is encrypted: it is written to with its key file only",
                       s->dir);
    }
    for (uint32_t i = 0; i < s->keyring.n; i++) {
        enum status st = open_key(s, s->keyring.keys[i].number, key, e);
        OPENSSL_cleanse(key, sizeof key);
        if (st == OK)
            return OK; /* one is enough: it is the same for all */
        if (st == E_DENIED)
            return err_set(e, E_DENIED, "%s was encrypted with another key than the one given",
                           s->dir);
    }
    return OK;
}

/* Makes a data key durable before the first record that needs it. */
static enum status make_key(struct store *s, uint64_t owner, struct data_key *out, struct err *e)
{
    uint8_t wrapped[SEAL_WRAPPED_BYTES];
    struct data_key key = {.owner = owner, .is_open = true};
    while (key.number == 0)
        prng_entropy(&key.number, sizeof key.number);
    key.number >>= 1; /* SQLite's integers have a sign */
    key.number |= 1;
    prng_entropy(key.key, sizeof key.key);
    enum status st = seal_wrap(&s->keyring, &s->id, &key, wrapped, e);
    if (st != OK)
        return st;
    struct store_chunk chunk = {wrapped, sizeof wrapped};
    struct item item = {.r = {.kind = RECORD_KEY, .n_chunks = 1}, .chunks = &chunk};
    item.r.key = seal_record_key(key.number);
    st = record_shape(&item.r, &chunk, e);
    CHECK(st == OK);
    commit_write(s, &item, 1);
    commit_publish(s, &item, 1);
    if (item.state != ITEM_SYNCED)
        return err_set(e, item.e.code, "%s", item.e.msg);
    if (!keep_key(s, &key))
        return err_set(e, E_NOMEM, "data keys");
    *out = key;
    return OK;
}

/* The data key for new records of an owner: of this run, and of this segment. */
static enum status current_key(struct store *s, uint64_t owner, struct data_key *out, struct err *e)
{
    struct sealing *free_one = NULL;
    for (uint32_t i = 0; i < STORE_SEALINGS_MAX; i++) {
        struct sealing *one = &s->sealings[i];
        bool is_stale = s->current == NULL || one->segment != s->current->head.number;
        if (one->key.number != 0 && one->key.owner == owner && !is_stale) {
            *out = one->key;
            return OK;
        }
        if (!free_one || one->key.number == 0 || (is_stale && free_one->key.number != 0))
            free_one = one;
    }
    enum status st = make_key(s, owner, &free_one->key, e);
    if (st != OK) {
        OPENSSL_cleanse(&free_one->key, sizeof free_one->key);
        return st;
    }
    free_one->segment = s->current ? s->current->head.number : 0;
    *out = free_one->key;
    return OK;
}

/* ---- and let go ---- */
static bool is_in_use(const struct store *s, const struct data_key *key)
{
    bool is = key->n_live > 0;
    for (uint32_t i = 0; !is && i < STORE_SEALINGS_MAX; i++)
        is = s->sealings[i].key.number == key->number;
    return is;
}

/* The keys of all records of data keys that are needed, as a table; false: out of memory. */
static bool find_needed(const struct store *s, struct table *needed)
{
    for (uint32_t i = 0; i < s->keyring.n; i++) {
        struct digest name = seal_record_key(s->keyring.keys[i].number);
        if (!is_in_use(s, &s->keyring.keys[i]))
            continue;
        uint32_t id = table_add(needed, &name);
        if (id == TABLE_NONE)
            return false;
        table_at(needed, id)->kind = RECORD_KEY;
    }
    return true;
}

void sealed_drop_unused(struct store *s)
{
    struct table needed = {0};
    /* Rows without a segment may come back when the disk is well again, and need theirs. */
    if (s->stat.n_records[RECORD_KEY] == 0 || s->n_bad_segments > 0 || s->n_bad_rows > 0)
        return;
    bool is_known = find_needed(s, &needed);
    for (uint32_t id = 0; is_known && id < s->table.n_used; id++) {
        const struct entry *entry = table_at(&s->table, id);
        if (entry->kind != RECORD_KEY || table_find(&needed, &entry->key) != TABLE_NONE)
            continue;
        struct item item = {.r = {.kind = RECORD_TOMBSTONE, .key = entry->key}};
        struct err none;
        enum status st = record_shape(&item.r, NULL, &none);
        CHECK(st == OK);
        commit_write(s, &item, 1);
        commit_publish(s, &item, 1);
        if (item.state != ITEM_SYNCED)
            break; /* the next collection tries again */
    }
    table_release(&needed);
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->keyring.n; i++) {
        struct data_key *key = &s->keyring.keys[i];
        if (is_known && key->is_open && !is_in_use(s, key)) {
            OPENSSL_cleanse(key->key, sizeof key->key);
            key->is_open = false;
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- writing ---- */
/* The item's record as it will lie on disk; *block: memory to be freed after the write. */
static enum status seal_item(struct store *s, struct item *item, const struct data_key *key,
                             const struct store_put *put, void **block, struct err *e)
{
    struct record *r = &item->r;
    uint64_t bytes = (uint64_t)r->n_chunks * sizeof(struct store_chunk) + STORE_ORDER_MAX +
                     r->meta_len + SEAL_TAG_BYTES;
    for (uint32_t i = 0; i < r->n_chunks; i++)
        bytes += put->chunks[i].len + SEAL_TAG_BYTES;
    uint8_t *p = mem_try_new(1, bytes);
    if (!p)
        return err_set(e, E_NOMEM, "%llu bytes to encrypt", (unsigned long long)bytes);
    *block = p;
    struct store_chunk *chunks = (struct store_chunk *)(void *)p;
    p += (uint64_t)r->n_chunks * sizeof *chunks;
    memcpy(p, r->order, r->order_len);
    seal_order(&s->keyring, &r->family, p, r->order_len);
    r->order = p;
    p += STORE_ORDER_MAX;
    r->data_key = key->number;
    enum status st = seal_encrypt(key->key, r, SEAL_META_CHUNK, r->meta, r->meta_len, p, e);
    r->meta = p;
    r->meta_len += SEAL_TAG_BYTES;
    p += r->meta_len;
    for (uint32_t i = 0; i < r->n_chunks && st == OK; i++) {
        uint64_t len = put->chunks[i].len;
        st = seal_encrypt(key->key, r, i, put->chunks[i].bytes, len, p, e);
        chunks[i] = (struct store_chunk){p, len + SEAL_TAG_BYTES};
        p += len + SEAL_TAG_BYTES;
    }
    item->chunks = chunks;
    return st == OK ? record_shape(r, chunks, e) : st;
}

void sealed_fill(struct store *s, struct item *item, const struct store_put *put, void **block)
{
    struct data_key key;
    if (!s->keyring.has_file_key || item->state != ITEM_WAITING)
        return;
    enum status st = current_key(s, put->owner, &key, &item->e);
    item->r.sequence = s->next_sequence++;
    if (st == OK)
        st = seal_item(s, item, &key, put, block, &item->e);
    OPENSSL_cleanse(&key, sizeof key);
    if (st != OK)
        item->state = ITEM_FAILED;
}

/* ---- reading ---- */
/* r as it was when it was encrypted: lengths are those of the ciphertext now. */
static bool shape_clear(struct clear *c)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < c->r.n_chunks; i++) {
        struct record_chunk row = record_chunk_at(c->r.table, i, c->r.payload_len);
        if (row.len < SEAL_TAG_BYTES)
            return false;
        at = aligned(at);
        c->chunks[i] = (struct store_chunk_ref){c->payload + at, row.len - SEAL_TAG_BYTES, row.sum};
        at += row.len - SEAL_TAG_BYTES;
    }
    return true;
}

enum status sealed_pin(struct store *s, struct store_pin *pin, const struct record *r,
                       const uint8_t *payload, struct err *e)
{
    uint8_t key[SEAL_KEY_BYTES];
    enum status st = open_key(s, r->data_key, key, e);
    if (st != OK)
        return st;
    if (r->meta_len < SEAL_TAG_BYTES)
        return err_set(e, E_CORRUPT, "encrypted, and too short for it");
    uint64_t head = sizeof(struct clear) + (uint64_t)r->n_chunks * sizeof(struct store_chunk_ref);
    uint32_t meta_len = r->meta_len - SEAL_TAG_BYTES;
    /* Large blocks are fresh pages of the system: what is never read costs no memory. */
    uint8_t *block = mem_try_new(1, head + meta_len + 2 * RECORD_CHUNK_ALIGN + r->payload_len);
    if (!block)
        return err_set(e, E_NOMEM, "%llu bytes to decrypt", (unsigned long long)r->payload_len);
    struct clear *c = (struct clear *)(void *)block;
    memcpy(c->key, key, sizeof key);
    OPENSSL_cleanse(key, sizeof key);
    c->r = *r;
    c->cipher = payload;
    uintptr_t after = (uintptr_t)(block + head + meta_len);
    c->payload = block + head + meta_len + (aligned(after) - after);
    pin->clear = c;
    st = seal_decrypt(c->key, r, SEAL_META_CHUNK, r->meta, meta_len, block + head, e);
    if (st == OK && !shape_clear(c))
        st = err_set(e, E_CORRUPT, "encrypted, and a chunk too short for it");
    if (st != OK) {
        sealed_unpin(pin);
        return st;
    }
    pin->meta = block + head;
    pin->meta_len = meta_len;
    pin->payload = c->payload;
    pin->payload_len = 0;
    if (r->n_chunks > 0) {
        const struct store_chunk_ref *last = &c->chunks[r->n_chunks - 1];
        pin->payload_len = (uint64_t)(last->bytes - c->payload) + last->len;
    }
    /* Small records are read whole by whoever asks for one. */
    for (uint32_t i = 0; i < r->n_chunks && st == OK && !kind_is_kv(r->kind); i++)
        st = sealed_check_chunk(pin, i, e);
    if (st != OK)
        sealed_unpin(pin);
    return st;
}

void sealed_unpin(struct store_pin *pin)
{
    if (pin->clear)
        OPENSSL_cleanse(pin->clear->key, sizeof pin->clear->key);
    mem_free(pin->clear);
    pin->clear = NULL;
}

struct store_chunk_ref sealed_chunk(const struct store_pin *pin, uint32_t i)
{
    return pin->clear->chunks[i];
}

struct sealed_bytes sealed_cipher(const struct store_pin *pin)
{
    return (struct sealed_bytes){pin->clear->cipher, pin->clear->r.payload_len};
}

enum status sealed_check_chunk(const struct store_pin *pin, uint32_t i, struct err *e)
{
    struct clear *c = pin->clear;
    struct record_chunk row = record_chunk_at(c->r.table, i, c->r.payload_len);
    uint64_t len = c->chunks[i].len;
    uint8_t *dst = c->payload + (c->chunks[i].bytes - c->payload);
    enum status st = seal_decrypt(c->key, &c->r, i, c->cipher + row.at, len, dst, e);
    if (st == OK)
        c->chunks[i].sum = checksum_of(dst, (size_t)len); /* store_chunk() speaks of these bytes */
    return st;
}
