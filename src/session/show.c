/* SPDX-License-Identifier: MIT
 * show.c — commands as JSON: HTTP, the control socket and `kvasir store` say the same here. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "os/clock.h"
#include "session/session_int.h"

#define EXPIRE_DAYS_MAX 36500
#define LIST_DEFAULT    100u
#define LIST_MAX        1000u
#define TREE_MAX        10000u /* forks shown beneath one session */
#define TREE_DEPTH      (JSON_WRITER_DEPTH_MAX / 2 - 4)

/* ---- one session ---- */
static void put_text(struct json_writer *w, const char *key, const char *text)
{
    jw_key(w, key);
    jw_text(w, text);
}

static void put_int(struct json_writer *w, const char *key, int64_t v)
{
    jw_key(w, key);
    jw_int(w, v);
}

int64_t session_updated(const struct session *s)
{
    return s->follows && s->line && s->line->updated > s->updated ? s->line->updated : s->updated;
}

/* The members, without the braces. */
static void write_members(const struct sessions *b, const struct session *s, struct json_writer *w)
{
    char id[2 * SESSION_ID_BYTES + 1];
    uint32_t n_tokens, n_messages;
    const struct session *parent = id_is_zero(&s->parent_id) ? NULL : book_by_id(b, &s->parent_id);
    session_end(s, &n_tokens, &n_messages);
    id_hex(&s->id, id);
    put_text(w, "object", "session");
    put_text(w, "name", s->name);
    put_text(w, "id", id);
    put_text(w, "tag", s->tag);
    jw_key(w, "pinned");
    jw_bool(w, s->pin != NULL);
    put_text(w, "pin_reason", s->pin);
    put_text(w, "response_id", s->response);
    bool has_origin = s->origin->model[0] != '\0'; /* not before its first turn */
    put_text(w, "model", has_origin ? s->origin->model : NULL);
    put_text(w, "kv_type", has_origin ? s->origin->kv_type : NULL);
    put_int(w, "tokens", n_tokens);
    put_int(w, "messages", n_messages);
    if (id_is_zero(&s->parent_id)) {
        put_text(w, "parent", NULL);
        put_text(w, "forked_at", NULL);
    } else {
        char parent_id[2 * SESSION_ID_BYTES + 1];
        id_hex(&s->parent_id, parent_id);
        put_text(w, "parent",
                 parent && parent->name       ? parent->name
                 : parent && parent->response ? parent->response
                                              : parent_id);
        put_int(w, "forked_at", s->at);
    }
    jw_key(w, "imported");
    jw_bool(w, s->is_imported);
    put_int(w, "created", s->created);
    put_int(w, "updated", session_updated(s));
}

void session_write(const struct sessions *b, const struct session *s, struct json_writer *w)
{
    jw_begin_object(w);
    write_members(b, s, w);
    jw_end_object(w);
}

/* ---- list ---- */
struct listed {
    const struct session *s;
    int64_t updated;
};

/* Newest first; ids make the order whole. */
static int newest_first(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    if (x->updated != y->updated)
        return x->updated > y->updated ? -1 : 1;
    return memcmp(&x->s->id, &y->s->id, sizeof x->s->id);
}

struct list_request {
    uint32_t tenant, limit;
    struct slice after, tag, prefix;
    bool with_responses;
};

static bool is_wanted(const struct session *s, const struct list_request *r)
{
    if (s->tenant != r->tenant || (!s->name && !r->with_responses))
        return false;
    if (r->tag.len && !(s->tag && slice_is(r->tag, s->tag)))
        return false;
    return !r->prefix.len || (s->name && slice_starts(slice_of(s->name), r->prefix));
}

/* The cursor is "updated.id" of the last one shown: it holds also when that one has gone. */
static bool parse_cursor(struct slice after, struct session *at, int64_t *updated)
{
    int64_t v = 0;
    size_t i = 0;
    for (; i < after.len && i < 18 && after.ptr[i] >= '0' && after.ptr[i] <= '9'; i++)
        v = v * 10 + (after.ptr[i] - '0');
    *updated = v;
    return i > 0 && i < after.len && after.ptr[i] == '.' &&
           id_from_hex(&at->id, (struct slice){after.ptr + i + 1, after.len - i - 1});
}

/* The newest `cap` of what was offered: a heap whose root is the oldest of them. */
struct newest {
    struct listed *at;
    size_t n, cap;
};

static void sift_down(struct newest *h, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && newest_first(&h->at[child], &h->at[child + 1]) < 0)
            child++;
        if (newest_first(&h->at[i], &h->at[child]) >= 0)
            return;
        struct listed t = h->at[i];
        h->at[i] = h->at[child];
        h->at[child] = t;
    }
}

static void offer(struct newest *h, const struct listed *x)
{
    if (h->n < h->cap) {
        h->at[h->n++] = *x;
        if (h->n == h->cap)
            for (size_t i = h->n / 2; i-- > 0;)
                sift_down(h, i);
    } else if (newest_first(x, &h->at[0]) < 0) {
        h->at[0] = *x;
        sift_down(h, 0);
    }
}

static void write_page(const struct sessions *b, const struct newest *page, size_t total,
                       uint32_t limit, struct buf *out)
{
    struct json_writer w;
    bool is_more = page->n > limit;
    size_t n = is_more ? limit : page->n;
    jw_init(&w, out);
    jw_begin_object(&w);
    put_text(&w, "object", "list");
    jw_key(&w, "data");
    jw_begin_array(&w);
    for (size_t i = 0; i < n; i++)
        session_write(b, page->at[i].s, &w);
    jw_end_array(&w);
    put_int(&w, "total", (int64_t)total);
    jw_key(&w, "has_more");
    jw_bool(&w, is_more);
    char cursor[64] = "", id[2 * SESSION_ID_BYTES + 1];
    if (is_more) {
        id_hex(&page->at[n - 1].s->id, id);
        snprintf(cursor, sizeof cursor, "%lld.%s", (long long)page->at[n - 1].updated, id);
    }
    put_text(&w, "next", is_more ? cursor : NULL);
    jw_end_object(&w);
}

static enum status list(struct sessions *b, const struct list_request *r, struct buf *out,
                        struct err *e)
{
    struct session cursor = {0};
    struct listed after = {.s = &cursor};
    struct newest page = {.cap = (size_t)r->limit + 1}; /* one more says that there are more */
    size_t total = 0;
    if (r->after.len && !parse_cursor(r->after, &cursor, &after.updated))
        return err_set(e, E_INVALID, "after: not a place that \"next\" named");
    page.at = mem_try_new(page.cap, sizeof *page.at);
    if (!page.at)
        return err_set(e, E_NOMEM, "no memory to list %u sessions", r->limit);
    for (uint32_t i = 0; i < b->n_all; i++) {
        if (!is_wanted(b->all[i], r))
            continue;
        struct listed x = {b->all[i], session_updated(b->all[i])};
        total++;
        if (!r->after.len || newest_first(&x, &after) > 0)
            offer(&page, &x);
    }
    qsort(page.at, page.n, sizeof *page.at, newest_first);
    write_page(b, &page, total, r->limit, out);
    mem_free(page.at);
    return OK;
}

/* ---- show ---- */
#define NO_CHILD UINT32_MAX
struct tree {
    const struct sessions *b;
    uint32_t n_left;
    struct map first; /* by the parent's id: place in b->all of its first child */
    uint32_t *next;   /* [b->n_all]: of the same parent's next one */
};

static void tree_release(struct tree *t)
{
    map_release(&t->first);
    mem_free(t->next);
}

/* Who hangs under whom, in one pass: a session may have 100,000 forks. */
static enum status tree_init(struct tree *t, const struct sessions *b, struct err *e)
{
    *t = (struct tree){.b = b, .n_left = TREE_MAX};
    t->next = mem_try_new((size_t)b->n_all + 1, sizeof *t->next);
    enum status st = t->next ? OK : E_NOMEM;
    for (uint32_t i = b->n_all; i-- > 0 && st == OK;) {
        uint64_t after = NO_CHILD;
        if (id_is_zero(&b->all[i]->parent_id))
            continue;
        struct digest key = id_digest(&b->all[i]->parent_id);
        t->next[i] = map_get(&t->first, &key, &after) ? (uint32_t)after : NO_CHILD;
        st = map_put(&t->first, &key, i);
    }
    if (st != OK)
        tree_release(t);
    return st == OK ? OK : err_set(e, E_NOMEM, "no memory to show a session");
}

/* Forks and following responses beneath a session. */
static void write_children(struct tree *t, const struct session *parent, uint32_t depth,
                           struct json_writer *w)
{
    jw_key(w, "forks");
    jw_begin_array(w);
    struct digest key = id_digest(&parent->id);
    uint64_t at = NO_CHILD;
    if (!map_get(&t->first, &key, &at))
        at = NO_CHILD;
    for (; at != NO_CHILD && t->n_left > 0 && depth < TREE_DEPTH; at = t->next[at]) {
        const struct session *s = t->b->all[at];
        t->n_left--;
        jw_begin_object(w);
        write_members(t->b, s, w);
        write_children(t, s, depth + 1, w);
        jw_end_object(w);
    }
    jw_end_array(w);
}

/* Messages as an array: their lines with commas between. */
static void write_messages(const struct session_content *c, struct json_writer *w)
{
    jw_begin_array(w);
    for (size_t at = 0; at < c->messages_bytes;) {
        const char *end = memchr(c->messages + at, '\n', c->messages_bytes - at);
        size_t n = end ? (size_t)(end - c->messages) - at : c->messages_bytes - at;
        jw_raw(w, (struct slice){c->messages + at, n});
        at += n + 1;
    }
    jw_end_array(w);
}

static enum status show(struct sessions *b, uint32_t tenant, struct slice which, bool with_messages,
                        struct buf *out, struct err *e)
{
    struct session_content c = {0};
    struct json_writer w;
    enum status st = OK;
    if (with_messages)
        st = sessions_read(b, tenant, which, SESSION_WANT_MESSAGES, &c, e);
    if (st == OK)
        st = book_enter(b, e);
    if (st != OK) {
        session_content_release(&c);
        return st;
    }
    const struct session *s = book_find(b, tenant, which);
    struct tree tree;
    st = s ? tree_init(&tree, b, e)
           : err_set(e, E_NOT_FOUND, "no session or response " SLICE_FMT, SLICE_ARG(which));
    if (st == OK) {
        jw_init(&w, out);
        jw_begin_object(&w);
        write_members(b, s, &w);
        write_children(&tree, s, 0, &w);
        if (with_messages) {
            jw_key(&w, "history");
            write_messages(&c, &w);
            jw_key(&w, "damaged");
            jw_bool(&w, c.is_cut);
        }
        jw_end_object(&w);
        tree_release(&tree);
    }
    book_leave(b);
    session_content_release(&c);
    return st;
}

/* ---- from a request to one of them ---- */
static enum status text_of(const struct json *r, const char *key, bool must, struct slice *out,
                           struct err *e)
{
    const struct json *v = json_get(r, key);
    *out = (struct slice){0};
    if (!v || v->kind == JSON_NULL)
        return must ? err_set(e, E_INVALID, "\"%s\" is missing", key) : OK;
    if (v->kind != JSON_STRING)
        return err_set(e, E_INVALID, "\"%s\" must be a string", key);
    *out = v->text;
    return OK;
}

static enum status place_of(const struct json *r, struct fork_place *out, struct err *e)
{
    const struct json *v = json_get(r, "at"), *n = v;
    *out = (struct fork_place){0};
    if (!v || v->kind == JSON_NULL)
        return OK;
    if (v->kind == JSON_OBJECT) {
        out->by_message = json_get(v, "message") != NULL;
        n = json_get(v, out->by_message ? "message" : "token");
    }
    if (!n || n->kind != JSON_INT || n->integer < 1 || n->integer > SESSION_TOKENS_MAX)
        return err_set(e, E_INVALID,
                       "\"at\" must be a count of tokens, {\"token\": n} or "
                       "{\"message\": n}");
    out->is_given = true;
    out->value = (uint32_t)n->integer;
    return OK;
}

static bool flag_of(const struct json *r, const char *key)
{
    const struct json *v = json_get(r, key);
    return v && v->kind == JSON_BOOL && v->boolean;
}

static enum status run_list(struct sessions *b, uint32_t tenant, const struct json *r,
                            struct buf *out, struct err *e)
{
    struct list_request l = {.tenant = tenant, .limit = LIST_DEFAULT};
    const struct json *limit = json_get(r, "limit");
    enum status st = text_of(r, "after", false, &l.after, e);
    if (st == OK)
        st = text_of(r, "tag", false, &l.tag, e);
    if (st == OK)
        st = text_of(r, "prefix", false, &l.prefix, e);
    if (st == OK && limit && limit->kind != JSON_NULL) {
        if (limit->kind != JSON_INT || limit->integer < 1 || limit->integer > LIST_MAX)
            return err_set(e, E_INVALID, "\"limit\" must be 1 to %u", LIST_MAX);
        l.limit = (uint32_t)limit->integer;
    }
    l.with_responses = flag_of(r, "responses");
    if (st == OK)
        st = book_enter(b, e);
    if (st != OK)
        return st;
    st = list(b, &l, out, e);
    book_leave(b);
    return st;
}

static enum status run_create(struct sessions *b, uint32_t tenant, struct slice name,
                              const struct json *r, struct buf *out, struct err *e)
{
    struct slice tag;
    enum status st = text_of(r, "tag", false, &tag, e);
    return st == OK ? session_create(b, tenant, name, tag, out, e) : st;
}

static enum status run_fork(struct sessions *b, uint32_t tenant, struct slice which,
                            const struct json *r, struct buf *out, struct err *e)
{
    struct slice name;
    struct fork_place at;
    enum status st = text_of(r, "as", false, &name, e);
    if (st == OK)
        st = place_of(r, &at, e);
    return st == OK ? session_fork(b, tenant, which, name, at, out, e) : st;
}

static enum status run_change(struct sessions *b, uint32_t tenant, struct slice which,
                              struct slice op, const struct json *r, struct buf *out, struct err *e)
{
    struct slice value;
    bool is_rename = slice_is(op, "rename");
    const char *key = is_rename ? "to" : slice_is(op, "tag") ? "tag" : "reason";
    enum status st = text_of(r, key, is_rename, &value, e);
    return st == OK ? session_change(b, tenant, which, op, value, out, e) : st;
}

static enum status run_delete(struct sessions *b, uint32_t tenant, struct slice which,
                              struct buf *out, struct err *e)
{
    struct json_writer w;
    enum status st = session_delete(b, tenant, which, INT64_MAX, e);
    if (st != OK)
        return st;
    jw_init(&w, out);
    jw_begin_object(&w);
    put_text(&w, "object", "session.deleted");
    jw_key(&w, "name");
    jw_string(&w, which);
    jw_key(&w, "deleted");
    jw_bool(&w, true);
    jw_end_object(&w);
    return OK;
}

static enum status run_expire(struct sessions *b, uint32_t tenant, const struct json *r,
                              struct buf *out, struct err *e)
{
    const struct json *days = json_get(r, "days");
    if (!days || days->kind != JSON_INT || days->integer < 1 || days->integer > EXPIRE_DAYS_MAX)
        return err_set(e, E_INVALID, "\"days\" must be 1 to %d", EXPIRE_DAYS_MAX);
    int64_t before = clock_unix_s() - days->integer * 86400;
    const struct json *turns = json_get(r, "turns"); /* of all tenants: not for everybody */
    bool with_turns = !turns || turns->kind != JSON_BOOL || turns->boolean;
    struct session_expiry x = {
        .tenant = tenant, .sessions_before = before, .turns_before = with_turns ? before : 0};
    struct session_expired gone;
    struct json_writer w;
    enum status st = sessions_expire(b, &x, &gone, e);
    if (st != OK)
        return st;
    jw_init(&w, out);
    jw_begin_object(&w);
    put_text(&w, "object", "session.expired");
    put_int(&w, "sessions", gone.n_sessions);
    put_int(&w, "turns", gone.n_turns);
    jw_end_object(&w);
    return OK;
}

static bool is_change(struct slice op)
{
    return slice_is(op, "pin") || slice_is(op, "unpin") || slice_is(op, "tag") ||
           slice_is(op, "rename");
}

static enum status dispatch(struct sessions *b, uint32_t tenant, const struct json *r,
                            struct buf *out, struct err *e)
{
    struct slice op, name;
    enum status st = text_of(r, "op", true, &op, e);
    if (st != OK)
        return st;
    if (slice_is(op, "list"))
        return run_list(b, tenant, r, out, e);
    if (slice_is(op, "expire"))
        return run_expire(b, tenant, r, out, e);
    st = text_of(r, "name", true, &name, e);
    if (st != OK)
        return st;
    if (slice_is(op, "show"))
        return show(b, tenant, name, flag_of(r, "history"), out, e);
    if (slice_is(op, "create"))
        return run_create(b, tenant, name, r, out, e);
    if (slice_is(op, "fork"))
        return run_fork(b, tenant, name, r, out, e);
    if (slice_is(op, "public")) {
        struct fork_place at;
        st = place_of(r, &at, e);
        if (st == OK && at.by_message)
            st = err_set(e, E_INVALID, "public: \"at\" is a count of tokens");
        return st == OK ? sessions_publish(b, tenant, name, at.value, out, e) : st;
    }
    if (slice_is(op, "delete"))
        return run_delete(b, tenant, name, out, e);
    if (is_change(op))
        return run_change(b, tenant, name, op, r, out, e);
    return err_set(e, E_INVALID, "there is no \"%.40s\"", op.ptr ? op.ptr : "");
}

enum status sessions_command(struct sessions *b, uint32_t tenant, const struct json *request,
                             struct buf *out, struct err *e)
{
    size_t before = out->len;
    enum status st = dispatch(b, tenant, request, out, e);
    if (st == OK && out->failed)
        st = err_set(e, E_LIMIT, "the answer is too long; ask for less");
    if (st != OK)
        out->len = before;
    return st;
}
