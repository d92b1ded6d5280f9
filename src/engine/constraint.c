/* SPDX-License-Identifier: MIT
 * constraint.c — compiled grammars by the digest of their text; masks and triggers of a choice. */
#include "engine/constraint.h"

#include <pthread.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"
#include "os/team.h"

#define SCHEMA_BYTES_MAX (4u << 20)
#define ENDS_MAX         64u

struct kept {
    struct digest key;
    struct grammar_masks *masks;
    uint64_t used;
};
/* The vocabulary with some control tokens that have texts. */
struct view {
    struct digest marks;
    struct grammar_vocabulary *vocabulary;
};
struct constraints {
    const struct tokenizer *tokenizer;
    uint32_t n_vocab;
    pthread_mutex_t mutex;               /* guards all below */
    struct view views[VOCABULARIES_MAX]; /* made when first needed; they stay as they are */
    uint32_t n_views;
    uint32_t ends[ENDS_MAX]; /* end tokens, once there is a view */
    uint32_t n_ends;
    struct kept kept[CONSTRAINTS_MAX];
    uint32_t n;
    uint64_t clock;
};

enum status constraints_new(const struct tokenizer *t, struct constraints **out, struct err *e)
{
    struct constraints *c = mem_try_new(1, sizeof *c);
    if (!c)
        return err_set(e, E_NOMEM, "out of memory");
    c->tokenizer = t;
    c->n_vocab = tokenizer_info(t).n_vocab;
    pthread_mutex_init(&c->mutex, NULL);
    *out = c;
    return OK;
}

void constraints_free(struct constraints *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->n; i++)
        grammar_masks_free(c->kept[i].masks);
    for (uint32_t i = 0; i < c->n_views; i++)
        grammar_vocabulary_free(c->views[i].vocabulary);
    pthread_mutex_destroy(&c->mutex);
    mem_free(c);
}

struct spelling {
    const struct tokenizer *tokenizer;
    const struct constraint *what;
};

/* Control tokens have no text here but for the marks, so no grammar can ask for them. */
static struct slice piece_of(void *arg, uint32_t id)
{
    const struct spelling *s = arg;
    if (tokenizer_is_end(s->tokenizer, id))
        return (struct slice){"", 0};
    if (!tokenizer_is_control(s->tokenizer, id))
        return tokenizer_piece(s->tokenizer, id, false);
    const struct slice piece = tokenizer_piece(s->tokenizer, id, true);
    for (uint32_t i = 0; i < s->what->n_marks; i++)
        if (slice_equal(piece, s->what->marks[i]))
            return piece;
    return (struct slice){"", 0};
}

static struct digest digest_of_marks(const struct constraint *what)
{
    struct digester d = {0};
    digest_begin(&d);
    for (uint32_t i = 0; i < what->n_marks; i++)
        digest_field(&d, "mark", what->marks[i].ptr, what->marks[i].len);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

static enum status make_view(struct constraints *c, const struct constraint *what,
                             const struct digest *marks, struct err *e)
{
    struct spelling spelling = {c->tokenizer, what};
    struct view *view = &c->views[c->n_views];
    if (c->n_views == VOCABULARIES_MAX)
        return err_set(e, E_LIMIT, "grammar: over %u different sets of marks", VOCABULARIES_MAX);
    enum status st = grammar_vocabulary_new(c->n_vocab, piece_of, &spelling, &view->vocabulary, e);
    if (st != OK)
        return st;
    view->marks = *marks;
    c->n_views++;
    for (uint32_t id = 0; c->n_views == 1 && id < c->n_vocab && c->n_ends < ENDS_MAX; id++)
        if (tokenizer_is_end(c->tokenizer, id))
            c->ends[c->n_ends++] = id;
    return OK;
}

static enum status take_vocabulary(struct constraints *c, const struct constraint *what,
                                   const struct grammar_vocabulary **out, struct err *e)
{
    const struct digest marks = digest_of_marks(what);
    enum status st = OK;
    uint32_t i = 0;
    pthread_mutex_lock(&c->mutex); /* a tenth of a second, once */
    while (i < c->n_views && !digest_equal(&c->views[i].marks, &marks))
        i++;
    if (i == c->n_views)
        st = make_view(c, what, &marks, e);
    if (st == OK)
        *out = c->views[i].vocabulary;
    pthread_mutex_unlock(&c->mutex);
    return st;
}

static enum status add_schema(struct digester *d, const char *tag, const struct json *schema,
                              struct err *e)
{
    struct buf text;
    buf_init(&text, SCHEMA_BYTES_MAX);
    json_write(&text, schema, (struct json_style){.is_compact = true});
    if (!text.failed)
        digest_field(d, tag, text.ptr, text.len);
    enum status st = text.failed
                         ? err_set(e, E_LIMIT, "schema: longer than %u MiB", SCHEMA_BYTES_MAX >> 20)
                         : OK;
    buf_release(&text);
    return st;
}

static enum status key_of(const struct constraint *what, struct digest *out, struct err *e)
{
    const struct grammar_source *g = &what->grammar;
    const struct digest marks = digest_of_marks(what);
    struct digester d = {0};
    enum status st = OK;
    digest_begin(&d);
    digest_field(&d, "marks", marks.b, sizeof marks.b);
    if (what->schema) {
        st = add_schema(&d, "schema", what->schema, e);
    } else {
        digest_field(&d, "text", g->text.ptr, g->text.len);
        digest_field(&d, "root", g->root.ptr, g->root.len);
        for (uint32_t i = 0; i < g->n_schemas && st == OK; i++) {
            st = add_schema(&d, "part", g->schemas[i].schema, e);
            if (st == OK && g->schemas[i].instead)
                st = add_schema(&d, "instead", g->schemas[i].instead, e);
        }
    }
    *out = digest_end(&d);
    digester_release(&d);
    return st;
}

static struct grammar_masks *find(struct constraints *c, const struct digest *key)
{
    struct grammar_masks *found = NULL;
    pthread_mutex_lock(&c->mutex);
    for (uint32_t i = 0; i < c->n && !found; i++)
        if (digest_equal(&c->kept[i].key, key)) {
            c->kept[i].used = ++c->clock;
            found = grammar_masks_hold(c->kept[i].masks);
        }
    pthread_mutex_unlock(&c->mutex);
    return found;
}

static void keep(struct constraints *c, const struct digest *key, struct grammar_masks *masks)
{
    struct grammar_masks *gone = NULL;
    uint32_t at = 0;
    pthread_mutex_lock(&c->mutex);
    if (c->n < CONSTRAINTS_MAX)
        at = c->n++;
    else
        for (uint32_t i = 1; i < c->n; i++)
            if (c->kept[i].used < c->kept[at].used)
                at = i;
    gone = c->kept[at].masks;
    c->kept[at] = (struct kept){*key, grammar_masks_hold(masks), ++c->clock};
    pthread_mutex_unlock(&c->mutex);
    grammar_masks_free(gone);
}

/* ---- the vocabulary is made beside the first grammar ---- */
struct making {
    struct constraints *c;
    const struct constraint *what;
    const struct grammar_vocabulary *vocabulary;
    struct os_thread *thread; /* NULL: nobody makes it, or it was there */
    enum status st;
    struct err e;
};

static void make_vocabulary(void *arg)
{
    struct making *m = arg;
    m->st = take_vocabulary(m->c, m->what, &m->vocabulary, &m->e);
}

static void making_begin(struct making *m)
{
    const struct digest marks = digest_of_marks(m->what);
    struct err e;
    bool is_there = false;
    pthread_mutex_lock(&m->c->mutex);
    for (uint32_t i = 0; i < m->c->n_views; i++)
        is_there = is_there || digest_equal(&m->c->views[i].marks, &marks);
    pthread_mutex_unlock(&m->c->mutex);
    if (!is_there && thread_start("vocabulary", make_vocabulary, m, &m->thread, &e) != OK)
        m->thread = NULL; /* then it is made when it is needed */
}

static enum status making_end(struct making *m, const struct grammar_vocabulary **out,
                              struct err *e)
{
    if (m->thread)
        thread_join(m->thread);
    else
        make_vocabulary(m);
    *out = m->vocabulary;
    if (m->st != OK)
        *e = m->e;
    return m->st;
}

enum status constraints_get(struct constraints *c, const struct constraint *what,
                            struct grammar_masks **out, struct err *e)
{
    struct making making = {.c = c, .what = what};
    const struct grammar_vocabulary *v;
    struct grammar *g;
    struct digest key;
    struct err other;
    enum status st = key_of(what, &key, e);
    if (st != OK)
        return st;
    *out = find(c, &key);
    if (*out)
        return OK;
    making_begin(&making);
    st = what->schema ? grammar_from_schema(what->schema, &g, e)
                      : grammar_from_source(&what->grammar, &g, e);
    if (st != OK) {
        (void)making_end(&making, &v, &other); /* its thread reads what is ours */
        return st;
    }
    st = making_end(&making, &v, e);
    if (st == OK)
        st = grammar_prepare(g, v, out, e);
    grammar_free(g);
    if (st == OK)
        keep(c, &key, *out);
    return st;
}

/* ---- one choice ---- */
enum status guard_init(struct guard *g, const struct constraints *c, struct grammar_masks *masks,
                       struct slice trigger, struct err *e)
{
    *g = (struct guard){.constraints = c, .trigger = trigger};
    if (!masks)
        return OK;
    buf_init(&g->tail, trigger.len + GRAMMAR_TOKEN_MAX + TOKENIZER_TOKEN_BYTES_MAX);
    g->bits = mem_try_new((c->n_vocab + 63) / 64, sizeof *g->bits);
    if (!g->bits)
        return err_set(e, E_NOMEM, "grammar: out of memory");
    g->masks = grammar_masks_hold(masks);
    return trigger.len ? OK : matcher_new(masks, &g->matcher, e);
}

void guard_release(struct guard *g)
{
    matcher_free(g->matcher);
    grammar_masks_free(g->masks);
    buf_release(&g->tail);
    mem_free(g->bits);
    *g = (struct guard){0};
}

static bool is_empty(const struct guard *g)
{
    for (uint32_t i = 0; i < (g->constraints->n_vocab + 63) / 64; i++)
        if (g->bits[i])
            return false;
    return true;
}

enum status guard_allowed(struct guard *g, const uint64_t **allowed, struct err *e)
{
    const struct constraints *c = g->constraints;
    bool may_end;
    *allowed = NULL;
    if (!g->matcher)
        return OK;
    enum status st = matcher_mask(g->matcher, g->bits, &may_end, e);
    if (st != OK)
        return st;
    if (g->trigger.len && may_end && is_empty(g)) { /* done: until the trigger comes again */
        matcher_free(g->matcher);
        g->matcher = NULL;
        return OK;
    }
    for (uint32_t i = 0; may_end && i < c->n_ends; i++)
        g->bits[c->ends[i] / 64] |= 1ull << c->ends[i] % 64;
    if (is_empty(g))
        return err_set(e, E_INVALID, "grammar: no token of this model can go on here");
    *allowed = g->bits;
    return OK;
}

/* The trigger may end inside a token: what follows it there is the beginning of the grammar's text.
 * Text that the grammar does not know is no call of it, and goes on freely. */
static enum status watch(struct guard *g, struct slice piece, struct err *e)
{
    buf_add_slice(&g->tail, piece);
    if (g->tail.failed)
        return err_set(e, E_NOMEM, "grammar: out of memory");
    const char *at = memmem(g->tail.ptr, g->tail.len, g->trigger.ptr, g->trigger.len);
    if (!at) {
        size_t keep = g->trigger.len - 1;
        if (g->tail.len > keep)
            buf_consume(&g->tail, g->tail.len - keep);
        return OK;
    }
    const char *behind = at + g->trigger.len;
    struct slice rest = {behind, (size_t)(g->tail.ptr + g->tail.len - behind)};
    enum status st = matcher_new(g->masks, &g->matcher, e);
    if (st == OK && rest.len && matcher_accept_text(g->matcher, rest, e) != OK) {
        matcher_free(g->matcher);
        g->matcher = NULL;
    }
    buf_clear(&g->tail);
    return st;
}

enum status guard_accept(struct guard *g, uint32_t token, struct err *e)
{
    if (!g->masks)
        return OK;
    if (g->matcher)
        return matcher_accept(g->matcher, token, e);
    return watch(g, tokenizer_piece(g->constraints->tokenizer, token, true), e);
}
