/* SPDX-License-Identifier: MIT
 * line.c — token ids and messages on disk: parts of a line, read, verified, written, let go.
 *   meta (128 bytes): "kvsLINE1", line id 16, tenant id 16, u32 part, from, to, mfrom, mto,
 *                     parent line id 16, u32 parent_at, parent_m, u64 updated, zeros
 *   chunk 0 token ids u32 [to − from]     chunk 1 messages, compact JSON, one a line
 *   chunk 2 rows [mto − mfrom]: u32 token position behind the message (0: none), its XXH3-128
 * The open part of a line is written anew each turn under the same key, so that a conversation
 * which grows by a few hundred tokens costs a few KiB a turn and leaves no trail of small records.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "session/session_int.h"

#define LINE_MAGIC       "kvsLINE1"
#define LINE_MAGIC_BYTES 7u /* of it without the version */

enum meta_at {
    AT_ID = 8,
    AT_TENANT = 24,
    AT_PART = 40,
    AT_FROM = 44,
    AT_TO = 48,
    AT_MFROM = 52,
    AT_MTO = 56,
    AT_PARENT = 60,
    AT_PARENT_AT = 76,
    AT_PARENT_M = 80,
    AT_UPDATED = 84,
};

struct digest line_key(const struct session_id *id, uint32_t part)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir line", id->b, sizeof id->b);
    digest_u64(&d, "part", part);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

struct line *line_find(const struct sessions *b, const struct session_id *id)
{
    struct digest key = id_digest(id);
    uint64_t value;
    return map_get(&b->lines, &key, &value) ? (struct line *)(uintptr_t)value : NULL;
}

void line_end(const struct line *l, uint32_t *n_tokens, uint32_t *n_messages)
{
    *n_tokens = l->n_parts ? l->parts[l->n_parts - 1].to : l->parent_at;
    *n_messages = l->n_parts ? l->parts[l->n_parts - 1].mto : l->parent_m;
}

void line_free(struct line *l)
{
    mem_free(l->parts);
    mem_free(l);
}

void line_ref(struct line *l)
{
    l->refs++;
}

static void drop(struct sessions *b, struct line *l)
{
    struct digest key = id_digest(&l->id);
    struct err e;
    for (uint32_t i = 0; i < l->n_parts && !b->is_read_only; i++) {
        struct digest part = line_key(&l->id, i);
        if (store_delete(b->store, &part, &e) != OK)
            break; /* the next open sweeps what is left */
    }
    map_remove(&b->lines, &key);
    line_free(l);
}

void line_unref(struct sessions *b, struct line *l)
{
    while (l) {
        CHECK(l->refs > 0);
        if (--l->refs > 0)
            return;
        struct line *parent = l->parent;
        drop(b, l);
        l = parent;
    }
}

/* ---- loading ---- */
bool line_owns(const struct store_pin *pin)
{
    return pin->meta_len > LINE_MAGIC_BYTES && memcmp(pin->meta, LINE_MAGIC, LINE_MAGIC_BYTES) == 0;
}

static bool is_line_meta(const struct store_pin *pin)
{
    return pin->kind == RECORD_TOKENS && pin->meta_len == LINE_META_BYTES &&
           memcmp(pin->meta, LINE_MAGIC, 8) == 0;
}

static struct line *line_of(struct sessions *b, const struct session_id *id)
{
    struct line *l = line_find(b, id);
    if (l)
        return l;
    struct digest key = id_digest(id);
    l = mem_try_new(1, sizeof *l);
    if (l && map_put(&b->lines, &key, (uint64_t)(uintptr_t)l) != OK) {
        mem_free(l);
        l = NULL;
    }
    if (l)
        l->id = *id;
    return l;
}

/* Numbers that no writer of ours makes are damage: the part counts as lost. */
static bool read_part(const struct store_pin *pin, struct part *p, uint32_t *index)
{
    const uint8_t *m = pin->meta;
    *index = get_le32(m + AT_PART);
    *p = (struct part){get_le32(m + AT_FROM), get_le32(m + AT_TO), get_le32(m + AT_MFROM),
                       get_le32(m + AT_MTO), 0};
    if (pin->n_chunks != 3 || *index >= LINE_PARTS_MAX || p->from > p->to ||
        p->to > SESSION_TOKENS_MAX || p->mfrom > p->mto || p->mto > SESSION_MESSAGES_MAX)
        return false;
    p->text_bytes = (uint32_t)store_chunk(pin, 1).len;
    return store_chunk(pin, 0).len == (uint64_t)(p->to - p->from) * 4 &&
           store_chunk(pin, 1).len <= SESSION_JSON_MAX &&
           store_chunk(pin, 2).len == (uint64_t)(p->mto - p->mfrom) * LINE_ROW_BYTES;
}

/* Parts come in any order; a hole has from = UINT32_MAX. */
static bool add_part(struct line *l, uint32_t index, const struct part *p)
{
    while (index >= l->cap_parts) {
        uint32_t cap = l->cap_parts ? l->cap_parts * 2 : 1;
        struct part *grown = mem_try_resize(l->parts, cap, sizeof *grown);
        if (!grown)
            return false;
        for (uint32_t i = l->cap_parts; i < cap; i++)
            grown[i].from = UINT32_MAX;
        l->parts = grown;
        l->cap_parts = cap;
    }
    l->parts[index] = *p;
    if (index >= l->n_parts)
        l->n_parts = index + 1;
    return true;
}

struct line_load {
    struct sessions *b;
    bool failed, is_newer;
};

static bool is_newer_line(const struct store_pin *pin)
{
    return line_owns(pin) && pin->meta[LINE_MAGIC_BYTES] > (uint8_t)LINE_MAGIC[LINE_MAGIC_BYTES];
}

static bool load_one(const struct store_pin *pin, void *arg)
{
    struct line_load *load = arg;
    struct part part;
    struct session_id id;
    uint32_t index;
    load->is_newer = is_newer_line(pin);
    if (!is_line_meta(pin) || !read_part(pin, &part, &index))
        return !load->is_newer;
    memcpy(id.b, pin->meta + AT_ID, sizeof id.b);
    struct line *l = line_of(load->b, &id);
    if (!l || !add_part(l, index, &part)) {
        load->failed = true;
        return false;
    }
    memcpy(l->parent_id.b, pin->meta + AT_PARENT, sizeof l->parent_id.b);
    l->parent_at = get_le32(pin->meta + AT_PARENT_AT);
    l->parent_m = get_le32(pin->meta + AT_PARENT_M);
    int64_t updated = (int64_t)get_le64(pin->meta + AT_UPDATED);
    if (updated > l->updated)
        l->updated = updated;
    return true;
}

/* What follows a lost part is lost too. */
static void cut_holes(struct line *l)
{
    uint32_t at = l->parent_at, m = l->parent_m;
    for (uint32_t i = 0; i < l->n_parts; i++) {
        if (l->parts[i].from != at || l->parts[i].mfrom != m) {
            l->n_parts = i;
            return;
        }
        at = l->parts[i].to;
        m = l->parts[i].mto;
    }
}

static bool has_circle(const struct line *l)
{
    const struct line *at = l;
    for (uint32_t depth = 0; at; depth++, at = at->parent)
        if (depth > LINE_DEPTH_MAX)
            return true;
    return false;
}

enum status lines_load(struct sessions *b, struct err *e)
{
    struct line_load load = {.b = b};
    enum status st = store_each(b->store, RECORD_TOKENS, load_one, &load, e);
    if (st == OK && load.failed)
        st = err_set(e, E_NOMEM, "the sessions' tokens do not fit in memory");
    if (st == OK && load.is_newer)
        st =
            err_set(e, E_UNSUPPORTED,
                    "sessions' tokens of a newer version than this program knows: use a newer one");
    size_t at = 0;
    struct digest key;
    uint64_t value;
    while (st == OK && map_next(&b->lines, &at, &key, &value)) {
        struct line *l = (struct line *)(uintptr_t)value;
        cut_holes(l);
        if (!id_is_zero(&l->parent_id))
            l->parent = line_find(b, &l->parent_id);
        if (has_circle(l)) /* only a hostile store has one */
            l->parent = NULL;
        if (l->parent)
            line_ref(l->parent);
    }
    return st;
}

void lines_sweep(struct sessions *b)
{
    size_t at = 0;
    struct digest key;
    uint64_t value;
    while (map_next(&b->lines, &at, &key, &value)) {
        struct line *l = (struct line *)(uintptr_t)value;
        if (l->refs > 0)
            continue;
        l->refs = 1;
        line_unref(b, l);
        at = 0; /* the map changed */
    }
}

/* ---- reading ---- */
static bool add_span(struct span_list *list, const struct span *s)
{
    if (list->n == list->cap) {
        uint32_t cap = list->cap ? list->cap * 2 : 16;
        struct span *grown = mem_try_resize(list->spans, cap, sizeof *grown);
        if (!grown)
            return false;
        list->spans = grown;
        list->cap = cap;
    }
    list->spans[list->n++] = *s;
    return true;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

enum status line_spans(const struct line *l, uint32_t n_tokens, uint32_t n_messages,
                       struct span_list *out, struct err *e)
{
    const struct line *way[LINE_DEPTH_MAX + 2];
    uint32_t n_way = 0, upto[LINE_DEPTH_MAX + 2], mupto[LINE_DEPTH_MAX + 2];
    *out = (struct span_list){0};
    for (; l && n_way < ARRAY_COUNT(way); l = l->parent) {
        way[n_way] = l;
        upto[n_way] = n_tokens;
        mupto[n_way++] = n_messages;
        n_tokens = min_u32(n_tokens, l->parent_at);
        n_messages = min_u32(n_messages, l->parent_m);
        if (!l->parent && (n_tokens > 0 || n_messages > 0))
            out->is_cut = true; /* the beginning is lost, and with it what follows */
    }
    if (out->is_cut)
        return OK;
    while (n_way-- > 0) {
        const struct line *at = way[n_way];
        for (uint32_t i = 0; i < at->n_parts; i++) {
            const struct part *p = &at->parts[i];
            struct span s = {line_key(&at->id, i), p->from, min_u32(p->to, upto[n_way]), p->mfrom,
                             min_u32(p->mto, mupto[n_way])};
            if (s.to <= s.from && s.mto <= s.mfrom)
                break;
            s.to = s.to < s.from ? s.from : s.to;
            s.mto = s.mto < s.mfrom ? s.mfrom : s.mto;
            if (!add_span(out, &s)) {
                mem_free(out->spans);
                *out = (struct span_list){0};
                return err_set(e, E_NOMEM, "no memory to read a session");
            }
        }
    }
    return OK;
}

/* A verified copy of a chunk: the mapping may lose its bytes, the copy cannot. */
static enum status copy_chunk(const struct store_pin *pin, uint32_t i, void **out, struct err *e)
{
    void *copy = mem_try_new(store_chunk(pin, i).len + 1, 1);
    enum status st = copy ? store_copy_chunk(pin, i, copy, e)
                          : err_set(e, E_NOMEM, "no memory to read a session");
    if (st != OK) {
        mem_free(copy);
        return st;
    }
    *out = copy;
    return OK;
}

/* The first n lines of a text. */
static size_t lines_bytes(const char *text, size_t bytes, uint32_t n)
{
    size_t at = 0;
    while (n-- > 0 && at < bytes) {
        const char *end = memchr(text + at, '\n', bytes - at);
        at = end ? (size_t)(end - text) + 1 : bytes;
    }
    return at;
}

static enum status take_tokens(const struct store_pin *pin, const struct span *s,
                               struct line_content *out, struct err *e)
{
    void *ids = NULL;
    enum status st = copy_chunk(pin, 0, &ids, e);
    if (st == OK)
        memcpy(out->tokens + s->from, ids, (size_t)(s->to - s->from) * sizeof *out->tokens);
    mem_free(ids);
    return st;
}

static enum status take_messages(const struct store_pin *pin, const struct span *s, uint32_t mfrom,
                                 unsigned wanted, struct line_content *out, struct err *e)
{
    void *rows = NULL, *text = NULL;
    enum status st = copy_chunk(pin, 2, &rows, e);
    if (st == OK && (wanted & SESSION_WANT_MESSAGES))
        st = copy_chunk(pin, 1, &text, e);
    for (uint32_t i = s->mfrom; st == OK && i < s->mto; i++) {
        const uint8_t *row = (const uint8_t *)rows + (size_t)(i - mfrom) * LINE_ROW_BYTES;
        out->rows[i].end = get_le32(row);
        memcpy(&out->rows[i].sum, row + 4, sizeof out->rows[i].sum);
    }
    if (st == OK && text)
        buf_add(&out->messages, text,
                lines_bytes(text, (size_t)store_chunk(pin, 1).len, s->mto - s->mfrom));
    mem_free(text);
    mem_free(rows);
    return st;
}

/* E_NOT_FOUND, E_IO, E_CORRUPT: these tokens cannot be had; what is damaged is set aside. */
static enum status take_span(struct sessions *b, const struct span *s, unsigned wanted,
                             struct line_content *out, struct err *e)
{
    struct store_pin pin;
    struct part part;
    uint32_t index;
    enum status st = store_get(b->store, &s->key, &pin, e);
    if (st != OK)
        return st;
    bool is_there = is_line_meta(&pin) && read_part(&pin, &part, &index) && part.from == s->from &&
                    part.mfrom == s->mfrom && part.to >= s->to && part.mto >= s->mto;
    if (!is_there)
        st = err_set(e, E_NOT_FOUND, "another part than the one that was looked for");
    if (st == OK)
        st = take_tokens(&pin, s, out, e);
    if (st == OK)
        st = take_messages(&pin, s, part.mfrom, wanted, out, e);
    store_unpin(b->store, &pin);
    if (st == E_CORRUPT)
        store_quarantine(b->store, &s->key, "tokens");
    return st;
}

enum status line_read(struct sessions *b, const struct span_list *spans, unsigned wanted,
                      struct line_content *out, struct err *e)
{
    uint32_t n_tokens = spans->n ? spans->spans[spans->n - 1].to : 0;
    uint32_t n_messages = spans->n ? spans->spans[spans->n - 1].mto : 0;
    *out = (struct line_content){0};
    buf_init(&out->messages, SESSION_JSON_MAX);
    out->tokens = mem_try_new(n_tokens + 1, sizeof *out->tokens);
    out->rows = mem_try_new(n_messages + 1, sizeof *out->rows);
    if (!out->tokens || !out->rows) {
        line_content_release(out);
        return err_set(e, E_NOMEM, "no memory for a session of %u tokens", n_tokens);
    }
    for (uint32_t i = 0; i < spans->n; i++) {
        struct err why;
        enum status st = take_span(b, &spans->spans[i], wanted, out, &why);
        if (st == E_NOMEM) { /* nothing is wrong with what could not be read */
            line_content_release(out);
            return err_set(e, st, "%s", why.msg);
        }
        if (st != OK)
            return OK; /* damaged from here on */
        out->n_tokens = spans->spans[i].to;
        out->n_messages = spans->spans[i].mto;
    }
    return OK;
}

uint32_t line_first_user_end(const struct line_content *c)
{
    static const char role[] = "\"role\":\"user\"";
    const char *at = c->messages.ptr;
    size_t left = c->messages.failed ? 0 : c->messages.len;
    for (uint32_t i = 0; i < c->n_messages && left > 0; i++) {
        const char *end = memchr(at, '\n', left);
        size_t n = end ? (size_t)(end - at) + 1 : left;
        /* A quote within a text is written with a backslash, so this is the member. */
        if (memmem(at, n, role, sizeof role - 1))
            return c->rows[i].end;
        at += n;
        left -= n;
    }
    return 0;
}

void line_content_release(struct line_content *c)
{
    mem_free(c->tokens);
    mem_free(c->rows);
    buf_release(&c->messages);
    *c = (struct line_content){0};
}

/* ---- writing ---- */
void part_put(struct sessions *b, const struct part_write *w, struct write_group *group)
{
    uint8_t meta[LINE_META_BYTES] = LINE_MAGIC;
    const struct part *p = &w->part;
    memcpy(meta + AT_ID, w->line->id.b, SESSION_ID_BYTES);
    memcpy(meta + AT_TENANT, w->tenant.b, SESSION_ID_BYTES);
    put_le32(meta + AT_PART, w->index);
    put_le32(meta + AT_FROM, p->from);
    put_le32(meta + AT_TO, p->to);
    put_le32(meta + AT_MFROM, p->mfrom);
    put_le32(meta + AT_MTO, p->mto);
    memcpy(meta + AT_PARENT, w->line->parent_id.b, SESSION_ID_BYTES);
    put_le32(meta + AT_PARENT_AT, w->line->parent_at);
    put_le32(meta + AT_PARENT_M, w->line->parent_m);
    put_le64(meta + AT_UPDATED, (uint64_t)w->updated);
    struct store_chunk chunks[] = {{w->tokens, (uint64_t)(p->to - p->from) * 4},
                                   {w->text, p->text_bytes},
                                   {w->rows, (uint64_t)(p->mto - p->mfrom) * LINE_ROW_BYTES}};
    struct store_put put = {.kind = RECORD_TOKENS,
                            .key = line_key(&w->line->id, w->index),
                            .owner = get_le64(w->tenant.b),
                            .meta = meta,
                            .meta_len = sizeof meta,
                            .chunks = chunks,
                            .n_chunks = 3};
    write_put(b, group, &put);
}
