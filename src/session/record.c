/* SPDX-License-Identifier: MIT
 * record.c — a session's record: JSON in the meta, so that a person can read it, and no payload: it
 * is 4 KiB, whatever it is a session of. */
#include <stdio.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/prng.h"
#include "session/session_int.h"

#define RECORD_VERSION 1
#define RECORD_ARENA   (1u << 16)
#define RECORD_MEMBERS 32u /* more than there are */

/* ---- ids ---- */
void id_make(struct session_id *id)
{
    prng_entropy(id->b, sizeof id->b);
}

bool id_is_zero(const struct session_id *id)
{
    static const struct session_id zero;
    return memcmp(id, &zero, sizeof zero) == 0;
}

void id_hex(const struct session_id *id, char out[2 * SESSION_ID_BYTES + 1])
{
    for (size_t i = 0; i < SESSION_ID_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", id->b[i]);
}

bool id_from_hex(struct session_id *out, struct slice hex)
{
    char twice[2 * DIGEST_BYTES];
    struct digest d;
    if (hex.len != 2 * SESSION_ID_BYTES)
        return false;
    memcpy(twice, hex.ptr, hex.len);
    memcpy(twice + hex.len, hex.ptr, hex.len);
    if (!digest_from_hex(&d, twice, sizeof twice))
        return false;
    memcpy(out->b, d.b, sizeof out->b);
    return true;
}

struct digest id_digest(const struct session_id *id)
{
    struct digest d = {0};
    memcpy(d.b, id->b, sizeof id->b); /* random, as maps want it */
    return d;
}

struct digest session_key(const struct session_id *id)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir session id", id->b, sizeof id->b);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

/* ---- several puts in one batch ---- */
static void on_written(void *arg, enum status st, const struct err *e)
{
    struct write_group *g = arg;
    pthread_mutex_lock(&g->mutex);
    if (st != OK && g->st == OK) {
        g->st = st;
        g->e = *e;
    }
    if (--g->n_open == 0)
        pthread_cond_signal(&g->cond);
    pthread_mutex_unlock(&g->mutex);
}

void write_begin(struct write_group *g)
{
    *g = (struct write_group){0};
    pthread_mutex_init(&g->mutex, NULL);
    pthread_cond_init(&g->cond, NULL);
}

void write_put(struct sessions *b, struct write_group *g, struct store_put *put)
{
    struct err e;
    put->done = on_written;
    put->arg = g;
    pthread_mutex_lock(&g->mutex);
    g->n_open++;
    pthread_mutex_unlock(&g->mutex);
    enum status st = store_put(b->store, put, &e);
    if (st == E_BUSY) { /* the queue is full of pages: somebody waits for this, so wait for room */
        put->done = NULL;
        put->arg = NULL;
        st = store_put_wait(b->store, put, &e);
        if (st == OK)
            on_written(g, OK, &e);
    }
    if (st != OK)
        on_written(g, st, &e);
}

static void write_fail(struct write_group *g, enum status st, const char *why)
{
    struct err e;
    err_set(&e, st, "%s", why);
    pthread_mutex_lock(&g->mutex);
    g->n_open++;
    pthread_mutex_unlock(&g->mutex);
    on_written(g, st, &e);
}

enum status write_wait(struct write_group *g, struct err *e)
{
    pthread_mutex_lock(&g->mutex);
    while (g->n_open > 0)
        pthread_cond_wait(&g->cond, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
    pthread_cond_destroy(&g->cond);
    pthread_mutex_destroy(&g->mutex);
    if (g->st != OK)
        *e = g->e;
    return g->st;
}

/* ---- writing ---- */
static void put_text(struct json_writer *w, const char *key, const char *text)
{
    if (!text)
        return;
    jw_key(w, key);
    jw_text(w, text);
}

static void put_id(struct json_writer *w, const char *key, const struct session_id *id)
{
    char hex[2 * SESSION_ID_BYTES + 1];
    if (id_is_zero(id))
        return;
    id_hex(id, hex);
    put_text(w, key, hex);
}

static void put_digest(struct json_writer *w, const char *key, const struct digest *d)
{
    char hex[DIGEST_HEX_BYTES];
    digest_hex(d, hex);
    put_text(w, key, hex);
}

static void put_int(struct json_writer *w, const char *key, int64_t v)
{
    jw_key(w, key);
    jw_int(w, v);
}

void session_put(struct sessions *b, const struct session *s, struct write_group *g)
{
    struct buf text;
    struct json_writer w;
    buf_init(&text, STORE_META_MAX);
    jw_init(&w, &text);
    jw_begin_object(&w);
    put_int(&w, "v", RECORD_VERSION);
    put_id(&w, "id", &s->id);
    put_id(&w, "tenant", &b->tenants[s->tenant]->id);
    put_text(&w, "name", s->name);
    put_text(&w, "tag", s->tag);
    put_text(&w, "pin", s->pin);
    put_text(&w, "response", s->response);
    put_id(&w, "line", &s->line_id);
    put_int(&w, "tokens", s->n_tokens);
    put_int(&w, "messages", s->n_messages);
    jw_key(&w, "follows");
    jw_bool(&w, s->follows);
    put_id(&w, "parent", &s->parent_id);
    put_int(&w, "at", s->at);
    put_text(&w, "model", s->origin->model);
    put_text(&w, "kv_type", s->origin->kv_type);
    put_digest(&w, "root", &s->origin->root);
    put_digest(&w, "identity", &s->origin->identity);
    if (s->is_imported)
        put_digest(&w, "salt", &s->salt);
    put_int(&w, "created", s->created);
    put_int(&w, "updated", s->updated);
    char left[LINES_LEFT_MAX * 2 * SESSION_ID_BYTES + 1];
    left_write(s, left);
    put_text(&w, "left", s->n_left ? left : NULL);
    jw_end_object(&w);
    if (text.failed) { /* no memory: the ceilings of its strings leave room in a record */
        write_fail(g, E_NOMEM, "no memory for a session");
        buf_release(&text);
        return;
    }
    struct store_put put = {.kind = RECORD_SESSION,
                            .key = session_key(&s->id),
                            .owner = get_le64(b->tenants[s->tenant]->id.b),
                            .meta = text.ptr,
                            .meta_len = (uint32_t)text.len};
    write_put(b, g, &put);
    buf_release(&text);
}

/* ---- reading ---- */
static bool get_text(const struct json *v, const char *key, size_t max, struct slice *out)
{
    const struct json *m = json_get(v, key);
    *out = (struct slice){0};
    if (!m)
        return true;
    *out = m->text;
    return m->kind == JSON_STRING && m->text.len <= max && !memchr(m->text.ptr, 0, m->text.len);
}

static bool get_copy(const struct json *v, const char *key, size_t max, char **out)
{
    struct slice text;
    if (!get_text(v, key, max, &text))
        return false;
    *out = text.ptr ? mem_text(text.ptr, text.len) : NULL;
    return true;
}

static bool get_id(const struct json *v, const char *key, bool must, struct session_id *out)
{
    struct slice text;
    return get_text(v, key, 2 * SESSION_ID_BYTES, &text) &&
           (text.ptr ? id_from_hex(out, text) : !must);
}

static bool get_digest(const struct json *v, const char *key, struct digest *out)
{
    struct slice text;
    return get_text(v, key, 2 * DIGEST_BYTES, &text) && text.ptr &&
           digest_from_hex(out, text.ptr, text.len);
}

static bool get_count(const struct json *v, const char *key, int64_t max, int64_t *out)
{
    const struct json *m = json_get(v, key);
    *out = m ? m->integer : 0;
    return m && m->kind == JSON_INT && m->integer >= 0 && m->integer <= max;
}

const struct origin *origin_of(struct sessions *b, const struct session_origin *o)
{
    for (uint32_t i = 0; i < b->n_origins; i++)
        if (digest_equal(&b->origins[i]->root, &o->root))
            return b->origins[i];
    struct origin *fresh = b->n_origins < ORIGINS_MAX ? mem_try_new(1, sizeof *fresh) : NULL;
    if (!fresh)
        return NULL;
    fresh->root = o->root;
    fresh->identity = o->digest;
    snprintf(fresh->model, sizeof fresh->model, "%s", o->model);
    size_t n = strlen(fresh->model);
    while (n > 0 && n == sizeof fresh->model - 1 && ((unsigned char)fresh->model[n - 1] & 0x80))
        fresh->model[--n] = '\0'; /* never half a character */
    for (char *c = fresh->model; *c; c++)
        if ((unsigned char)*c < ' ' || *c == '"' || *c == '\\')
            *c = ' '; /* so that JSON writes a byte as a byte */
    snprintf(fresh->kv_type, sizeof fresh->kv_type, "%s", o->kv_type);
    b->origins[b->n_origins++] = fresh;
    return fresh;
}

static bool read_origin(struct sessions *b, const struct json *v, struct session *s,
                        bool *is_no_memory)
{
    struct slice model, kv_type;
    struct session_origin o;
    char model_text[ORIGIN_MODEL_BYTES], kv_text[8];
    if (!get_text(v, "model", sizeof model_text - 1, &model) || !model.ptr ||
        !get_text(v, "kv_type", sizeof kv_text - 1, &kv_type) || !kv_type.ptr ||
        !get_digest(v, "root", &o.root) || !get_digest(v, "identity", &o.digest))
        return false;
    snprintf(model_text, sizeof model_text, SLICE_FMT, SLICE_ARG(model));
    snprintf(kv_text, sizeof kv_text, SLICE_FMT, SLICE_ARG(kv_type));
    o.model = model_text;
    o.kv_type = kv_text;
    s->origin = origin_of(b, &o);
    *is_no_memory = !s->origin && b->n_origins < ORIGINS_MAX;
    return s->origin != NULL;
}

static bool read_members(struct sessions *b, const struct json *v, struct session *s,
                         bool *is_no_memory)
{
    int64_t version, n_tokens, n_messages, at;
    struct session_id tenant;
    const struct json *follows = json_get(v, "follows");
    struct slice left;
    bool ok = get_count(v, "v", RECORD_VERSION, &version) && version == RECORD_VERSION &&
              get_id(v, "id", true, &s->id) && get_id(v, "tenant", true, &tenant) &&
              tenant_by_id(b, &tenant, &s->tenant) &&
              get_copy(v, "name", SESSION_NAME_BYTES_MAX, &s->name) &&
              get_copy(v, "tag", SESSION_TAG_BYTES_MAX, &s->tag) &&
              get_copy(v, "pin", SESSION_REASON_BYTES_MAX, &s->pin) &&
              get_copy(v, "response", SESSION_NAME_BYTES_MAX, &s->response) &&
              get_id(v, "line", false, &s->line_id) && get_id(v, "parent", false, &s->parent_id) &&
              get_count(v, "tokens", SESSION_TOKENS_MAX, &n_tokens) &&
              get_count(v, "messages", SESSION_MESSAGES_MAX, &n_messages) &&
              get_count(v, "at", SESSION_TOKENS_MAX, &at) &&
              get_text(v, "left", LINES_LEFT_MAX * 2 * SESSION_ID_BYTES, &left) &&
              get_count(v, "created", INT64_MAX, &s->created) &&
              get_count(v, "updated", INT64_MAX, &s->updated) && follows &&
              follows->kind == JSON_BOOL && read_origin(b, v, s, is_no_memory);
    if (!ok)
        return false;
    left_parse(b, s, left);
    s->follows = follows->boolean;
    s->n_tokens = (uint32_t)n_tokens;
    s->n_messages = (uint32_t)n_messages;
    s->at = (uint32_t)at;
    s->is_imported = json_get(v, "salt") != NULL;
    return !s->is_imported || get_digest(v, "salt", &s->salt);
}

enum status session_parse(struct sessions *b, struct slice meta, struct session **out,
                          struct err *e)
{
    struct arena a;
    struct json_member members[RECORD_MEMBERS];
    struct json flat, *v = &flat;
    arena_init(&a, RECORD_ARENA);
    struct session *s = mem_try_new(1, sizeof *s);
    enum status st = s ? OK : err_set(e, E_NOMEM, "no memory");
    if (st == OK && !json_read_flat(meta, members, RECORD_MEMBERS, &flat))
        st = json_parse(meta, &a, &v, e);
    const struct json *version = st == OK ? json_get(v, "v") : NULL;
    if (version && version->kind == JSON_INT && version->integer > RECORD_VERSION)
        st = err_set(e, E_UNSUPPORTED,
                     "a session's record of version %lld; this program knows version %d: use a "
                     "newer one",
                     (long long)version->integer, RECORD_VERSION);
    bool is_no_memory = false;
    if (st == OK && !read_members(b, v, s, &is_no_memory))
        st = err_set(e, is_no_memory ? E_NOMEM : E_CORRUPT, "a session's record");
    arena_release(&a);
    if (st == OK)
        *out = s;
    else
        session_free(s);
    return st;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    mem_free(s->name);
    mem_free(s->tag);
    mem_free(s->pin);
    mem_free(s->response);
    mem_free(s->chains);
    mem_free(s);
}

struct session *session_copy(const struct session *s)
{
    struct session *c = mem_try_new(1, sizeof *c);
    if (!c)
        return NULL;
    *c = *s;
    c->chains = NULL;
    c->n_chains = 0;
    c->name = s->name ? mem_text(s->name, strlen(s->name)) : NULL;
    c->tag = s->tag ? mem_text(s->tag, strlen(s->tag)) : NULL;
    c->pin = s->pin ? mem_text(s->pin, strlen(s->pin)) : NULL;
    c->response = s->response ? mem_text(s->response, strlen(s->response)) : NULL;
    return c;
}
