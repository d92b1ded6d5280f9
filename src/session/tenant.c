/* SPDX-License-Identifier: MIT
 * tenant.c — whose pages are whose: a tenant's salt is in every key of its pages, so that nobody
 * else can name them, let alone hit them.
 *   record: meta  "kvsTENA1" u8 is_public, then the name      (of the first version: the name
 * alone) chunk 0 the salt (32 bytes), chunk 1 SHA-256 of each API key It is kept twice, since
 * losing its 32 bytes would lose everything that hangs on them: a damaged copy is made again from
 * the other. */
#include "base/endian.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prng.h"
#include "session/session_int.h"

#define TENANT_COPIES 2u
#define TENANT_MAGIC  "kvsTENA1"
#define TENANT_FAMILY "kvsTENA" /* with another version behind it: of a newer program */
#define TENANT_PREFIX 9u

static struct digest tenant_key(struct slice name, uint32_t copy)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir tenant", name.ptr, name.len);
    digest_u64(&d, "copy", copy);
    struct digest key = digest_end(&d);
    digester_release(&d);
    return key;
}

/* The stable id: of the salt, which never changes. */
static struct session_id id_of(const struct digest *salt)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir tenant id", salt->b, sizeof salt->b);
    struct digest out = digest_end(&d);
    digester_release(&d);
    struct session_id id;
    memcpy(id.b, out.b, sizeof id.b);
    return id;
}

static struct slice name_in(const struct store_pin *pin, bool *is_public)
{
    struct slice meta = {(const char *)pin->meta, pin->meta_len};
    *is_public = false;
    if (!slice_starts(meta, SLICE_LIT(TENANT_MAGIC)) || meta.len < TENANT_PREFIX)
        return meta;
    *is_public = meta.ptr[TENANT_PREFIX - 1] == 1;
    return (struct slice){meta.ptr + TENANT_PREFIX, meta.len - TENANT_PREFIX};
}

static struct tenant *find(const struct sessions *b, struct slice name, uint32_t *index)
{
    for (uint32_t i = 0; i < b->n_tenants; i++) {
        if (slice_is(name, b->tenants[i]->name)) {
            *index = i;
            return b->tenants[i];
        }
    }
    return NULL;
}

bool tenant_by_id(const struct sessions *b, const struct session_id *id, uint32_t *index)
{
    for (uint32_t i = 0; i < b->n_tenants; i++) {
        if (memcmp(&b->tenants[i]->id, id, sizeof *id) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

static struct tenant *add(struct sessions *b, struct slice name, const struct digest *salt)
{
    if (b->n_tenants == TENANTS_MAX)
        return NULL;
    struct tenant *t = mem_try_new(1, sizeof *t);
    if (!t)
        return NULL;
    t->name = mem_text(name.ptr, name.len);
    t->salt = *salt;
    t->id = id_of(salt);
    b->tenants[b->n_tenants++] = t;
    return t;
}

/* ---- reading ---- */
/* Copies a chunk of 32-byte values, verified; NULL: damaged, or no memory. */
static struct digest *copy_digests(const struct store_pin *pin, uint32_t chunk, uint32_t *n)
{
    struct store_chunk_ref c = store_chunk(pin, chunk);
    *n = (uint32_t)(c.len / DIGEST_BYTES);
    if (c.len % DIGEST_BYTES != 0 || *n > TENANT_KEYS_MAX)
        return NULL;
    struct digest *copy = mem_try_new(*n + 1, sizeof *copy);
    if (!copy)
        return NULL;
    struct err e;
    if (store_copy_chunk(pin, chunk, copy, &e) != OK) {
        mem_free(copy);
        return NULL;
    }
    return copy;
}

struct tenant_load {
    struct sessions *b;
    enum status st;
};

static bool load_one(const struct store_pin *pin, void *arg)
{
    struct tenant_load *load = arg;
    uint32_t n = 0, n_keys = 0, index;
    bool is_public;
    struct slice name = name_in(pin, &is_public);
    /* Of the first version a meta is the name alone; no name has begun like this. */
    if (slice_starts(name, SLICE_LIT(TENANT_FAMILY)) && name.len > sizeof TENANT_FAMILY &&
        pin->meta_len == name.len) {
        load->st = E_UNSUPPORTED;
        return false;
    }
    if (pin->n_chunks < 1 || find(load->b, name, &index))
        return true; /* its other copy came first */
    struct digest *salt = copy_digests(pin, 0, &n);
    struct digest *keys = pin->n_chunks > 1 ? copy_digests(pin, 1, &n_keys) : NULL;
    if (salt && n == 1) {
        struct tenant *t = add(load->b, name, salt);
        if (t) {
            t->is_public = is_public;
            t->keys = keys;
            t->n_keys = keys ? n_keys : 0;
            keys = NULL;
        } else {
            load->st = E_NOMEM;
        }
    }
    mem_free(keys);
    mem_free(salt);
    return load->st == OK;
}

static bool copy_is_good(struct sessions *b, const struct tenant *t, uint32_t copy)
{
    struct digest key = tenant_key(slice_of(t->name), copy);
    struct store_pin pin;
    struct err e;
    if (store_get(b->store, &key, &pin, &e) != OK)
        return false;
    uint32_t n = 0;
    struct digest *salt =
        pin.kind == RECORD_TENANT && pin.n_chunks >= 1 ? copy_digests(&pin, 0, &n) : NULL;
    bool is_good = salt && n == 1 && digest_equal(salt, &t->salt);
    mem_free(salt);
    store_unpin(b->store, &pin);
    if (!is_good)
        store_quarantine(b->store, &key, "tenant record");
    return is_good;
}

/* ---- writing ---- */
static enum status write_copy(struct sessions *b, const struct tenant *t, uint32_t copy,
                              struct err *e)
{
    char meta[TENANT_PREFIX + SESSION_NAME_BYTES_MAX];
    size_t n = strlen(t->name);
    memcpy(meta, TENANT_MAGIC, TENANT_PREFIX - 1);
    meta[TENANT_PREFIX - 1] = t->is_public ? 1 : 0;
    memcpy(meta + TENANT_PREFIX, t->name, n);
    struct store_chunk chunks[] = {{&t->salt, sizeof t->salt},
                                   {t->keys, t->n_keys * sizeof *t->keys}};
    struct store_put put = {.kind = RECORD_TENANT,
                            .key = tenant_key(slice_of(t->name), copy),
                            .owner = get_le64(t->id.b),
                            .meta = meta,
                            .meta_len = (uint32_t)(TENANT_PREFIX + n),
                            .chunks = chunks,
                            .n_chunks = t->n_keys ? 2 : 1};
    return store_put_wait(b->store, &put, e); /* durable before the first page under it */
}

static enum status write_tenant(struct sessions *b, const struct tenant *t, struct err *e)
{
    enum status st = OK;
    for (uint32_t i = 0; b->store && !b->is_read_only && st == OK && i < TENANT_COPIES; i++)
        st = write_copy(b, t, i, e);
    return st;
}

static enum status make_tenant(struct sessions *b, struct slice name, struct err *e)
{
    struct digest salt;
    struct store_stat stat = {0};
    if (b->store)
        store_stat(b->store, &stat);
    if (stat.n_unreadable > 0 && !b->is_read_only)
        return err_set(
            e, E_IO,
            "segments of the store cannot be read (the log names them), and tenant " SLICE_FMT
            " may be in one: made anew it would lose all that it has; try "
            "again, or move those files away",
            SLICE_ARG(name));
    prng_entropy(salt.b, sizeof salt.b);
    struct tenant *t = add(b, name, &salt);
    if (!t)
        return err_set(e, E_LIMIT, "more than %u tenants", TENANTS_MAX);
    enum status st = write_tenant(b, t, e);
    if (st != OK) {
        b->n_tenants--;
        mem_free(t->name);
        mem_free(t);
    }
    return st;
}

enum status tenants_load(struct sessions *b, struct err *e)
{
    struct tenant_load load = {.b = b};
    struct slice name = SLICE_LIT("default");
    uint32_t index = 0;
    enum status st = b->store ? store_each(b->store, RECORD_TENANT, load_one, &load, e) : OK;
    if (st == OK && load.st == E_UNSUPPORTED)
        st =
            err_set(e, load.st,
                    "tenants' records of a newer version than this program knows: use a newer one");
    else if (st == OK && load.st != OK)
        st = err_set(e, load.st, "the tenants' records do not fit in memory");
    if (st != OK)
        return st;
    struct tenant *t = find(b, name, &index);
    if (!t) {
        struct store_stat stat = {0};
        if (b->store)
            store_stat(b->store, &stat);
        if (stat.n_records[RECORD_PAGE] > 0)
            log_warn("session",
                     "the store's tenant records are lost, and with them the names of all that it "
                     "holds; it begins anew");
        st = make_tenant(b, name, e);
        index = b->n_tenants - 1;
    }
    if (st != OK)
        return st;
    struct tenant *first = b->tenants[0]; /* "default" is number 0 */
    b->tenants[0] = b->tenants[index];
    b->tenants[index] = first;
    for (uint32_t i = 0; b->store && !b->is_read_only && st == OK && i < b->n_tenants; i++)
        for (uint32_t copy = 0; st == OK && copy < TENANT_COPIES; copy++)
            if (!copy_is_good(b, b->tenants[i], copy))
                st = write_copy(b, b->tenants[i], copy, e);
    return st;
}

void tenants_release(struct sessions *b)
{
    for (uint32_t i = 0; i < b->n_tenants; i++) {
        mem_free(b->tenants[i]->name);
        mem_free(b->tenants[i]->keys);
        mem_free(b->tenants[i]);
    }
    b->n_tenants = 0;
}

/* ---- the door ---- */
static enum status set_keys(struct sessions *b, struct tenant *t, const struct digest *hashes,
                            uint32_t n, struct err *e)
{
    if (n == t->n_keys && (n == 0 || memcmp(hashes, t->keys, n * sizeof *hashes) == 0))
        return OK;
    struct digest *copy = mem_try_new(n + 1, sizeof *copy);
    if (!copy)
        return err_set(e, E_NOMEM, "no memory for a tenant's keys");
    if (n > 0)
        memcpy(copy, hashes, n * sizeof *copy);
    mem_free(t->keys);
    t->keys = copy;
    t->n_keys = n;
    return write_tenant(b, t, e);
}

enum status sessions_tenant(struct sessions *b, struct slice name, const struct digest *hashes,
                            uint32_t n, uint32_t *index, struct err *e)
{
    if (!session_name_is_good(name))
        return err_set(e, E_INVALID, "a tenant's name has 1 to %u of letters, digits, -_.:@/+=~",
                       SESSION_NAME_BYTES_MAX);
    if (n > TENANT_KEYS_MAX)
        return err_set(e, E_LIMIT, "tenant " SLICE_FMT ": at most %u keys", SLICE_ARG(name),
                       TENANT_KEYS_MAX);
    pthread_mutex_lock(&b->writing);
    enum status st = OK;
    if (!find(b, name, index)) {
        if (b->store && b->is_read_only)
            st = err_set(e, E_DENIED, "tenant " SLICE_FMT " is not in this store, open read-only",
                         SLICE_ARG(name));
        else
            st = make_tenant(b, name, e);
    }
    struct tenant *t = st == OK ? find(b, name, index) : NULL;
    if (t)
        st = set_keys(b, t, hashes, n, e);
    pthread_mutex_unlock(&b->writing);
    return st;
}

enum status sessions_find_tenant(struct sessions *b, struct slice name, uint32_t *index,
                                 struct err *e)
{
    pthread_mutex_lock(&b->writing);
    bool found = find(b, name, index) != NULL;
    pthread_mutex_unlock(&b->writing);
    return found ? OK : err_set(e, E_NOT_FOUND, "no tenant " SLICE_FMT, SLICE_ARG(name));
}

struct digest sessions_salt(struct sessions *b, uint32_t tenant)
{
    return b->tenants[tenant]->salt; /* tenants come and stay, their salt never changes */
}
