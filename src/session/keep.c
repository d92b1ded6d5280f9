/* SPDX-License-Identifier: MIT
 * keep.c — a turn ended: what is new of it goes to the session's line.
 *   the turn goes on from the line's end, and the line is this session's: its open part grows, or
 *     another part begins,
 *   the same tokens are called other messages, and nobody else has the line: the last part is
 *     written anew,
 *   else (an edited history, a fork's first own turn): a line of its own, whose parent has what is
 *     common.  What the session said before stays known to it (left.c). */
#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "os/clock.h"
#include "session/session_int.h"

/* A turn's messages as they are kept: one compact line each, and its row. */
struct said {
    struct buf text;
    size_t *starts; /* [n + 1] */
    struct row *rows;
    uint32_t n;
};

static void said_release(struct said *t)
{
    buf_release(&t->text);
    mem_free(t->starts);
    mem_free(t->rows);
}

/* Clients send an answer back with members that say nothing ("refusal": null): these are left out
 * of the sum that two messages are compared by. */
static bool says_nothing(const struct json *v)
{
    return v->kind == JSON_NULL || (v->kind == JSON_ARRAY && v->count == 0);
}

static void add_row(struct said *t, struct slice sum_of, uint32_t end)
{
    t->starts[t->n + 1] = t->text.len;
    t->rows[t->n++] = (struct row){end, checksum_of(sum_of.ptr, sum_of.len)};
}

static void write_meaning(const struct json *message, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    for (size_t i = 0; message->kind == JSON_OBJECT && i < message->count; i++) {
        if (says_nothing(&message->members[i].value))
            continue;
        jw_key_slice(&w, message->members[i].key);
        jw_value(&w, &message->members[i].value);
    }
    jw_end_object(&w);
}

struct checksum session_message_sum(const struct json *message)
{
    struct buf b;
    buf_init(&b, SESSION_JSON_MAX);
    write_meaning(message, &b);
    struct checksum sum = b.failed ? (struct checksum){0} : checksum_of(b.ptr, b.len);
    buf_release(&b);
    return sum;
}

static void say(struct said *t, const struct json *message, struct buf *scratch)
{
    json_write(&t->text, message, (struct json_style){.is_compact = true});
    buf_add_char(&t->text, '\n');
    buf_clear(scratch);
    write_meaning(message, scratch);
    add_row(t, buf_slice(scratch), 0);
}

static void say_reply(struct said *t, struct slice reply, uint32_t end)
{
    struct json_writer w;
    size_t from = t->text.len;
    jw_init(&w, &t->text);
    jw_begin_object(&w);
    jw_key(&w, "role");
    jw_text(&w, "assistant");
    jw_key(&w, "content");
    jw_string(&w, reply);
    jw_end_object(&w);
    struct slice sum_of = {t->text.ptr + from, t->text.len - from};
    struct row row = {end,
                      t->text.failed ? (struct checksum){0} : checksum_of(sum_of.ptr, sum_of.len)};
    buf_add_char(&t->text, '\n');
    t->starts[t->n + 1] = t->text.len;
    t->rows[t->n++] = row;
}

static enum status hear(const struct session_turn *turn, struct said *t, struct err *e)
{
    size_t n = turn->messages ? turn->messages->count : 0;
    *t = (struct said){0};
    buf_init(&t->text, SESSION_JSON_MAX);
    if (n + 1 > SESSION_MESSAGES_MAX)
        return err_set(e, E_LIMIT, "a session keeps at most %u messages", SESSION_MESSAGES_MAX);
    t->starts = mem_try_new(n + 2, sizeof *t->starts);
    t->rows = mem_try_new(n + 1, sizeof *t->rows);
    if (!t->starts || !t->rows)
        return err_set(e, E_NOMEM, "no memory for a session's messages");
    struct buf scratch;
    buf_init(&scratch, SESSION_JSON_MAX);
    for (size_t i = 0; i < n; i++)
        say(t, &turn->messages->items[i], &scratch);
    if (turn->has_reply)
        say_reply(t, turn->reply, turn->n_tokens);
    bool failed = t->text.failed || scratch.failed;
    buf_release(&scratch);
    return failed
               ? err_set(e, E_LIMIT, "the messages are longer than %u MiB or do not fit in memory",
                         SESSION_JSON_MAX >> 20)
               : OK;
}

/* ---- where it goes ---- */
struct place {
    struct session *session;       /* named by the turn; NULL: new, or the turn has no name */
    struct line *base;             /* NULL: nothing to go on from */
    uint32_t n_tokens, n_messages; /* of it */
    uint32_t cut, mcut;            /* how much of it the turn has too */
    struct line *line;             /* to be written: base, or a new one */
    bool is_new_line;
    uint32_t index; /* of the part */
    struct part part;
};

static bool sum_equal(const struct row *a, const struct row *b)
{
    return checksum_equal(a->sum, b->sum);
}

static void compare(const struct session_turn *turn, const struct said *said,
                    const struct line_content *c, struct place *p)
{
    uint32_t n = c->n_tokens < turn->n_tokens ? c->n_tokens : turn->n_tokens;
    while (p->cut < n && c->tokens[p->cut] == turn->tokens[p->cut])
        p->cut++;
    n = c->n_messages < said->n ? c->n_messages : said->n;
    while (p->mcut < n && sum_equal(&c->rows[p->mcut], &said->rows[p->mcut]))
        p->mcut++;
    while (p->mcut > 0 && c->rows[p->mcut - 1].end > p->cut)
        p->mcut--; /* the same words, but other tokens: a template changed */
}

/* What is new asks where it ends; the rest knows. */
static void find_ends(const struct session_turn *turn, const struct line_content *c,
                      const struct place *p, struct said *said)
{
    uint32_t n = turn->messages ? (uint32_t)turn->messages->count : 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i < p->mcut)
            said->rows[i].end = c->rows[i].end;
        else if (turn->end_of)
            said->rows[i].end = turn->end_of(turn->arg, i + 1);
    }
}

static bool is_open(const struct part *p)
{
    return p->to - p->from < LINE_PART_TOKENS && p->text_bytes < LINE_PART_BYTES;
}

/* May the base line itself be written, and from which part on? */
static bool choose_part(struct place *p)
{
    struct line *l = p->base;
    uint32_t end, mend;
    if (!l || (l->follower && l->follower != p->session) || l->n_parts == 0)
        return false;
    line_end(l, &end, &mend);
    bool is_append = p->cut == end && p->mcut == mend;
    bool is_mine = l->refs == 1 && p->session && p->session->line == l;
    if (!is_append && !(is_mine && p->cut == end))
        return false;
    const struct part *last = &l->parts[l->n_parts - 1];
    p->index = l->n_parts - 1;
    p->part = *last;
    if (is_append && !is_open(last)) {
        p->index++;
        p->part = (struct part){.from = end, .mfrom = mend};
        return p->index < LINE_PARTS_MAX;
    }
    return last->from <= p->cut && last->mfrom <= p->mcut;
}

static uint32_t depth_of(const struct line *l)
{
    uint32_t n = 0;
    for (; l; l = l->parent)
        n++;
    return n;
}

static enum status choose_line(struct place *p, struct err *e)
{
    if (choose_part(p)) {
        p->line = p->base;
        return OK;
    }
    struct line *l = mem_try_new(1, sizeof *l);
    if (!l)
        return err_set(e, E_NOMEM, "no memory for a session");
    id_make(&l->id);
    if (p->base && p->cut > 0 && depth_of(p->base) < LINE_DEPTH_MAX) {
        /* The nearest line that has anything of what is common. */
        struct line *parent = p->base;
        while (parent->parent && parent->parent_at >= p->cut && parent->parent_m >= p->mcut)
            parent = parent->parent;
        l->parent = parent;
        l->parent_id = parent->id;
        l->parent_at = p->cut;
        l->parent_m = p->mcut;
    }
    p->line = l;
    p->is_new_line = true;
    p->index = 0;
    p->part = (struct part){.from = l->parent_at, .mfrom = l->parent_m};
    return OK;
}

/* ---- writing ---- */
/* Where the part that is written ends. */
static void fill_part(const struct session_turn *turn, const struct said *said, struct part *part)
{
    part->to = turn->n_tokens;
    part->mto = said->n;
    part->text_bytes = (uint32_t)(said->starts[said->n] - said->starts[part->mfrom]);
}

static enum status put_part(struct sessions *b, const struct session_turn *turn,
                            const struct said *said, const struct place *p, int64_t now,
                            struct write_group *group, uint8_t **rows, struct err *e)
{
    const struct part *part = &p->part;
    uint32_t n_rows = part->mto - part->mfrom;
    *rows = mem_try_new(n_rows + 1, LINE_ROW_BYTES);
    if (!*rows)
        return err_set(e, E_NOMEM, "no memory for a session's messages");
    for (uint32_t i = 0; i < n_rows; i++) {
        uint8_t *row = *rows + (size_t)i * LINE_ROW_BYTES;
        put_le32(row, said->rows[part->mfrom + i].end);
        memcpy(row + 4, &said->rows[part->mfrom + i].sum, sizeof(struct checksum));
    }
    struct part_write w = {.line = p->line,
                           .index = p->index,
                           .part = *part,
                           .tenant = b->tenants[turn->tenant]->id,
                           .updated = now,
                           .tokens = turn->tokens + part->from,
                           .text = said->text.ptr ? said->text.ptr + said->starts[part->mfrom]
                                                  : "", /* a turn without messages */
                           .rows = *rows};
    part_put(b, &w, group);
    return OK;
}

static struct session *new_session(struct sessions *b, const struct session_turn *turn,
                                   const struct origin *origin, const struct session *from,
                                   int64_t now)
{
    struct session *s = mem_try_new(1, sizeof *s);
    if (!s)
        return NULL;
    id_make(&s->id);
    s->tenant = turn->tenant;
    s->origin = origin;
    s->created = s->updated = now;
    s->salt = from && from->is_imported ? from->salt : b->tenants[turn->tenant]->salt;
    s->is_imported = from && from->is_imported;
    return s;
}

/* Its record need not change: its end is its line's. */
static bool follows_already(const struct place *p, const struct origin *origin)
{
    const struct session *old = p->session;
    return old && old->line == p->line && old->follows && old->origin == origin;
}

/* The named session as it will be; NULL: no memory. */
static struct session *next_session(struct sessions *b, const struct session_turn *turn,
                                    const struct place *p, const struct session *from,
                                    const struct origin *origin, int64_t now)
{
    struct session *old = p->session, *s;
    s = old ? session_copy(old) : new_session(b, turn, origin, from, now);
    if (!s)
        return NULL;
    if (!old)
        s->name = mem_text(turn->name.ptr, turn->name.len);
    s->origin = origin;
    s->line = p->line;
    s->line_id = p->line->id;
    s->follows = true;
    s->n_tokens = turn->n_tokens;
    s->n_messages = p->part.mto;
    s->updated = now;
    return s;
}

/* The named session's line so far has more than the turn goes on from: it is left, and known to be.
 * Of another model's there is nothing to compare: its tokens go with it. */
static void leave_line(struct sessions *b, const struct session_turn *turn, const struct place *p,
                       struct session *s, struct line **dropped)
{
    const struct session *old = p->session;
    *dropped = NULL;
    if (old && old->line && !p->base)
        s->n_left = 0; /* under another root */
    if (!old || !p->base || p->base != old->line || p->cut == p->n_tokens)
        return;
    left_forget(b, s, turn->tokens, turn->n_tokens);
    left_add(s, old->line, dropped);
}

static struct session *response_session(struct sessions *b, const struct session_turn *turn,
                                        const struct place *p, const struct session *from,
                                        const struct origin *origin, int64_t now)
{
    struct session *s = new_session(b, turn, origin, from, now);
    if (!s)
        return NULL;
    s->response = mem_text(turn->response.ptr, turn->response.len);
    s->line = p->line;
    s->line_id = p->line->id;
    s->n_tokens = turn->n_tokens;
    s->n_messages = p->part.mto;
    if (from)
        s->parent_id = from->id;
    s->at = p->cut;
    return s;
}

/* ---- in memory, once it is durable ---- */
static enum status take_part(struct sessions *b, struct place *p, int64_t now, struct err *e)
{
    struct line *l = p->line;
    if (p->index >= l->cap_parts) {
        uint32_t cap = l->cap_parts ? l->cap_parts * 2 : 1;
        struct part *grown = mem_try_resize(l->parts, cap, sizeof *grown);
        if (!grown)
            return err_set(e, E_NOMEM, "no memory for a session");
        l->parts = grown;
        l->cap_parts = cap;
    }
    if (p->is_new_line) {
        struct digest key = id_digest(&l->id);
        if (map_put(&b->lines, &key, (uint64_t)(uintptr_t)l) != OK)
            return err_set(e, E_NOMEM, "no memory for a session");
        if (l->parent)
            line_ref(l->parent);
        p->is_new_line = false; /* the map's now */
    }
    l->parts[p->index] = p->part;
    l->n_parts = p->index + 1;
    l->updated = now;
    return OK;
}

static enum status take_session(struct sessions *b, struct session *old, struct session **fresh,
                                struct err *e)
{
    enum status st = book_add(b, *fresh, e);
    if (st != OK)
        return st;
    struct session *s = *fresh;
    *fresh = NULL;
    if (old) { /* the same id: the map's entry is the new one's */
        struct digest key = id_digest(&s->id);
        book_remove(b, old);
        book_index_name(b, s, true);
        st = map_put(&b->by_id, &key, (uint64_t)(uintptr_t)s);
        CHECK(st == OK); /* there was room for it a line before */
    }
    return OK;
}

/* ---- the door ---- */
struct keeping {
    const struct session_turn *turn;
    struct place place;
    struct said said;
    struct span_list spans;
    struct line_content content;
    const struct session *from; /* previous_response, or the named session */
    const struct origin *origin;
};

static enum status find_base(struct sessions *b, struct keeping *k, struct err *e)
{
    const struct session_turn *turn = k->turn;
    enum status st = book_enter(b, e);
    if (st != OK)
        return st;
    k->place.session = turn->name.len ? book_find(b, turn->tenant, turn->name) : NULL;
    k->from = turn->previous.len ? book_find(b, turn->tenant, turn->previous) : NULL;
    if (!k->from)
        k->from = k->place.session;
    const struct session *base = k->place.session ? k->place.session : k->from;
    k->origin = origin_of(b, &turn->origin);
    if (!k->origin)
        st = err_set(e, E_LIMIT, "sessions of more than %u models", ORIGINS_MAX);
    if (st == OK && base && base->line && digest_equal(&base->origin->root, &turn->origin.root)) {
        k->place.base = base->line;
        session_end(base, &k->place.n_tokens, &k->place.n_messages);
        st = line_spans(base->line, k->place.n_tokens, k->place.n_messages, &k->spans, e);
    }
    book_leave(b);
    return st;
}

/* The end of a group whose puts ended with st. */
static enum status write_end(struct write_group *group, enum status st, struct err *e)
{
    struct err why;
    enum status written = write_wait(group, &why);
    if (st == OK && written != OK)
        *e = why;
    return st == OK ? written : st;
}

/* Tokens first, and durable: what names them makes them count, and must not be there without them.
 */
static enum status write_turn(struct sessions *b, struct keeping *k, int64_t now,
                              const struct session *named, const struct session *response,
                              struct err *e)
{
    struct write_group group;
    uint8_t *rows = NULL;
    write_begin(&group);
    enum status st = put_part(b, k->turn, &k->said, &k->place, now, &group, &rows, e);
    st = write_end(&group, st, e);
    mem_free(rows);
    if (st != OK || (!named && !response))
        return st;
    write_begin(&group);
    if (named)
        session_put(b, named, &group);
    if (response)
        session_put(b, response, &group);
    return write_end(&group, OK, e);
}

static enum status commit(struct sessions *b, struct keeping *k, struct err *e)
{
    const struct session_turn *turn = k->turn;
    struct place *p = &k->place;
    int64_t now = clock_unix_s();
    struct session *named = NULL, *response = NULL;
    bool has_name = turn->name.len > 0 && !follows_already(p, k->origin);
    fill_part(turn, &k->said, &p->part);
    struct line *dropped = NULL;
    struct session_content traces = {0};
    if (has_name)
        named = next_session(b, turn, p, k->from, k->origin, now);
    if (named)
        leave_line(b, turn, p, named, &dropped);
    if (dropped && !left_read(b, named, dropped, &traces))
        traces = (struct session_content){0};
    if (turn->response.len)
        response = response_session(b, turn, p, k->from, k->origin, now);
    enum status st = (has_name && !named) || (turn->response.len && !response)
                         ? err_set(e, E_NOMEM, "no memory for a session")
                         : OK;
    if (st == OK)
        st = write_turn(b, k, now, named, response, e);
    pthread_mutex_lock(&b->mutex);
    if (st == OK)
        st = take_part(b, p, now, e);
    if (st == OK && named)
        st = take_session(b, p->session, &named, e);
    if (st == OK && response)
        st = take_session(b, NULL, &response, e);
    pthread_mutex_unlock(&b->mutex);
    if (st == OK && dropped)
        left_erase(b, &traces);
    session_content_release(&traces);
    session_free(named);
    session_free(response);
    return st;
}

static enum status check(const struct session_turn *turn, struct err *e)
{
    struct slice names[] = {turn->name, turn->response};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (names[i].len && !session_name_is_good(names[i]))
            return err_set(e, E_INVALID,
                           "a session's name has 1 to %u of letters, digits, "
                           "-_.:@/+=~",
                           SESSION_NAME_BYTES_MAX);
    return turn->n_tokens <= SESSION_TOKENS_MAX
               ? OK
               : err_set(e, E_LIMIT, "a session keeps at most %u tokens", SESSION_TOKENS_MAX);
}

/* A pinned one grew: so did what is spared. */
static void repin(struct sessions *b, const struct session_turn *turn)
{
    pthread_mutex_lock(&b->mutex);
    const struct session *s = turn->name.len ? book_find(b, turn->tenant, turn->name) : NULL;
    struct session_id id = s ? s->id : (struct session_id){0};
    bool is_pinned = s && s->pin;
    pthread_mutex_unlock(&b->mutex);
    if (is_pinned)
        pins_update(b, &id);
}

enum status sessions_keep(struct sessions *b, const struct session_turn *turn, struct err *e)
{
    struct keeping k = {.turn = turn};
    enum status st = check(turn, e);
    if (st == OK)
        st = book_may_write(b, e);
    if (st == OK)
        st = hear(turn, &k.said, e);
    if (st == OK) {
        pthread_mutex_lock(&b->writing);
        st = find_base(b, &k, e);
        if (st == OK)
            st = line_read(b, &k.spans, 0, &k.content, e);
        if (st == OK) {
            compare(turn, &k.said, &k.content, &k.place);
            find_ends(turn, &k.content, &k.place, &k.said);
            st = choose_line(&k.place, e);
        }
        if (st == OK)
            st = commit(b, &k, e);
        if (st == OK)
            repin(b, turn);
        if (k.place.is_new_line)
            line_free(k.place.line);
        pthread_mutex_unlock(&b->writing);
    }
    line_content_release(&k.content);
    mem_free(k.spans.spans);
    said_release(&k.said);
    return st;
}
