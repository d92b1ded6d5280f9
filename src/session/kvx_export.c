/* SPDX-License-Identifier: MIT
 * kvx_export.c — sessions to frames.  Pages are copied out of the map and verified as copies, so
 * that what is written is what was checked; a damaged one is left out, since it can be computed
 * again. */
#include <stdio.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "os/clock.h"
#include "session/kvx_int.h"

struct out_session {
    struct session *copy; /* of what it was when the export began */
    uint32_t parent;      /* index in the file, UINT32_MAX: none there */
    struct span_list spans;
    uint32_t n_tokens, n_messages;
    struct line_content content;
};

struct writer {
    struct sessions *b;
    const struct kvx_export *o;
    struct digester digester; /* over all bytes so far */
    struct out_session *sessions;
    uint32_t n_sessions;
    uint64_t n_frames;
    struct kvx_count count;
};

/* ---- frames ---- */
struct checksum kvx_sum(const uint8_t head[KVX_FRAME_HEAD], const void *payload, size_t n)
{
    uint8_t sums[KVX_FRAME_HEAD + sizeof(struct checksum)];
    struct checksum inner = checksum_of(payload, n);
    memcpy(sums, head, KVX_FRAME_HEAD);
    memcpy(sums + KVX_FRAME_HEAD, &inner, sizeof inner);
    return checksum_of(sums, sizeof sums);
}

static enum status emit(struct writer *w, const void *bytes, size_t n, struct err *e)
{
    digest_bytes(&w->digester, bytes, n);
    return w->o->write(w->o->arg, bytes, n, e);
}

static enum status put_frame(struct writer *w, enum kvx_type type, const void *payload, size_t n,
                             struct err *e)
{
    uint8_t head[KVX_FRAME_HEAD] = {0};
    put_le32(head, type);
    put_le64(head + 8, n);
    struct checksum sum = kvx_sum(head, payload, n);
    enum status st = emit(w, head, sizeof head, e);
    if (st == OK)
        st = emit(w, payload, n, e);
    if (st == OK)
        st = emit(w, &sum, sizeof sum, e);
    w->n_frames++;
    return st;
}

/* ---- what is exported ---- */
static enum status add_session(struct writer *w, const struct session *s, uint32_t parent,
                               struct err *e)
{
    if (w->n_sessions == KVX_SESSIONS_MAX)
        return err_set(e, E_LIMIT, "more than %u sessions in one file", KVX_SESSIONS_MAX);
    struct out_session *out = &w->sessions[w->n_sessions];
    out->copy = session_copy(s);
    if (!out->copy)
        return err_set(e, E_NOMEM, "no memory for an export");
    out->parent = parent;
    w->n_sessions++;
    session_end(s, &out->n_tokens, &out->n_messages);
    return line_spans(s->line, out->n_tokens, out->n_messages, &out->spans, e);
}

/* The session and, breadth first, what was forked from it. */
static enum status choose(struct writer *w, struct err *e)
{
    struct sessions *b = w->b;
    enum status st = book_enter(b, e);
    if (st != OK)
        return st;
    const struct session *s = book_find(b, w->o->tenant, w->o->which);
    st = s ? add_session(w, s, UINT32_MAX, e)
           : err_set(e, E_NOT_FOUND, "no session or response " SLICE_FMT, SLICE_ARG(w->o->which));
    for (uint32_t at = 0; st == OK && w->o->with_forks && at < w->n_sessions; at++)
        for (uint32_t i = 0; st == OK && i < b->n_all; i++)
            if (memcmp(&b->all[i]->parent_id, &w->sessions[at].copy->id,
                       sizeof(struct session_id)) == 0)
                st = add_session(w, b->all[i], at, e);
    book_leave(b);
    return st;
}

/* ---- frames of a session ---- */
static void put_text(struct json_writer *w, const char *key, const char *text)
{
    if (!text)
        return;
    jw_key(w, key);
    jw_text(w, text);
}

static void put_int(struct json_writer *w, const char *key, int64_t v)
{
    jw_key(w, key);
    jw_int(w, v);
}

static enum status put_head(struct writer *w, struct err *e)
{
    const struct origin *o = w->sessions[0].copy->origin;
    char root[DIGEST_HEX_BYTES], identity[DIGEST_HEX_BYTES];
    struct buf b;
    struct json_writer j;
    buf_init(&b, KVX_JSON_MAX);
    jw_init(&j, &b);
    digest_hex(&o->root, root);
    digest_hex(&o->identity, identity);
    jw_begin_object(&j);
    put_int(&j, "version", KVX_VERSION);
    put_text(&j, "model", o->model);
    put_text(&j, "kv_type", o->kv_type);
    put_text(&j, "root", root);
    put_text(&j, "identity", identity);
    put_int(&j, "sessions", w->n_sessions);
    put_int(&j, "exported", clock_unix_s());
    jw_end_object(&j);
    enum status st = put_frame(w, KVX_HEAD, b.ptr, b.len, e);
    buf_release(&b);
    return st;
}

static enum status put_session(struct writer *w, const struct out_session *s, struct err *e)
{
    struct buf b;
    struct json_writer j;
    buf_init(&b, KVX_JSON_MAX);
    jw_init(&j, &b);
    jw_begin_object(&j);
    put_text(&j, "name", s->copy->name);
    put_text(&j, "response", s->copy->response);
    put_text(&j, "tag", s->copy->tag);
    put_text(&j, "pin", s->copy->pin);
    put_int(&j, "parent", s->parent == UINT32_MAX ? -1 : (int64_t)s->parent);
    put_int(&j, "at", s->copy->at);
    put_int(&j, "tokens", s->content.n_tokens);
    put_int(&j, "messages", s->content.n_messages);
    put_int(&j, "text_bytes", (int64_t)s->content.messages.len);
    put_int(&j, "created", s->copy->created);
    jw_end_object(&j);
    enum status st = put_frame(w, KVX_SESSION, b.ptr, b.len, e);
    buf_release(&b);
    return st;
}

static enum status put_pieces(struct writer *w, enum kvx_type type, const void *bytes, size_t n,
                              struct err *e)
{
    enum status st = OK;
    for (size_t at = 0; st == OK && at < n; at += KVX_PIECE)
        st = put_frame(w, type, (const char *)bytes + at, n - at < KVX_PIECE ? n - at : KVX_PIECE,
                       e);
    return st;
}

static enum status put_rows(struct writer *w, const struct line_content *c, struct err *e)
{
    uint8_t *rows = mem_try_new((size_t)c->n_messages + 1, LINE_ROW_BYTES);
    if (!rows)
        return err_set(e, E_NOMEM, "no memory for an export");
    for (uint32_t i = 0; i < c->n_messages; i++) {
        put_le32(rows + (size_t)i * LINE_ROW_BYTES, c->rows[i].end);
        memcpy(rows + (size_t)i * LINE_ROW_BYTES + 4, &c->rows[i].sum, sizeof c->rows[i].sum);
    }
    enum status st = put_pieces(w, KVX_ROWS, rows, (size_t)c->n_messages * LINE_ROW_BYTES, e);
    mem_free(rows);
    return st;
}

/* ---- pages ---- */
enum status kvx_chain_init(struct kvx_chain *c, const struct digest *root,
                           const struct digest *owner, const uint32_t *tokens, uint32_t n_tokens,
                           struct err *e)
{
    *c = (struct kvx_chain){.owner = *owner, .n_pages = n_tokens / PAGE_KEY_TOKENS};
    c->at = mem_try_new((size_t)c->n_pages + 1, sizeof *c->at);
    if (!c->at)
        return err_set(e, E_NOMEM, "no memory for the pages' names");
    c->at[0] = *root;
    for (uint32_t i = 0; i < c->n_pages; i++)
        c->at[i + 1] = page_key_chain(&c->digester, owner, &c->at[i],
                                      tokens + (size_t)i * PAGE_KEY_TOKENS, PAGE_KEY_TOKENS);
    return OK;
}

void kvx_chain_release(struct kvx_chain *c)
{
    digester_release(&c->digester);
    mem_free(c->at);
    *c = (struct kvx_chain){0};
}

/* u32 session, group, page, n_tokens; u64 layout; u32 depth, n_chunks; u64 length of each chunk;
 * the chunks.  NULL: no such page, or a damaged one. */
static uint8_t *copy_page(struct writer *w, const struct digest *key, const uint32_t place[4],
                          size_t *bytes)
{
    struct store_pin pin;
    struct err e;
    if (store_get(w->b->store, key, &pin, &e) != OK)
        return NULL;
    size_t n = KVX_PAGE_HEAD + (size_t)pin.n_chunks * 8;
    for (uint32_t i = 0; i < pin.n_chunks; i++)
        n += store_chunk(&pin, i).len;
    uint8_t *out = pin.kind == RECORD_PAGE && n <= KVX_FRAME_MAX ? mem_try_new(n, 1) : NULL;
    bool is_good = out && store_fault_in(&pin, &e) == OK; /* in one piece, before the chunks */
    uint8_t *at = out + KVX_PAGE_HEAD + (size_t)pin.n_chunks * 8;
    for (uint32_t i = 0; is_good && i < pin.n_chunks; i++) {
        uint64_t len = store_chunk(&pin, i).len;
        is_good = store_copy_chunk(&pin, i, at, &e) == OK;
        put_le64(out + KVX_PAGE_HEAD + (size_t)i * 8, len);
        at += len;
    }
    for (uint32_t i = 0; is_good && i < 4; i++)
        put_le32(out + 4 * i, place[i]);
    if (is_good) {
        put_le64(out + 16, pin.layout);
        put_le32(out + 24, pin.depth);
        put_le32(out + 28, pin.n_chunks);
    } else if (out) {
        mem_free(out);
        out = NULL;
        store_quarantine(w->b->store, key, "page");
    }
    store_unpin(w->b->store, &pin);
    *bytes = n;
    return out;
}

static enum status put_page(struct writer *w, uint32_t session, const struct digest *chain,
                            struct digester *d, uint32_t page, uint32_t n_tokens, struct err *e)
{
    enum status st = OK;
    for (uint32_t group = 0; st == OK && group < PAGE_KEY_GROUPS; group++) {
        struct digest key = page_key_page(d, group, chain);
        uint32_t place[4] = {session, group, page, n_tokens};
        size_t n;
        uint8_t *bytes = copy_page(w, &key, place, &n);
        if (!bytes)
            continue;
        st = put_frame(w, KVX_PAGE, bytes, n, e);
        w->count.n_pages++;
        w->count.page_bytes += n;
        mem_free(bytes);
    }
    return st;
}

static uint32_t tokens_common(const struct line_content *a, const struct line_content *b)
{
    uint32_t n = a->n_tokens < b->n_tokens ? a->n_tokens : b->n_tokens, i = 0;
    while (i < n && a->tokens[i] == b->tokens[i])
        i++;
    return i;
}

/* What its parent has in this file already is not written again. */
static uint32_t first_page(const struct writer *w, const struct out_session *s)
{
    if (s->parent == UINT32_MAX)
        return 0;
    return tokens_common(&s->content, &w->sessions[s->parent].content) / PAGE_KEY_TOKENS;
}

static enum status put_pages(struct writer *w, uint32_t index, struct err *e)
{
    const struct out_session *s = &w->sessions[index];
    const struct line_content *c = &s->content;
    struct digest owner =
        s->copy->is_imported ? s->copy->salt : sessions_salt(w->b, s->copy->tenant);
    struct kvx_chain chain;
    enum status st =
        kvx_chain_init(&chain, &s->copy->origin->root, &owner, c->tokens, c->n_tokens, e);
    for (uint32_t i = first_page(w, s); st == OK && i < chain.n_pages; i++)
        st = put_page(w, index, &chain.at[i + 1], &chain.digester, i, PAGE_KEY_TOKENS, e);
    /* The tail: the last token drawn may not have been through the model. */
    uint32_t n_tail = c->n_tokens % PAGE_KEY_TOKENS;
    for (uint32_t n = n_tail; st == OK && n > 0 && n + 2 > n_tail; n--) {
        const uint32_t *tokens = c->tokens + (size_t)chain.n_pages * PAGE_KEY_TOKENS;
        struct digest end =
            page_key_chain(&chain.digester, &owner, &chain.at[chain.n_pages], tokens, n);
        st = put_page(w, index, &end, &chain.digester, chain.n_pages, n, e);
    }
    kvx_chain_release(&chain);
    return st;
}

/* ---- all of it ---- */
static enum status put_content(struct writer *w, uint32_t index, struct err *e)
{
    struct out_session *s = &w->sessions[index];
    unsigned wanted = SESSION_WANT_TOKENS | SESSION_WANT_MESSAGES;
    enum status st = line_read(w->b, &s->spans, wanted, &s->content, e);
    if (st == OK && (s->content.n_tokens < s->n_tokens || s->spans.is_cut))
        st = err_set(e, E_CORRUPT, "what %s keeps is damaged; run: kvasir store verify",
                     s->copy->name ? s->copy->name : "the session");
    if (st == OK)
        st = put_session(w, s, e);
    if (st == OK)
        st = put_pieces(w, KVX_TOKENS, s->content.tokens,
                        (size_t)s->content.n_tokens * sizeof *s->content.tokens, e);
    if (st == OK)
        st = put_rows(w, &s->content, e);
    if (st == OK)
        st = put_pieces(w, KVX_MESSAGES, s->content.messages.ptr, s->content.messages.len, e);
    /* A fork that another model went on with has its tokens here, not its pages. */
    if (st == OK && !w->o->tokens_only && s->copy->origin == w->sessions[0].copy->origin)
        st = put_pages(w, index, e);
    buf_release(&s->content.messages);
    return st;
}

static enum status put_end(struct writer *w, struct err *e)
{
    uint8_t end[8 + DIGEST_BYTES];
    struct digest sum = digest_end(&w->digester);
    put_le64(end, w->n_frames);
    memcpy(end + 8, sum.b, sizeof sum.b);
    digest_begin(&w->digester); /* what follows is of no sum */
    return put_frame(w, KVX_END, end, sizeof end, e);
}

enum status kvx_export(struct sessions *b, const struct kvx_export *o, struct kvx_count *out,
                       struct err *e)
{
    struct writer w = {.b = b, .o = o};
    w.sessions = mem_try_new(KVX_SESSIONS_MAX, sizeof *w.sessions);
    enum status st = w.sessions ? choose(&w, e) : err_set(e, E_NOMEM, "no memory for an export");
    digest_begin(&w.digester);
    if (st == OK)
        st = emit(&w, KVX_MAGIC, 8, e);
    if (st == OK)
        st = put_head(&w, e);
    for (uint32_t i = 0; st == OK && i < w.n_sessions; i++)
        st = put_content(&w, i, e);
    if (st == OK)
        st = put_end(&w, e);
    w.count.n_sessions = w.n_sessions;
    if (out)
        *out = w.count;
    for (uint32_t i = 0; i < w.n_sessions; i++) {
        session_free(w.sessions[i].copy);
        mem_free(w.sessions[i].spans.spans);
        line_content_release(&w.sessions[i].content);
    }
    digester_release(&w.digester);
    mem_free(w.sessions);
    return st;
}
