/* SPDX-License-Identifier: MIT
 * expire.c — what nobody used for long is let go: replayed turns of chats without a name by
 * themselves (by age, and the oldest first above a ceiling of bytes), sessions and responses when
 * that was asked for.  Pinned ones stay.  KV pages need no such rule: they are evicted.
 * A writing book looks once when it was loaded and then each EXPIRE_EVERY_S. */
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "session/session_int.h"

#define EXPIRE_EVERY_S 3600
#define DAY_S          86400

/* ---- sessions ---- */
static bool is_over(const struct session *s, uint32_t tenant, int64_t before)
{
    return !s->pin && (tenant == SESSION_TENANT_ALL || s->tenant == tenant) &&
           session_updated(s) < before;
}

struct old_session {
    struct session_id id;
    uint32_t tenant;
};

static struct old_session *find_old(struct sessions *b, uint32_t tenant, int64_t before,
                                    uint32_t *n, enum status *st, struct err *e)
{
    *n = 0;
    *st = book_enter(b, e);
    if (*st != OK)
        return NULL;
    struct old_session *old = mem_try_new((size_t)b->n_all + 1, sizeof *old);
    for (uint32_t i = 0; old && i < b->n_all; i++)
        if (is_over(b->all[i], tenant, before))
            old[(*n)++] = (struct old_session){b->all[i]->id, b->all[i]->tenant};
    book_leave(b);
    if (!old)
        *st = err_set(e, E_NOMEM, "no memory to expire sessions");
    return old;
}

static bool is_closing(struct sessions *b)
{
    pthread_mutex_lock(&b->mutex);
    bool is = b->is_closing;
    pthread_mutex_unlock(&b->mutex);
    return is;
}

static enum status expire_sessions(struct sessions *b, uint32_t tenant, int64_t before,
                                   uint32_t *n_gone, struct err *e)
{
    uint32_t n;
    enum status st;
    struct old_session *old = find_old(b, tenant, before, &n, &st, e);
    for (uint32_t i = 0; i < n && st == OK && !is_closing(b); i++) {
        char hex[2 * SESSION_ID_BYTES + 1];
        id_hex(&old[i].id, hex);
        st = session_delete(b, old[i].tenant, slice_of(hex), before, e);
        *n_gone += st == OK;
        if (st == E_NOT_FOUND || st == E_BUSY) /* deleted, or used, since */
            st = OK;
    }
    mem_free(old);
    return st;
}

/* ---- replayed turns ---- */
struct turn_row {
    struct digest key;
    uint64_t last_used_ms, bytes;
};
struct turn_rows {
    struct turn_row *rows;
    size_t n, cap;
    uint64_t bytes;
    bool failed;
};

static bool take_row(const struct store_pin *pin, void *arg)
{
    struct turn_rows *r = arg;
    if (line_owns(pin))
        return true; /* of a session: it goes with the last that has it */
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 256;
        struct turn_row *grown = mem_try_resize(r->rows, cap, sizeof *grown);
        if (!grown) {
            r->failed = true;
            return false;
        }
        r->rows = grown;
        r->cap = cap;
    }
    r->rows[r->n++] = (struct turn_row){pin->key, pin->last_used_ms, pin->record_bytes};
    r->bytes += pin->record_bytes;
    return true;
}

static int oldest_first(const void *a, const void *b)
{
    const struct turn_row *x = a, *y = b;
    if (x->last_used_ms != y->last_used_ms)
        return x->last_used_ms < y->last_used_ms ? -1 : 1;
    return memcmp(&x->key, &y->key, sizeof x->key);
}

static enum status expire_turns(struct sessions *b, int64_t before, uint64_t bytes_max,
                                uint32_t *n_gone, struct err *e)
{
    struct turn_rows r = {0};
    enum status st = store_each(b->store, RECORD_TOKENS, take_row, &r, e);
    if (st == OK && r.failed)
        st = err_set(e, E_NOMEM, "no memory to expire turns");
    if (st == OK && r.n > 0)
        qsort(r.rows, r.n, sizeof *r.rows, oldest_first);
    for (size_t i = 0; i < r.n && st == OK && !is_closing(b); i++) {
        bool is_old = before > 0 && r.rows[i].last_used_ms < (uint64_t)before * 1000;
        if (!is_old && (bytes_max == 0 || r.bytes <= bytes_max))
            break;
        session_erase_key(b, &r.rows[i].key);
        r.bytes -= r.rows[i].bytes;
        (*n_gone)++;
    }
    mem_free(r.rows);
    return st;
}

/* ---- the doors ---- */
enum status sessions_expire(struct sessions *b, const struct session_expiry *o,
                            struct session_expired *out, struct err *e)
{
    *out = (struct session_expired){0};
    enum status st = book_may_write(b, e);
    if (st == OK && o->sessions_before > 0)
        st = expire_sessions(b, o->tenant, o->sessions_before, &out->n_sessions, e);
    if (st == OK && (o->turns_before > 0 || o->turn_bytes_max > 0))
        st = expire_turns(b, o->turns_before, o->turn_bytes_max, &out->n_turns, e);
    return st;
}

static int64_t days_ago(uint32_t days)
{
    return days ? clock_unix_s() - (int64_t)days * DAY_S : 0;
}

/* False: the book is being closed. */
static bool wait_a_while(struct sessions *b)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += EXPIRE_EVERY_S;
    pthread_mutex_lock(&b->mutex);
    while (!b->is_closing && pthread_cond_timedwait(&b->closing, &b->mutex, &until) == 0)
        ;
    bool goes_on = !b->is_closing;
    pthread_mutex_unlock(&b->mutex);
    return goes_on;
}

void expire_until_closed(struct sessions *b)
{
    const struct sessions_options *o = &b->options;
    if (o->is_read_only || (!o->turn_days && !o->session_days && !o->turn_bytes_max))
        return;
    do {
        struct session_expired gone;
        struct err e;
        struct session_expiry x = {SESSION_TENANT_ALL, days_ago(o->session_days),
                                   days_ago(o->turn_days), o->turn_bytes_max};
        if (sessions_expire(b, &x, &gone, &e) != OK)
            log_warn("session", "expiry: %s", e.msg);
        else if (gone.n_sessions + gone.n_turns > 0)
            log_info("session", "expired sessions=%u turns=%u", gone.n_sessions, gone.n_turns);
    } while (wait_a_while(b));
}
