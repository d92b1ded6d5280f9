/* SPDX-License-Identifier: MIT
 * kvx_import.c — frames to sessions.  Two orders make it atomic: pages go to the store as they
 * come, under names that nobody can look up yet (a fresh salt); the sessions' records, which make
 * them reachable, are written last, in one batch, after the file's own end was read and its digest
 * compared. What fails before leaves pages behind for which a deletion is queued. */
#include <stdio.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/prng.h"
#include "os/clock.h"
#include "session/kvx_int.h"

#define ARENA_BYTES (256u << 20) /* of one message, parsed to see that it is one */
#define PAGES_MAX   (1u << 22)
#define NAME_TRIES  1000u

struct in_session {
    struct session s; /* texts are owned */
    int64_t parent;
    uint32_t n_tokens, n_messages;
    size_t n_text;
    uint32_t *tokens;
    uint8_t *rows;
    char *text;
    size_t got_tokens, got_rows, got_text; /* bytes */
    struct kvx_chain chain;
    bool has_chain;
};

struct reader {
    struct sessions *b;
    const struct kvx_import *o;
    struct digester digester;
    struct digest sum; /* of all before the present frame */
    uint64_t n_frames;
    uint8_t *frame; /* [KVX_FRAME_MAX] grows */
    size_t cap_frame;
    struct session_origin origin;
    char model[ORIGIN_MODEL_BYTES], kv_type[8];
    uint32_t n_declared;
    bool has_head, is_over, takes_pages;
    struct in_session *sessions;
    uint32_t n_sessions;
    struct digest salt;
    struct digest *keys; /* of pages written */
    uint32_t n_keys, cap_keys, n_pages;
};

static enum status bad(struct err *e, const char *what)
{
    return err_set(e, E_CORRUPT, "not a whole .kvx file: %s", what);
}

/* ---- bytes ---- */
static enum status read_exact(struct reader *r, void *to, size_t n, struct err *e)
{
    for (size_t at = 0; at < n;) {
        size_t got = 0;
        enum status st = r->o->read(r->o->arg, (char *)to + at, n - at, &got, e);
        if (st != OK)
            return st;
        if (got == 0)
            return bad(e, "it ends too early");
        at += got;
    }
    return OK;
}

/* The payload grows as it comes: a length alone makes nobody allocate. */
static enum status read_payload(struct reader *r, size_t n, struct err *e)
{
    for (size_t at = 0; at < n;) {
        size_t piece = n - at < KVX_PIECE ? n - at : KVX_PIECE;
        if (at + piece > r->cap_frame) {
            size_t cap = r->cap_frame ? r->cap_frame * 2 : KVX_PIECE;
            uint8_t *grown = mem_try_resize(r->frame, cap, 1);
            if (!grown)
                return err_set(e, E_NOMEM, "no memory for a frame of %zu bytes", n);
            r->frame = grown;
            r->cap_frame = cap;
            continue;
        }
        enum status st = read_exact(r, r->frame + at, piece, e);
        if (st != OK)
            return st;
        at += piece;
    }
    return OK;
}

/* The last frame holds the digest of all bytes before it, so it is not part of it. */
static enum status next_frame(struct reader *r, uint32_t *type, size_t *n, struct err *e)
{
    uint8_t head[KVX_FRAME_HEAD];
    struct checksum sum, own;
    enum status st = read_exact(r, head, sizeof head, e);
    if (st != OK)
        return st;
    *type = get_le32(head);
    uint64_t length = get_le64(head + 8);
    if (*type < KVX_HEAD || *type > KVX_END || get_le32(head + 4) != 0)
        return bad(e, "a frame of no known kind");
    if (length > KVX_FRAME_MAX)
        return bad(e, "a frame that is too long");
    *n = (size_t)length;
    st = read_payload(r, *n, e);
    if (st == OK)
        st = read_exact(r, &sum, sizeof sum, e);
    if (st != OK)
        return st;
    own = kvx_sum(head, r->frame, *n);
    if (!checksum_equal(own, sum))
        return bad(e, "a checksum differs");
    if (*type == KVX_END) {
        r->sum = digest_end(&r->digester);
        return OK;
    }
    digest_bytes(&r->digester, head, sizeof head);
    digest_bytes(&r->digester, r->frame, *n);
    digest_bytes(&r->digester, &sum, sizeof sum);
    r->n_frames++;
    return OK;
}

/* ---- JSON frames ---- */
static bool text_in(const struct json *v, const char *key, size_t max, struct slice *out)
{
    const struct json *m = json_get(v, key);
    *out = (struct slice){0};
    if (!m)
        return true;
    *out = m->text;
    if (m->kind != JSON_STRING || m->text.len > max)
        return false;
    for (size_t i = 0; i < m->text.len; i++)
        if ((unsigned char)m->text.ptr[i] < ' ' || m->text.ptr[i] == 0x7f)
            return false;
    return true;
}

static bool copy_in(const struct json *v, const char *key, size_t max, char **out)
{
    struct slice text;
    if (!text_in(v, key, max, &text))
        return false;
    *out = text.ptr ? mem_text(text.ptr, text.len) : NULL;
    return true;
}

static bool count_in(const struct json *v, const char *key, int64_t least, int64_t most,
                     int64_t *out)
{
    const struct json *m = json_get(v, key);
    *out = m ? m->integer : 0;
    return m && m->kind == JSON_INT && m->integer >= least && m->integer <= most;
}

static bool digest_in(const struct json *v, const char *key, struct digest *out)
{
    struct slice text;
    return text_in(v, key, 2 * DIGEST_BYTES, &text) && text.ptr &&
           digest_from_hex(out, text.ptr, text.len);
}

/* Is this file's model one that is served, or known, here? */
static enum status check_model(struct reader *r, struct err *e)
{
    bool is_known = false;
    const char *here = r->o->model;
    for (uint32_t i = 0; i < r->o->n_roots; i++)
        is_known = is_known || digest_equal(&r->o->roots[i], &r->origin.root);
    if (r->o->n_roots == 0 || r->o->takes_known) {
        pthread_mutex_lock(&r->b->mutex);
        is_known = is_known || (r->o->n_roots == 0 && r->b->n_origins == 0);
        for (uint32_t i = 0; i < r->b->n_origins; i++) {
            is_known = is_known || digest_equal(&r->b->origins[i]->root, &r->origin.root);
            here = r->b->origins[i]->model;
        }
        pthread_mutex_unlock(&r->b->mutex);
    }
    r->takes_pages = is_known && !r->o->tokens_only;
    if (is_known || r->o->tokens_only)
        return OK;
    return err_set(e, E_UNSUPPORTED,
                   "the file's pages are of model %s (%s), not of %s as it is here; --tokens-only "
                   "takes the conversation without them",
                   r->model, r->kv_type, here ? here : "the one");
}

static enum status take_head(struct reader *r, const struct json *v, struct err *e)
{
    int64_t version, n;
    struct slice model, kv_type;
    if (!count_in(v, "version", 1, INT64_MAX, &version))
        return bad(e, "its head");
    if (version > KVX_VERSION)
        return err_set(e, E_UNSUPPORTED, "the file is of a newer kvasir (version %lld)",
                       (long long)version);
    if (!text_in(v, "model", sizeof r->model - 1, &model) || !model.ptr ||
        !text_in(v, "kv_type", sizeof r->kv_type - 1, &kv_type) || !kv_type.ptr ||
        !digest_in(v, "root", &r->origin.root) || !digest_in(v, "identity", &r->origin.digest) ||
        !count_in(v, "sessions", 1, KVX_SESSIONS_MAX, &n))
        return bad(e, "its head");
    snprintf(r->model, sizeof r->model, SLICE_FMT, SLICE_ARG(model));
    snprintf(r->kv_type, sizeof r->kv_type, SLICE_FMT, SLICE_ARG(kv_type));
    r->origin.model = r->model;
    r->origin.kv_type = r->kv_type;
    r->n_declared = (uint32_t)n;
    r->has_head = true;
    return check_model(r, e);
}

static enum status take_session(struct reader *r, const struct json *v, struct err *e)
{
    int64_t n_tokens, n_messages, n_text, at, created;
    if (r->n_sessions == r->n_declared)
        return bad(e, "more sessions than it says");
    struct in_session *s = &r->sessions[r->n_sessions++];
    if (!copy_in(v, "name", SESSION_NAME_BYTES_MAX, &s->s.name) ||
        !copy_in(v, "response", SESSION_NAME_BYTES_MAX, &s->s.response) ||
        !copy_in(v, "tag", SESSION_TAG_BYTES_MAX, &s->s.tag) ||
        !copy_in(v, "pin", SESSION_REASON_BYTES_MAX, &s->s.pin) ||
        !count_in(v, "parent", -1, (int64_t)r->n_sessions - 2, &s->parent) ||
        !count_in(v, "at", 0, SESSION_TOKENS_MAX, &at) ||
        !count_in(v, "tokens", 0, SESSION_TOKENS_MAX, &n_tokens) ||
        !count_in(v, "messages", 0, SESSION_MESSAGES_MAX, &n_messages) ||
        !count_in(v, "text_bytes", 0, SESSION_JSON_MAX, &n_text) ||
        !count_in(v, "created", 0, INT64_MAX, &created))
        return bad(e, "a session's head");
    if ((s->s.name && !session_name_is_good(slice_of(s->s.name))) ||
        (s->s.response && !session_name_is_good(slice_of(s->s.response))))
        return bad(e, "a session's name");
    s->s.at = (uint32_t)at;
    s->s.created = created;
    s->n_tokens = (uint32_t)n_tokens;
    s->n_messages = (uint32_t)n_messages;
    s->n_text = (size_t)n_text;
    return OK;
}

static enum status take_json(struct reader *r, uint32_t type, size_t n, struct err *e)
{
    struct arena a;
    struct json *v;
    struct err why;
    arena_init(&a, 1u << 20);
    enum status st = n <= KVX_JSON_MAX
                         ? json_parse((struct slice){(const char *)r->frame, n}, &a, &v, &why)
                         : E_LIMIT;
    if (st != OK || v->kind != JSON_OBJECT)
        st = bad(e, "its head");
    else if (type == KVX_HEAD)
        st = r->has_head ? bad(e, "two heads") : take_head(r, v, e);
    else
        st = take_session(r, v, e);
    arena_release(&a);
    return st;
}

/* ---- tokens, rows, messages ---- */
static enum status append(void **to, size_t *got, size_t total, const void *bytes, size_t n,
                          struct err *e)
{
    if (n > total - *got)
        return bad(e, "more of a session than it says");
    size_t need = *got + n; /* grows with what came, not with what is promised */
    void *grown = mem_try_resize(*to, need + 1, 1);
    if (!grown)
        return err_set(e, E_NOMEM, "no memory for an import");
    memcpy((char *)grown + *got, bytes, n);
    *to = grown;
    *got = need;
    return OK;
}

static enum status take_piece(struct reader *r, uint32_t type, size_t n, struct err *e)
{
    if (r->n_sessions == 0)
        return bad(e, "tokens of no session");
    struct in_session *s = &r->sessions[r->n_sessions - 1];
    void *tokens = s->tokens, *rows = s->rows, *text = s->text;
    enum status st = OK;
    if (type == KVX_TOKENS)
        st = append(&tokens, &s->got_tokens, (size_t)s->n_tokens * 4, r->frame, n, e);
    else if (type == KVX_ROWS)
        st = append(&rows, &s->got_rows, (size_t)s->n_messages * LINE_ROW_BYTES, r->frame, n, e);
    else
        st = append(&text, &s->got_text, s->n_text, r->frame, n, e);
    s->tokens = tokens;
    s->rows = rows;
    s->text = text;
    return st;
}

/* ---- pages ---- */
static enum status remember_key(struct reader *r, const struct digest *key, struct err *e)
{
    if (r->n_keys == r->cap_keys) {
        uint32_t cap = r->cap_keys ? r->cap_keys * 2 : 256;
        struct digest *grown =
            cap <= PAGES_MAX ? mem_try_resize(r->keys, cap, sizeof *grown) : NULL;
        if (!grown)
            return err_set(e, E_LIMIT, "too many pages in one file");
        r->keys = grown;
        r->cap_keys = cap;
    }
    r->keys[r->n_keys++] = *key;
    return OK;
}

struct in_page {
    uint32_t session, group, page, n_tokens, depth, n_chunks;
    uint64_t layout;
    struct store_chunk chunks[KVX_PAGE_CHUNKS];
};

static bool parse_page(const uint8_t *f, size_t n, struct in_page *p)
{
    if (n < KVX_PAGE_HEAD)
        return false;
    p->session = get_le32(f);
    p->group = get_le32(f + 4);
    p->page = get_le32(f + 8);
    p->n_tokens = get_le32(f + 12);
    p->layout = get_le64(f + 16);
    p->depth = get_le32(f + 24);
    p->n_chunks = get_le32(f + 28);
    if (p->n_chunks > KVX_PAGE_CHUNKS || p->group >= PAGE_KEY_GROUPS || p->n_tokens < 1 ||
        p->n_tokens > PAGE_KEY_TOKENS || n - KVX_PAGE_HEAD < (size_t)p->n_chunks * 8)
        return false;
    size_t at = KVX_PAGE_HEAD + (size_t)p->n_chunks * 8;
    for (uint32_t i = 0; i < p->n_chunks; i++) {
        uint64_t len = get_le64(f + KVX_PAGE_HEAD + (size_t)i * 8);
        if (len > n - at)
            return false;
        p->chunks[i] = (struct store_chunk){f + at, len};
        at += (size_t)len;
    }
    return at == n;
}

static enum status put_page(struct reader *r, struct in_session *s, const struct in_page *p,
                            struct err *e)
{
    struct kvx_chain *c = &s->chain;
    struct digester *d = &c->digester;
    const uint32_t *tokens = s->tokens + (size_t)p->page * PAGE_KEY_TOKENS;
    struct digest end = p->n_tokens == PAGE_KEY_TOKENS
                            ? c->at[p->page + 1]
                            : page_key_chain(d, &c->owner, &c->at[p->page], tokens, p->n_tokens);
    /* As the cache writes them: see cache/persist.c. */
    uint8_t meta[8 + PAGE_KEY_TOKENS * 4];
    put_le32(meta, p->group);
    put_le32(meta + 4, p->n_tokens);
    memcpy(meta + 8, tokens, (size_t)p->n_tokens * 4);
    struct store_put put = {.kind = RECORD_PAGE,
                            .key = page_key_page(d, p->group, &end),
                            .chain = end,
                            .parent = c->at[p->page],
                            .layout = p->layout,
                            .depth = p->page,
                            .meta = meta,
                            .meta_len = 8 + p->n_tokens * 4,
                            .chunks = p->chunks,
                            .n_chunks = p->n_chunks};
    if (p->group == 0) {
        put.family = page_key_family(d, &c->owner, &put.parent);
        put.order_len = page_key_order(tokens, p->n_tokens, put.order);
    }
    if (store_has(r->b->store, &put.key))
        return OK; /* the tenant's own (--trust) */
    enum status st = store_put_wait(r->b->store, &put, e);
    if (st == E_FULL) /* the budget is small: the conversation comes, these pages do not */
        return OK;
    if (st == OK)
        st = remember_key(r, &put.key, e);
    r->n_pages += st == OK;
    return st;
}

static enum status take_page(struct reader *r, size_t n, struct err *e)
{
    struct in_page *p = mem_try_new(1, sizeof *p);
    if (!p)
        return err_set(e, E_NOMEM, "no memory for an import");
    enum status st = OK;
    struct in_session *s = NULL;
    if (!parse_page(r->frame, n, p) || p->session >= r->n_sessions) {
        st = bad(e, "a page");
    } else {
        s = &r->sessions[p->session];
        if (s->got_tokens != (size_t)s->n_tokens * 4 ||
            (uint64_t)p->page * PAGE_KEY_TOKENS + p->n_tokens > s->n_tokens)
            st = bad(e, "a page behind its session's end");
    }
    if (st == OK && r->takes_pages && !s->has_chain) {
        st = kvx_chain_init(&s->chain, &r->origin.root, &r->salt, s->tokens, s->n_tokens, e);
        s->has_chain = st == OK;
    }
    if (st == OK && r->takes_pages)
        st = put_page(r, s, p, e);
    mem_free(p);
    return st;
}

/* ---- the end ---- */
/* Each line is one JSON object, and there are as many as the session says. */
static enum status check_text(const struct in_session *s, struct err *e)
{
    uint32_t n = 0;
    struct arena a;
    arena_init(&a, ARENA_BYTES);
    enum status st = OK;
    for (size_t at = 0; st == OK && at < s->got_text; n++) {
        const char *end = memchr(s->text + at, '\n', s->got_text - at);
        struct json *v;
        struct err why;
        if (!end ||
            json_parse((struct slice){s->text + at, (size_t)(end - s->text) - at}, &a, &v, &why) !=
                OK ||
            v->kind != JSON_OBJECT)
            st = bad(e, "a message");
        at = end ? (size_t)(end - s->text) + 1 : s->got_text;
        arena_clear(&a);
    }
    arena_release(&a);
    return st == OK && n != s->n_messages ? bad(e, "its messages") : st;
}

static enum status check_session(const struct in_session *s, struct err *e)
{
    if (s->got_tokens != (size_t)s->n_tokens * 4 || s->got_text != s->n_text ||
        s->got_rows != (size_t)s->n_messages * LINE_ROW_BYTES)
        return bad(e, "a part of a session lacks");
    uint32_t before = 0;
    for (uint32_t i = 0; i < s->n_messages; i++) {
        uint32_t end = get_le32(s->rows + (size_t)i * LINE_ROW_BYTES);
        if (end > s->n_tokens || (end && end < before))
            return bad(e, "a message's place");
        before = end ? end : before;
    }
    return check_text(s, e);
}

static enum status take_end(struct reader *r, size_t n, struct err *e)
{
    if (n != 8 + DIGEST_BYTES || get_le64(r->frame) != r->n_frames ||
        memcmp(r->frame + 8, r->sum.b, DIGEST_BYTES) != 0)
        return bad(e, "its digest differs");
    if (r->n_sessions != r->n_declared || r->n_sessions == 0)
        return bad(e, "fewer sessions than it says");
    enum status st = OK;
    for (uint32_t i = 0; st == OK && i < r->n_sessions; i++)
        st = check_session(&r->sessions[i], e);
    r->is_over = st == OK;
    return st;
}

static enum status read_all(struct reader *r, struct err *e)
{
    char magic[8];
    enum status st = read_exact(r, magic, sizeof magic, e);
    if (st == OK && memcmp(magic, KVX_MAGIC, 6) != 0)
        st = err_set(e, E_SYNTAX, "this is no .kvx file");
    if (st == OK && memcmp(magic, KVX_MAGIC, sizeof magic) != 0)
        st = err_set(e, E_UNSUPPORTED, "the file is of another version of kvasir");
    digest_bytes(&r->digester, magic, sizeof magic);
    while (st == OK && !r->is_over) {
        uint32_t type = 0;
        size_t n = 0;
        st = next_frame(r, &type, &n, e);
        if (st != OK)
            break;
        if (!r->has_head && type != KVX_HEAD)
            st = bad(e, "it does not begin with its head");
        else if (type == KVX_HEAD || type == KVX_SESSION)
            st = take_json(r, type, n, e);
        else if (type == KVX_PAGE)
            st = take_page(r, n, e);
        else if (type == KVX_END)
            st = take_end(r, n, e);
        else
            st = take_piece(r, type, n, e);
    }
    return st;
}

/* ---- making them ours ---- */
/* The first takes the name that was asked for; a fork whose name is taken gets another. */
static enum status choose_name(struct reader *r, struct in_session *s, bool is_first, struct err *e)
{
    struct sessions *b = r->b;
    char made[SESSION_NAME_BYTES_MAX + 32];
    if (is_first && r->o->as.len) {
        if (!session_name_is_good(r->o->as))
            return err_set(e, E_INVALID,
                           "a session's name has 1 to %u of letters, digits, "
                           "-_.:@/+=~",
                           SESSION_NAME_BYTES_MAX);
        mem_free(s->s.name);
        s->s.name = mem_text(r->o->as.ptr, r->o->as.len);
    }
    if (s->s.response && book_find(b, r->o->tenant, slice_of(s->s.response))) {
        mem_free(s->s.response);
        s->s.response = NULL;
    }
    if (!s->s.name && !s->s.response)
        s->s.name = mem_text("imported", 8);
    if (!s->s.name || !book_find(b, r->o->tenant, slice_of(s->s.name)))
        return OK;
    if (is_first)
        return err_set(e, E_EXISTS, "there is a session %s already; give another with --as",
                       s->s.name);
    for (uint32_t i = 1; i < NAME_TRIES; i++) {
        int n =
            snprintf(made, sizeof made, "%.*s-%u", (int)SESSION_NAME_BYTES_MAX - 8, s->s.name, i);
        if (!book_find(b, r->o->tenant, slice_of(made))) {
            mem_free(s->s.name);
            s->s.name = mem_text(made, (size_t)n);
            return OK;
        }
    }
    return err_set(e, E_EXISTS, "there are too many sessions %s", s->s.name);
}

struct made {
    struct session *session;
    struct line *line;
    struct part part;
};

static enum status make(struct reader *r, uint32_t i, struct made *m, const struct made *all,
                        const struct origin *origin, int64_t now, struct err *e)
{
    struct in_session *in = &r->sessions[i];
    enum status st = choose_name(r, in, i == 0, e);
    if (st != OK)
        return st;
    m->session = session_copy(&in->s);
    m->line = mem_try_new(1, sizeof *m->line);
    struct part *parts = mem_try_new(1, sizeof *parts);
    if (!m->session || !m->line || !parts) {
        mem_free(parts);
        return err_set(e, E_NOMEM, "no memory for an import");
    }
    m->part = (struct part){0, in->n_tokens, 0, in->n_messages, (uint32_t)in->got_text};
    *parts = m->part;
    *m->line = (struct line){.parts = parts, .n_parts = 1, .cap_parts = 1, .updated = now};
    id_make(&m->line->id);
    struct session *s = m->session;
    id_make(&s->id);
    s->tenant = r->o->tenant;
    s->origin = origin;
    s->line = m->line;
    s->line_id = m->line->id;
    s->follows = s->name != NULL;
    s->n_tokens = in->n_tokens;
    s->n_messages = in->n_messages;
    s->updated = now;
    s->is_imported = !r->o->trust;
    s->salt = r->salt;
    if (in->parent >= 0)
        s->parent_id = all[in->parent].session->id;
    /* A name is looked up by those that come after it in the same file, too. */
    book_index_name(r->b, s, true);
    return OK;
}

static enum status write_all(struct reader *r, struct made *all, int64_t now, struct err *e)
{
    struct write_group group;
    write_begin(&group);
    for (uint32_t i = 0; i < r->n_sessions; i++) {
        const struct in_session *in = &r->sessions[i];
        struct part_write w = {.line = all[i].line,
                               .part = all[i].part,
                               .tenant = r->b->tenants[r->o->tenant]->id,
                               .updated = now,
                               .tokens = in->tokens,
                               .text = in->text,
                               .rows = in->rows};
        part_put(r->b, &w, &group);
    }
    enum status st = write_wait(&group, e);
    if (st != OK)
        return st;
    write_begin(&group); /* tokens first: a record that names them makes them count */
    for (uint32_t i = r->n_sessions; i-- > 0;) /* forks before what they hang on */
        session_put(r->b, all[i].session, &group);
    return write_wait(&group, e);
}

static enum status take_all(struct reader *r, struct made *all, struct err *e)
{
    struct sessions *b = r->b;
    enum status st = OK;
    for (uint32_t i = 0; st == OK && i < r->n_sessions; i++) {
        struct digest key = id_digest(&all[i].line->id);
        if (map_put(&b->lines, &key, (uint64_t)(uintptr_t)all[i].line) != OK)
            st = err_set(e, E_NOMEM, "no memory for an import");
        else
            st = book_add(b, all[i].session, e);
        if (st == OK)
            all[i] = (struct made){0};
    }
    return st;
}

static void answer_with(const struct reader *r, struct buf *answer)
{
    struct json_writer w;
    const struct session *s = book_find(
        r->b, r->o->tenant,
        slice_of(r->sessions[0].s.name ? r->sessions[0].s.name : r->sessions[0].s.response));
    jw_init(&w, answer);
    jw_begin_object(&w);
    jw_key(&w, "session");
    if (s)
        session_write(r->b, s, &w);
    else
        jw_null(&w);
    jw_key(&w, "sessions");
    jw_int(&w, r->n_sessions);
    jw_key(&w, "pages");
    jw_int(&w, r->n_pages);
    jw_end_object(&w);
}

static enum status settle(struct reader *r, struct buf *answer, struct err *e)
{
    struct sessions *b = r->b;
    int64_t now = clock_unix_s();
    struct made *all = mem_try_new(r->n_sessions, sizeof *all);
    if (!all)
        return err_set(e, E_NOMEM, "no memory for an import");
    pthread_mutex_lock(&b->writing);
    enum status st = book_enter(b, e);
    if (st == OK) {
        const struct origin *origin = origin_of(b, &r->origin);
        if (!origin)
            st = err_set(e, E_LIMIT, "sessions of more than %u models", ORIGINS_MAX);
        for (uint32_t i = 0; st == OK && i < r->n_sessions; i++)
            st = make(r, i, &all[i], all, origin, now, e);
        for (uint32_t i = 0; i < r->n_sessions; i++) /* they are not there yet */
            if (all[i].session)
                book_index_name(b, all[i].session, false);
        book_leave(b);
    }
    if (st == OK)
        st = write_all(r, all, now, e);
    if (st == OK) {
        pthread_mutex_lock(&b->mutex);
        st = take_all(r, all, e);
        if (st == OK)
            answer_with(r, answer);
        pthread_mutex_unlock(&b->mutex);
    }
    pthread_mutex_unlock(&b->writing);
    for (uint32_t i = 0; i < r->n_sessions; i++) {
        session_free(all[i].session);
        if (all[i].line)
            line_free(all[i].line);
    }
    mem_free(all);
    return st;
}

static void release(struct reader *r)
{
    for (uint32_t i = 0; r->sessions && i < r->n_sessions; i++) {
        struct in_session *s = &r->sessions[i];
        mem_free(s->s.name);
        mem_free(s->s.response);
        mem_free(s->s.tag);
        mem_free(s->s.pin);
        mem_free(s->tokens);
        mem_free(s->rows);
        mem_free(s->text);
        kvx_chain_release(&s->chain);
    }
    mem_free(r->sessions);
    mem_free(r->keys);
    mem_free(r->frame);
    digester_release(&r->digester);
}

enum status kvx_import(struct sessions *b, const struct kvx_import *o, struct buf *answer,
                       struct err *e)
{
    struct reader r = {.b = b, .o = o};
    enum status st = book_may_write(b, e);
    if (st == OK)
        st = book_enter(b, e);
    if (st != OK)
        return st;
    book_leave(b);
    r.salt = sessions_salt(b, o->tenant);
    if (!o->trust)
        prng_entropy(r.salt.b, sizeof r.salt.b);
    r.sessions = mem_try_new(KVX_SESSIONS_MAX, sizeof *r.sessions);
    digest_begin(&r.digester);
    st = r.sessions ? read_all(&r, e) : err_set(e, E_NOMEM, "no memory for an import");
    if (st == OK)
        st = settle(&r, answer, e);
    for (uint32_t i = 0; st != OK && i < r.n_keys; i++) {
        struct err why;
        if (store_delete(b->store, &r.keys[i], &why) != OK)
            break; /* nobody can name them: eviction takes the rest */
    }
    release(&r);
    return st;
}
