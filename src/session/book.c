/* SPDX-License-Identifier: MIT
 * book.c — all sessions in memory: loaded once (by a reader again and again), found by name or id.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "session/session_int.h"

bool session_name_is_good(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr("-_.:@/+=~", c))))
            return false;
    }
    return name.len >= 1 && name.len <= SESSION_NAME_BYTES_MAX;
}

/* ---- finding ---- */
static struct digest name_digest(uint32_t tenant, struct slice name)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "tenant", tenant);
    digest_field(&d, "name", name.ptr, name.len);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

static struct session *pointer_at(const struct map *m, const struct digest *key)
{
    uint64_t value;
    return map_get(m, key, &value) ? (struct session *)(uintptr_t)value : NULL;
}

struct session *book_by_id(const struct sessions *b, const struct session_id *id)
{
    struct digest key = id_digest(id);
    return pointer_at(&b->by_id, &key);
}

struct session *book_find(const struct sessions *b, uint32_t tenant, struct slice which)
{
    struct digest key = name_digest(tenant, which);
    struct session *s = pointer_at(&b->by_name, &key);
    struct session_id id;
    if (!s && id_from_hex(&id, which))
        s = book_by_id(b, &id);
    return s && s->tenant == tenant ? s : NULL;
}

/* Names and response ids live in one space: a name that exists hides nothing.  False: no memory. */
static bool index_names(struct sessions *b, struct session *s, bool add)
{
    const char *names[] = {s->name, s->response};
    bool is_done = true;
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (!names[i])
            continue;
        struct digest key = name_digest(s->tenant, slice_of(names[i]));
        if (!add)
            map_remove(&b->by_name, &key);
        else if (map_put(&b->by_name, &key, (uint64_t)(uintptr_t)s) != OK)
            is_done = false;
    }
    return is_done;
}

void book_index_name(struct sessions *b, struct session *s, bool add)
{
    if (!index_names(b, s, add))
        log_warn("session", "no memory to find a session by its name; its id works");
}

void session_end(const struct session *s, uint32_t *n_tokens, uint32_t *n_messages)
{
    *n_tokens = s->n_tokens;
    *n_messages = s->n_messages;
    if (s->follows && s->line)
        line_end(s->line, n_tokens, n_messages);
    if (!s->line)
        *n_tokens = *n_messages = 0;
}

bool session_is_lost(const struct session *s)
{
    return !s->line && !id_is_zero(&s->line_id);
}

enum status book_may_write(const struct sessions *b, struct err *e)
{
    if (!b->store)
        return err_set(e, E_UNSUPPORTED, "nothing is kept here (--store none)");
    if (b->is_read_only)
        return err_set(e, E_DENIED, "the store is open read-only");
    return OK;
}

/* ---- adding, removing ---- */
enum status book_add(struct sessions *b, struct session *s, struct err *e)
{
    if (b->n_all == SESSIONS_MAX)
        return err_set(e, E_LIMIT, "more than %u sessions", SESSIONS_MAX);
    if (b->n_all == b->cap_all) {
        uint32_t cap = b->cap_all ? b->cap_all * 2 : 64;
        struct session **grown = mem_try_resize(b->all, cap, sizeof *grown);
        if (!grown)
            return err_set(e, E_NOMEM, "no memory for another session");
        b->all = grown;
        b->cap_all = cap;
    }
    struct digest key = id_digest(&s->id);
    if (map_put(&b->by_id, &key, (uint64_t)(uintptr_t)s) != OK)
        return err_set(e, E_NOMEM, "no memory for another session");
    if (!index_names(b, s, true)) { /* not found by its name, it would be made a second time */
        (void)index_names(b, s, false);
        map_remove(&b->by_id, &key);
        return err_set(e, E_NOMEM, "no memory for another session's name");
    }
    b->all[b->n_all++] = s;
    if (s->line) {
        line_ref(s->line);
        if (s->follows)
            s->line->follower = s;
    }
    for (uint32_t i = 0; i < s->n_left; i++)
        line_ref(s->left[i]);
    return OK;
}

void book_remove(struct sessions *b, struct session *s)
{
    struct digest key = id_digest(&s->id);
    book_index_name(b, s, false);
    map_remove(&b->by_id, &key);
    for (uint32_t i = 0; i < b->n_all; i++) {
        if (b->all[i] == s) {
            b->all[i] = b->all[--b->n_all];
            break;
        }
    }
    if (s->line) {
        if (s->line->follower == s)
            s->line->follower = NULL;
        line_unref(b, s->line);
    }
    for (uint32_t i = 0; i < s->n_left; i++)
        line_unref(b, s->left[i]);
    session_free(s);
}

/* ---- loading ---- */
#define LOAD_AT_ONCE 256u /* sessions, before who waits for one of them may look */

struct book_load {
    struct sessions *b;
    enum status st;
    struct err *e;
    uint32_t n_bad, n;
};

/* Lets those in who only look at what is there (book_enter_for).  False: the book is closed. */
static bool let_look(struct sessions *b)
{
    pthread_cond_broadcast(&b->loaded);
    pthread_mutex_unlock(&b->mutex);
    pthread_mutex_lock(&b->mutex);
    return !b->is_closing;
}

static bool load_one(const struct store_pin *pin, void *arg)
{
    struct book_load *load = arg;
    struct session *s;
    struct err why;
    if (!load->b->is_loaded && ++load->n % LOAD_AT_ONCE == 0 && !let_look(load->b)) {
        load->st = err_set(load->e, E_CANCELLED, "the sessions are being closed");
        return false;
    }
    enum status st =
        session_parse(load->b, (struct slice){(const char *)pin->meta, pin->meta_len}, &s, &why);
    if (st == E_UNSUPPORTED || st == E_NOMEM) {
        *load->e = why;
        load->st = st;
        return false;
    }
    if (st != OK) {
        load->n_bad++;
        return true;
    }
    s->line = id_is_zero(&s->line_id) ? NULL : line_find(load->b, &s->line_id);
    load->st = book_add(load->b, s, load->e);
    if (load->st != OK)
        session_free(s);
    return load->st == OK;
}

static void forget_all(struct sessions *b)
{
    size_t at = 0;
    struct digest key;
    uint64_t value;
    for (uint32_t i = 0; i < b->n_all; i++)
        session_free(b->all[i]);
    while (map_next(&b->lines, &at, &key, &value))
        line_free((struct line *)(uintptr_t)value);
    mem_free(b->all);
    map_release(&b->by_id);
    map_release(&b->by_name);
    map_release(&b->lines);
    b->by_id = b->by_name = b->lines = (struct map){0};
    b->all = NULL;
    b->n_all = b->cap_all = 0;
}

/* Under the mutex, while nobody else may change anything: the load's reads are the one exception to
 * "no I/O under it". */
static enum status load_all(struct sessions *b, struct err *e)
{
    struct book_load load = {.b = b, .e = e};
    uint64_t start = clock_now_ns();
    forget_all(b);
    (void)store_has_news(b->store, &b->seen); /* what comes from now on is news */
    enum status st = lines_load(b, e);
    b->is_loading_names = st == OK && !b->is_loaded;
    if (st == OK)
        st = store_each(b->store, RECORD_SESSION, load_one, &load, e);
    if (st == OK)
        st = load.st;
    if (load.n_bad > 0)
        log_warn("session", "records of sessions that cannot be read n=%u", load.n_bad);
    struct store_stat stat = {0};
    if (st == OK)
        store_stat(b->store, &stat);
    if (st == OK && stat.n_unreadable > 0)
        log_warn("session", "a part of the store cannot be read: sessions may be missing");
    else if (st == OK &&
             !b->is_read_only) /* who a line belongs to is known only when all is read */
        lines_sweep(b);
    b->is_loading_names = false;
    b->loaded_ns = clock_now_ns();
    log_debug("session", "loaded sessions=%u lines=%zu ms=%.1f", b->n_all, b->lines.count,
              clock_ms_since(start));
    return st;
}

static void loader(void *arg)
{
    struct sessions *b = arg;
    struct err e = {0};
    pthread_mutex_lock(&b->mutex);
    enum status st = load_all(b, &e);
    b->load_status = st; /* a reader's own changes when it loads again */
    b->load_err = e;
    b->is_loaded = true;
    pthread_cond_broadcast(&b->loaded);
    pthread_mutex_unlock(&b->mutex);
    if (st == E_CANCELLED)
        return;
    if (st != OK) {
        log_warn("session", "the sessions cannot be read: %s", e.msg);
    } else if (!b->is_read_only) {
        pins_load(b);
        expire_until_closed(b);
    }
}

/* Under the mutex, once all is loaded. */
static enum status enter_loaded(struct sessions *b, struct err *e)
{
    bool is_old = b->is_read_only && clock_ms_since(b->loaded_ns) > RELOAD_MS;
    if (is_old && !store_has_news(b->store, &b->seen)) {
        b->loaded_ns = clock_now_ns();
        is_old = false;
    }
    if (b->load_status == E_NOMEM || (b->load_status == OK && is_old))
        b->load_status = load_all(b, &b->load_err);
    enum status st = b->load_status;
    if (st != OK) {
        *e = b->load_err;
        pthread_mutex_unlock(&b->mutex);
    }
    return st;
}

enum status book_enter(struct sessions *b, struct err *e)
{
    if (!b->store)
        return err_set(e, E_UNSUPPORTED, "nothing is kept here (--store none)");
    pthread_mutex_lock(&b->mutex);
    while (!b->is_loaded)
        pthread_cond_wait(&b->loaded, &b->mutex);
    return enter_loaded(b, e);
}

enum status book_enter_for(struct sessions *b, uint32_t tenant, struct slice which, struct err *e)
{
    if (!b->store)
        return err_set(e, E_UNSUPPORTED, "nothing is kept here (--store none)");
    pthread_mutex_lock(&b->mutex);
    while (!b->is_loaded && !(b->is_loading_names && book_find(b, tenant, which)))
        pthread_cond_wait(&b->loaded, &b->mutex);
    return b->is_loaded ? enter_loaded(b, e) : OK;
}

void book_leave(struct sessions *b)
{
    pthread_mutex_unlock(&b->mutex);
}

/* ---- opening ---- */
enum status sessions_open(const struct sessions_options *options, struct sessions **out,
                          struct err *e)
{
    struct sessions *b = mem_try_new(1, sizeof *b);
    if (!b)
        return err_set(e, E_NOMEM, "no memory for the sessions");
    b->store = options->store;
    b->is_read_only = options->is_read_only;
    b->options = *options;
    pthread_mutex_init(&b->writing, NULL);
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->loaded, NULL);
    pthread_cond_init(&b->closing, NULL);
    enum status st = tenants_load(b, e);
    if (st == OK && b->store) /* nobody should wait for 100,000 sessions before serving */
        st = thread_start("sessions", loader, b, &b->loader, e);
    if (st == OK)
        *out = b;
    else
        sessions_close(b);
    return st;
}

void sessions_close(struct sessions *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->mutex);
    b->is_closing = true;
    pthread_cond_signal(&b->closing);
    pthread_mutex_unlock(&b->mutex);
    if (b->loader)
        thread_join(b->loader);
    forget_all(b);
    tenants_release(b);
    for (uint32_t i = 0; i < b->n_origins; i++)
        mem_free(b->origins[i]);
    pthread_cond_destroy(&b->loaded);
    pthread_cond_destroy(&b->closing);
    pthread_mutex_destroy(&b->mutex);
    pthread_mutex_destroy(&b->writing);
    mem_free(b);
}

/* ---- reading ---- */
/* What a session's tokens lie in, and a copy of its facts; E_NOT_FOUND. */
static enum status look(struct sessions *b, uint32_t tenant, struct slice which,
                        struct span_list *spans, struct session_content *out, struct err *e)
{
    enum status st = book_enter_for(b, tenant, which, e);
    if (st != OK)
        return st;
    struct session *s = book_find(b, tenant, which);
    if (s) {
        out->tenant = s->tenant;
        session_end(s, &out->n_tokens, &out->n_messages);
        out->is_imported = s->is_imported;
        out->salt = s->is_imported ? s->salt : b->tenants[s->tenant]->salt;
        out->root = s->origin->root;
        st = line_spans(s->line, out->n_tokens, out->n_messages, spans, e);
        out->is_cut = spans->is_cut || session_is_lost(s);
    } else {
        st = err_set(e, E_NOT_FOUND, "no session or response " SLICE_FMT, SLICE_ARG(which));
    }
    book_leave(b);
    return st;
}

enum status sessions_read(struct sessions *b, uint32_t tenant, struct slice which, unsigned wanted,
                          struct session_content *out, struct err *e)
{
    struct span_list spans = {0};
    struct line_content c = {0};
    *out = (struct session_content){0};
    enum status st = look(b, tenant, which, &spans, out, e);
    if (st == OK)
        st = line_read(b, &spans, wanted, &c, e);
    mem_free(spans.spans);
    if (st != OK)
        return st;
    out->is_cut = out->is_cut || c.n_tokens < out->n_tokens || c.n_messages < out->n_messages;
    out->n_tokens = c.n_tokens;
    out->n_messages = c.n_messages;
    out->first_user_end = line_first_user_end(&c);
    if (wanted & SESSION_WANT_TOKENS) {
        out->tokens = c.tokens;
        c.tokens = NULL;
    }
    if (wanted & SESSION_WANT_MESSAGES) {
        if (c.messages.failed)
            st = err_set(e, E_LIMIT, "the messages are longer than %u MiB", SESSION_JSON_MAX >> 20);
        out->messages = buf_take(&c.messages, &out->messages_bytes);
    }
    line_content_release(&c);
    if (st != OK)
        session_content_release(out);
    return st;
}

void session_content_release(struct session_content *c)
{
    mem_free(c->tokens);
    mem_free(c->messages);
    *c = (struct session_content){0};
}

bool sessions_find_salt(struct sessions *b, uint32_t tenant, struct slice which,
                        struct digest *salt)
{
    struct err e;
    *salt = sessions_salt(b, tenant);
    if (which.len == 0 || book_enter_for(b, tenant, which, &e) != OK)
        return false;
    const struct session *s = book_find(b, tenant, which);
    if (s && s->is_imported)
        *salt = s->salt;
    book_leave(b);
    return s != NULL;
}
