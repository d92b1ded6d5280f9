/* SPDX-License-Identifier: MIT
 * fork.c — what changes a session: create, fork, pin, unpin, tag, rename, delete.
 * A fork is one record: it names its parent's line and a place in it, so that it costs neither
 * token ids nor KV, however long the conversation is.  Each change is durable when it is answered.
 */
#include "base/check.h"
#include "base/mem.h"
#include "os/clock.h"
#include "session/session_int.h"
#include "text/utf8.h"

static enum status not_found(struct slice which, struct err *e)
{
    return err_set(e, E_NOT_FOUND, "no session or response " SLICE_FMT, SLICE_ARG(which));
}

static enum status check_name(const struct sessions *b, uint32_t tenant, struct slice name,
                              struct err *e)
{
    if (!session_name_is_good(name))
        return err_set(e, E_INVALID, "a session's name has 1 to %u of letters, digits, -_.:@/+=~",
                       SESSION_NAME_BYTES_MAX);
    return book_find(b, tenant, name)
               ? err_set(e, E_EXISTS, "there is a session " SLICE_FMT " already", SLICE_ARG(name))
               : OK;
}

static enum status check_text(struct slice text, size_t max, const char *what, struct err *e)
{
    if (text.len > max || utf8_valid_prefix(text.ptr, text.len) != text.len)
        return err_set(e, E_INVALID, "%s: at most %zu bytes of UTF-8", what, max);
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7f)
            return err_set(e, E_INVALID, "%s: no control characters", what);
    return OK;
}

static void answer(struct sessions *b, const struct session *s, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    session_write(b, s, &w);
}

/* Writes a new session's record, then adds it: *s is the book's.  Under `writing`. */
static enum status add_durably(struct sessions *b, struct session **s, struct buf *out,
                               struct err *e)
{
    struct write_group group;
    write_begin(&group);
    session_put(b, *s, &group);
    enum status st = write_wait(&group, e);
    if (st != OK)
        return st;
    pthread_mutex_lock(&b->mutex);
    st = book_add(b, *s, e);
    if (st == OK) {
        answer(b, *s, out);
        *s = NULL;
    }
    pthread_mutex_unlock(&b->mutex);
    return st;
}

/* ---- create ---- */
/* A name with nothing under it: no tokens, and no model before the first turn. */
static enum status begin_empty(struct sessions *b, uint32_t tenant, struct slice name,
                               struct slice tag, struct session **out, struct err *e)
{
    static const struct session_origin none = {.model = "", .kv_type = ""};
    enum status st = book_enter(b, e);
    if (st != OK)
        return st;
    const struct origin *origin = origin_of(b, &none);
    st = check_name(b, tenant, name, e);
    if (st == OK)
        st = check_text(tag, SESSION_TAG_BYTES_MAX, "tag", e);
    if (st == OK && !origin)
        st = err_set(e, E_LIMIT, "sessions of more than %u models", ORIGINS_MAX);
    struct session *s = st == OK ? mem_try_new(1, sizeof *s) : NULL;
    if (st == OK && !s)
        st = err_set(e, E_NOMEM, "no memory for a session");
    if (s) {
        *s = (struct session){.tenant = tenant,
                              .origin = origin,
                              .name = mem_text(name.ptr, name.len),
                              .tag = tag.len ? mem_text(tag.ptr, tag.len) : NULL,
                              .salt = b->tenants[tenant]->salt,
                              .created = clock_unix_s()};
        s->updated = s->created;
        id_make(&s->id);
        *out = s;
    }
    book_leave(b);
    return st;
}

enum status session_create(struct sessions *b, uint32_t tenant, struct slice name, struct slice tag,
                           struct buf *out, struct err *e)
{
    struct session *s = NULL;
    enum status st = book_may_write(b, e);
    if (st != OK)
        return st;
    pthread_mutex_lock(&b->writing);
    st = begin_empty(b, tenant, name, tag, &s, e);
    if (st == OK)
        st = add_durably(b, &s, out, e);
    pthread_mutex_unlock(&b->writing);
    session_free(s);
    return st;
}

/* ---- fork ---- */
/* Where in the parent: rows say which message ends where. */
static enum status find_place(struct sessions *b, const struct span_list *spans,
                              struct fork_place at, uint32_t *n_tokens, uint32_t *n_messages,
                              struct err *e)
{
    struct line_content c;
    enum status st = line_read(b, spans, 0, &c, e);
    if (st != OK)
        return st;
    if (at.by_message) {
        if (at.value < 1 || at.value > c.n_messages)
            st = err_set(e, E_INVALID, "message %u: there are %u", at.value, c.n_messages);
        else if (c.rows[at.value - 1].end == 0)
            st = err_set(e, E_INVALID,
                         "message %u has no place of its own among the tokens; fork at a token",
                         at.value);
        if (st == OK) {
            *n_tokens = c.rows[at.value - 1].end;
            *n_messages = at.value;
        }
    } else if (at.value < 1 || at.value > c.n_tokens) {
        st = err_set(e, E_INVALID, "token %u: there are %u", at.value, c.n_tokens);
    } else {
        uint32_t n = 0;
        for (uint32_t i = 0; i < c.n_messages; i++)
            if (c.rows[i].end > 0 && c.rows[i].end <= at.value)
                n = i + 1;
        *n_tokens = at.value;
        *n_messages = n;
    }
    line_content_release(&c);
    return st;
}

static void free_name(const struct sessions *b, uint32_t tenant, const struct session *parent,
                      struct buf *name)
{
    const char *base = parent->name       ? parent->name
                       : parent->response ? parent->response
                                          : "session";
    for (uint32_t i = 1; i < SESSIONS_MAX; i++) {
        buf_clear(name);
        buf_printf(name, "%.*s-fork-%u", (int)(SESSION_NAME_BYTES_MAX - 16), base, i);
        if (!book_find(b, tenant, buf_slice(name)))
            return;
    }
}

static enum status begin_fork(struct sessions *b, uint32_t tenant, struct slice which,
                              struct slice name, struct session **out, struct span_list *spans,
                              struct err *e)
{
    enum status st = book_enter(b, e);
    if (st != OK)
        return st;
    struct buf made;
    buf_init(&made, SESSION_NAME_BYTES_MAX + 1);
    const struct session *parent = book_find(b, tenant, which);
    if (!parent)
        st = not_found(which, e);
    if (st == OK && name.len == 0) {
        free_name(b, tenant, parent, &made);
        name = buf_slice(&made);
    }
    if (st == OK)
        st = check_name(b, tenant, name, e);
    struct session *s = st == OK ? mem_try_new(1, sizeof *s) : NULL;
    if (st == OK && !s)
        st = err_set(e, E_NOMEM, "no memory for a session");
    if (st == OK) {
        *s = (struct session){.tenant = tenant,
                              .origin = parent->origin,
                              .name = mem_text(name.ptr, name.len),
                              .parent_id = parent->id,
                              .line = parent->line,
                              .line_id = parent->line_id,
                              .is_imported = parent->is_imported,
                              .salt = parent->salt,
                              .created = clock_unix_s()};
        s->updated = s->created;
        id_make(&s->id);
        session_end(parent, &s->n_tokens, &s->n_messages);
        st = line_spans(parent->line, s->n_tokens, s->n_messages, spans, e);
        *out = s;
    }
    buf_release(&made);
    book_leave(b);
    return st;
}

enum status session_fork(struct sessions *b, uint32_t tenant, struct slice which, struct slice name,
                         struct fork_place at, struct buf *out, struct err *e)
{
    struct session *s = NULL;
    struct span_list spans = {0};
    enum status st = book_may_write(b, e);
    if (st != OK)
        return st;
    pthread_mutex_lock(&b->writing);
    st = begin_fork(b, tenant, which, name, &s, &spans, e);
    if (st == OK && at.is_given)
        st = find_place(b, &spans, at, &s->n_tokens, &s->n_messages, e);
    if (st == OK) {
        s->at = s->n_tokens;
        st = add_durably(b, &s, out, e);
    }
    pthread_mutex_unlock(&b->writing);
    mem_free(spans.spans);
    session_free(s);
    return st;
}

/* ---- pin, tag, rename ---- */
static char *text_or_null(struct slice text)
{
    return text.len ? mem_text(text.ptr, text.len) : NULL;
}

/* Sets one field of a copy. */
static enum status change_copy(struct sessions *b, struct session *s, struct slice op,
                               struct slice value, struct err *e)
{
    enum status st = OK;
    if (slice_is(op, "pin")) {
        st = check_text(value, SESSION_REASON_BYTES_MAX, "reason", e);
        mem_free(s->pin);
        s->pin = st == OK ? mem_text(value.ptr ? value.ptr : "", value.len) : NULL;
    } else if (slice_is(op, "unpin")) {
        mem_free(s->pin);
        s->pin = NULL;
    } else if (slice_is(op, "tag")) {
        st = check_text(value, SESSION_TAG_BYTES_MAX, "tag", e);
        mem_free(s->tag);
        s->tag = st == OK ? text_or_null(value) : NULL;
    } else {
        st = check_name(b, s->tenant, value, e);
        mem_free(s->name);
        s->name = st == OK ? text_or_null(value) : NULL;
    }
    return st;
}

static void swap(char **a, char **b)
{
    char *t = *a;
    *a = *b;
    *b = t;
}

enum status session_change(struct sessions *b, uint32_t tenant, struct slice which, struct slice op,
                           struct slice value, struct buf *out, struct err *e)
{
    enum status st = book_may_write(b, e);
    if (st != OK)
        return st;
    pthread_mutex_lock(&b->writing);
    st = book_enter(b, e);
    struct session *s = NULL, *copy = NULL;
    if (st == OK) {
        s = book_find(b, tenant, which);
        copy = s ? session_copy(s) : NULL;
        if (!s)
            st = not_found(which, e);
        else if (!copy)
            st = err_set(e, E_NOMEM, "no memory for a session");
        else
            st = change_copy(b, copy, op, value, e);
        book_leave(b);
    }
    if (st == OK) {
        struct write_group group;
        write_begin(&group);
        session_put(b, copy, &group);
        st = write_wait(&group, e);
    }
    if (st == OK) { /* `writing` kept s where it is */
        pthread_mutex_lock(&b->mutex);
        book_index_name(b, s, false);
        swap(&s->name, &copy->name);
        swap(&s->tag, &copy->tag);
        swap(&s->pin, &copy->pin);
        book_index_name(b, s, true);
        answer(b, s, out);
        pthread_mutex_unlock(&b->mutex);
        if (slice_is(op, "pin") || slice_is(op, "unpin"))
            pins_update(b, &s->id);
    }
    pthread_mutex_unlock(&b->writing);
    session_free(copy);
    return st;
}

/* ---- delete ---- */
enum status session_delete(struct sessions *b, uint32_t tenant, struct slice which, int64_t before,
                           struct err *e)
{
    enum status st = book_may_write(b, e);
    if (st != OK)
        return st;
    struct session_content c[1 + LINES_LEFT_MAX] = {0};
    uint32_t n = 0;
    pthread_mutex_lock(&b->writing);
    st = book_enter(b, e);
    struct session *s = NULL;
    if (st == OK) {
        s = book_find(b, tenant, which);
        if (!s)
            st = not_found(which, e);
        else if (before != INT64_MAX && (s->pin || session_updated(s) >= before))
            st = err_set(e, E_BUSY, SLICE_FMT " is in use", SLICE_ARG(which));
        book_leave(b);
    }
    if (st == OK) {
        struct err why; /* what is too damaged to be read is not erased page by page */
        n += sessions_read(b, tenant, which, SESSION_WANT_TOKENS | SESSION_WANT_MESSAGES, &c[n],
                           &why) == OK;
        for (uint32_t i = 0; i < s->n_left; i++)
            n += left_read(b, s, s->left[i], &c[n]);
        struct digest key = session_key(&s->id);
        st = store_delete_wait(b->store, &key, e);
    }
    if (st == OK) {
        pthread_mutex_lock(&b->mutex);
        book_remove(b, s);
        pthread_mutex_unlock(&b->mutex);
        pins_tell(b);
        for (uint32_t i = 0; i < n; i++)
            left_erase(b, &c[i]);
    }
    pthread_mutex_unlock(&b->writing);
    for (uint32_t i = 0; i < n; i++)
        session_content_release(&c[i]);
    return st;
}
