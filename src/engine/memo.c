/* SPDX-License-Identifier: MIT
 * memo.c — a table from the digest of a text prefix to its token ids, oldest thrown away first, and
 * the durable rows of turns that only their own ids can spell. */
#include "engine/memo.h"

#include <pthread.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/map.h"
#include "base/mem.h"
#include "os/clock.h"

#define PROMPT_TEXT_MAX (64u << 20)
#define ENDS_MAX        2u     /* eot, eos */
#define BOUNDARIES_MAX  65536u /* segments of one text; beyond them the rest is one segment */

struct entry {
    struct digest key;
    uint32_t *tokens;
    uint32_t n_tokens, n_replayed;
    bool is_odd; /* some turn's ids are not what the tokenizer would give */
    bool is_shared_known;
    uint32_t n_shared; /* of the prompts that begin so */
    struct entry *older, *newer;
};

struct memo {
    struct memo_options options;
    struct tokenizer_info vocabulary;
    struct slice ends[ENDS_MAX]; /* texts of the end-of-turn tokens at which texts may be cut */
    uint32_t n_ends;
    pthread_mutex_t mutex; /* guards the table and the list below; never held across I/O */
    struct map table;      /* key → entry */
    struct entry *oldest, *newest;
    size_t bytes, n_entries;
};

/* The segments of a text: ends[i] is behind the i-th end-of-turn token. */
struct cuts {
    size_t *ends;
    struct digest *digests; /* [n]: D(i + 1) */
    uint32_t n, cap;
    struct digest whole; /* D over the rest too; equals the last digest when there is no rest */
};

void prompt_release(struct prompt *p)
{
    token_list_release(&p->tokens);
    mem_free(p->points);
    buf_release(&p->rest);
    *p = (struct prompt){0};
}

enum status memo_new(const struct memo_options *options, struct memo **out, struct err *e)
{
    struct memo *m = mem_try_new(1, sizeof *m);
    if (!m)
        return err_set(e, E_NOMEM, "no memory for the text memory");
    m->options = *options;
    m->vocabulary = tokenizer_info(options->tokenizer);
    const uint32_t ids[] = {m->vocabulary.eot, m->vocabulary.eos};
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        if (ids[i] == TOKEN_NONE || (i == 1 && ids[1] == ids[0]) ||
            !tokenizer_cuts_at(options->tokenizer, ids[i]))
            continue;
        struct slice piece = tokenizer_piece(options->tokenizer, ids[i], true);
        if (piece.len > 0)
            m->ends[m->n_ends++] = piece;
    }
    pthread_mutex_init(&m->mutex, NULL);
    *out = m;
    return OK;
}

static void entry_free(struct entry *x)
{
    mem_free(x->tokens);
    mem_free(x);
}

static void unlink_entry(struct memo *m, struct entry *x)
{
    *(x->older ? &x->older->newer : &m->oldest) = x->newer;
    *(x->newer ? &x->newer->older : &m->newest) = x->older;
    x->older = x->newer = NULL;
}

static void link_newest(struct memo *m, struct entry *x)
{
    x->older = m->newest;
    x->newer = NULL;
    *(m->newest ? &m->newest->newer : &m->oldest) = x;
    m->newest = x;
}

static void drop_oldest(struct memo *m)
{
    struct entry *x = m->oldest;
    unlink_entry(m, x);
    map_remove(&m->table, &x->key);
    m->bytes -= x->n_tokens * sizeof *x->tokens;
    m->n_entries--;
    entry_free(x);
}

void memo_free(struct memo *m)
{
    if (!m)
        return;
    while (m->oldest)
        drop_oldest(m);
    map_release(&m->table);
    pthread_mutex_destroy(&m->mutex);
    mem_free(m);
}

/* ---- cutting a text ---- */

static struct digest extend(struct digester *d, const struct digest *before, struct slice segment)
{
    digest_begin(d);
    digest_field(d, "kvasir text before", before->b, sizeof before->b);
    digest_field(d, "segment", segment.ptr, segment.len);
    return digest_end(d);
}

static enum status cuts_add(struct cuts *c, size_t end, const struct digest *digest)
{
    if (c->n == c->cap) {
        uint32_t cap = c->cap ? c->cap * 2 : 32;
        size_t *ends = mem_try_resize(c->ends, cap, sizeof *ends);
        if (ends)
            c->ends = ends;
        struct digest *digests = mem_try_resize(c->digests, cap, sizeof *digests);
        if (digests)
            c->digests = digests;
        if (!ends || !digests)
            return E_NOMEM;
        c->cap = cap;
    }
    c->ends[c->n] = end;
    c->digests[c->n++] = *digest;
    return OK;
}

/* Where each end-of-turn token's text comes next, text.len for never: so that the rare one is not
 * looked for again behind each of the frequent one. */
struct hits {
    size_t at[ENDS_MAX];
    bool is_known;
};

/* Behind the first end-of-turn token's text at or after `from`, which only grows; 0: none. */
static size_t next_boundary(const struct memo *m, struct slice text, size_t from, struct hits *h)
{
    size_t first = 0;
    for (uint32_t i = 0; i < m->n_ends; i++) {
        if (!h->is_known || h->at[i] < from) {
            const char *hit =
                memmem(text.ptr + from, text.len - from, m->ends[i].ptr, m->ends[i].len);
            h->at[i] = hit ? (size_t)(hit - text.ptr) : text.len;
        }
        size_t end = h->at[i] < text.len ? h->at[i] + m->ends[i].len : 0;
        if (end && (!first || end < first))
            first = end;
    }
    h->is_known = true;
    return first;
}

static size_t first_boundary(const struct memo *m, struct slice text)
{
    struct hits h = {0};
    return next_boundary(m, text, 0, &h);
}

static enum status cut(const struct memo *m, const struct digest *owner, struct slice text,
                       struct cuts *c)
{
    struct digester d = {0};
    struct digest at = *owner;
    struct hits hits = {0};
    size_t from = 0;
    enum status st = OK;
    while (st == OK && c->n < BOUNDARIES_MAX) {
        size_t end = next_boundary(m, text, from, &hits);
        if (end == 0)
            break;
        at = extend(&d, &at, (struct slice){text.ptr + from, end - from});
        st = cuts_add(c, end, &at);
        from = end;
    }
    c->whole =
        from < text.len ? extend(&d, &at, (struct slice){text.ptr + from, text.len - from}) : at;
    digester_release(&d);
    return st;
}

static bool has_end_before(const struct memo *m, struct slice text, size_t at)
{
    for (uint32_t i = 0; i < m->n_ends; i++) {
        size_t n = m->ends[i].len;
        if (at >= n && memcmp(text.ptr + at - n, m->ends[i].ptr, n) == 0)
            return true;
    }
    return false;
}

size_t memo_last_end(const struct memo *m, struct slice text)
{
    size_t at = text.len;
    while (at > 0 && !has_end_before(m, text, at))
        at--;
    return at;
}

size_t memo_end_at(const struct memo *m, struct slice text)
{
    size_t blanks = 0;
    while (blanks < text.len && strchr(" \r\n\t", text.ptr[blanks]) && text.ptr[blanks])
        blanks++;
    struct slice rest = {text.ptr + blanks, text.len - blanks};
    for (uint32_t i = 0; i < m->n_ends; i++)
        if (slice_starts(rest, m->ends[i]))
            return blanks + m->ends[i].len;
    return 0;
}

struct slice memo_end_piece(const struct memo *m, uint32_t token)
{
    struct slice piece = tokenizer_piece(m->options.tokenizer, token, true);
    for (uint32_t i = 0; i < m->n_ends; i++)
        if (slice_equal(piece, m->ends[i]))
            return piece;
    return (struct slice){"", 0};
}

uint32_t memo_count_ends(const struct memo *m, struct slice text)
{
    struct hits hits = {0};
    uint32_t n = 0;
    for (size_t at = 0; n < BOUNDARIES_MAX && (at = next_boundary(m, text, at, &hits)) != 0;)
        n++;
    return n;
}

/* ---- finding ---- */

/* Copies what is remembered under key into p; false: nothing. */
static bool recall(struct memo *m, const struct digest *key, struct prompt *p)
{
    uint64_t value;
    bool found = false;
    pthread_mutex_lock(&m->mutex);
    if (map_get(&m->table, key, &value)) {
        struct entry *x = (struct entry *)(uintptr_t)value;
        uint32_t *copy = mem_try_new(x->n_tokens, sizeof *copy);
        if (copy) {
            memcpy(copy, x->tokens, x->n_tokens * sizeof *copy);
            p->tokens = (struct token_list){copy, x->n_tokens, x->n_tokens};
            p->n_replayed = x->n_replayed;
            p->is_odd = x->is_odd;
            p->is_shared_known = x->is_shared_known;
            p->n_shared = x->n_shared;
            unlink_entry(m, x);
            link_newest(m, x);
            found = true;
        }
    }
    pthread_mutex_unlock(&m->mutex);
    return found;
}

static void note_shared(struct entry *x, const struct prompt *p)
{
    if (!p || !p->is_shared_known || p->n_shared > x->n_tokens)
        return; /* what lies behind the remembered text need not be the next prompt's */
    x->is_shared_known = true;
    x->n_shared = p->n_shared;
}

void memo_note_shared(struct memo *m, const struct prompt *p)
{
    const struct digest *const keys[] = {&p->boundary, &p->before};
    uint64_t value;
    pthread_mutex_lock(&m->mutex);
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
        if (map_get(&m->table, keys[i], &value))
            note_shared((struct entry *)(uintptr_t)value, p);
    pthread_mutex_unlock(&m->mutex);
}

static struct digest row_key(const struct digest *key)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir turn", key->b, sizeof key->b);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

/* The durable row: meta u32 n_replayed, payload token ids. */
static bool recall_durable(struct memo *m, const struct digest *key, struct prompt *p)
{
    if (!m->options.store || m->options.no_replay)
        return false;
    struct digest row = row_key(key);
    struct store_pin pin;
    struct err e;
    if (!store_has(m->options.store, &row) || store_get(m->options.store, &row, &pin, &e) != OK)
        return false;
    bool ok = pin.kind == RECORD_TOKENS && pin.meta_len == 4 && pin.n_chunks == 1;
    struct store_chunk_ref chunk = ok ? store_chunk(&pin, 0) : (struct store_chunk_ref){0};
    ok = ok && chunk.len >= 4 && chunk.len % 4 == 0 && chunk.len / 4 < UINT32_MAX;
    uint32_t n = (uint32_t)(chunk.len / 4);
    uint32_t *ids = ok ? mem_try_new(n, sizeof *ids) : NULL;
    if (ids) {
        p->tokens = (struct token_list){ids, n, n};
        p->n_replayed = get_le32(pin.meta);
        p->is_odd = true;
        ok = store_copy_chunk(&pin, 0, ids, &e) == OK;
        for (uint32_t i = 0; i < n; i++)
            ok = ok && ids[i] < m->vocabulary.n_vocab;
        if (!ok)
            token_list_release(&p->tokens);
    }
    store_unpin(m->options.store, &pin);
    if (ids && ok)
        store_touch(m->options.store, &row, 1); /* rows that nobody asks for expire */
    return ids && ok;
}

/* before: the prompt that it goes on from, or NULL. */
static void remember(struct memo *m, const struct digest *key, const uint32_t *tokens,
                     uint32_t n_tokens, uint32_t n_replayed, bool is_odd,
                     const struct prompt *before)
{
    size_t bytes = n_tokens * sizeof *tokens;
    struct entry *x = mem_try_new(1, sizeof *x);
    if (!x || bytes > MEMO_BYTES_MAX / 4)
        goto fail;
    *x = (struct entry){
        .key = *key, .n_tokens = n_tokens, .n_replayed = n_replayed, .is_odd = is_odd};
    note_shared(x, before);
    x->tokens = mem_try_new(n_tokens, sizeof *tokens);
    if (!x->tokens)
        goto fail;
    memcpy(x->tokens, tokens, bytes);
    pthread_mutex_lock(&m->mutex);
    uint64_t old;
    if (map_get(&m->table, key, &old)) {
        struct entry *gone = (struct entry *)(uintptr_t)old;
        unlink_entry(m, gone);
        m->bytes -= gone->n_tokens * sizeof *tokens;
        m->n_entries--;
        entry_free(gone);
    }
    while (m->oldest && (m->bytes + bytes > MEMO_BYTES_MAX || m->n_entries >= MEMO_ENTRIES_MAX))
        drop_oldest(m);
    if (map_put(&m->table, key, (uint64_t)(uintptr_t)x) == OK) {
        link_newest(m, x);
        m->bytes += bytes;
        m->n_entries++;
        x = NULL;
    } else {
        map_remove(&m->table, key); /* it may still name the entry just freed */
    }
    pthread_mutex_unlock(&m->mutex);
fail:
    if (x)
        entry_free(x);
}

static void forget(struct memo *m, const struct digest *key)
{
    uint64_t value;
    pthread_mutex_lock(&m->mutex);
    if (map_get(&m->table, key, &value)) {
        struct entry *x = (struct entry *)(uintptr_t)value;
        unlink_entry(m, x);
        map_remove(&m->table, key);
        m->bytes -= x->n_tokens * sizeof *x->tokens;
        m->n_entries--;
        entry_free(x);
    }
    pthread_mutex_unlock(&m->mutex);
}

/* ---- tokenizing ---- */

static enum status add_point(struct prompt *p, uint32_t position)
{
    if (p->n_points > 0 && p->points[p->n_points - 1] == position)
        return OK;
    if ((p->n_points & (p->n_points - 1)) == 0) { /* full at each power of two */
        uint32_t cap = p->n_points ? p->n_points * 2 : 1;
        uint32_t *grown = mem_try_resize(p->points, cap, sizeof *grown);
        if (!grown)
            return E_NOMEM;
        p->points = grown;
    }
    p->points[p->n_points++] = position;
    return OK;
}

/* Message boundaries: behind each end-of-turn token. */
static enum status find_points(const struct memo *m, struct prompt *p)
{
    for (uint32_t i = 0; i < p->tokens.count; i++)
        if (tokenizer_is_end(m->options.tokenizer, p->tokens.ids[i]) && add_point(p, i + 1) != OK)
            return E_NOMEM;
    return OK;
}

static enum status encode_segment(struct memo *m, struct slice text, bool is_first,
                                  struct prompt *p, struct err *e)
{
    struct slice bos = m->vocabulary.bos == TOKEN_NONE
                           ? (struct slice){0}
                           : tokenizer_piece(m->options.tokenizer, m->vocabulary.bos, true);
    struct encode_flags flags = {.parse_special = true};
    if (is_first && m->vocabulary.add_bos && !(bos.len && slice_starts(text, bos))) {
        enum status st = token_list_add(&p->tokens, m->vocabulary.bos);
        if (st != OK)
            return err_set(e, st, "no memory for the prompt's tokens");
    }
    return tokenizer_encode(m->options.tokenizer, text, flags, &p->tokens, e);
}

/* What is behind the last segment that is remembered.  counts [c->n], or NULL: tokens up to the end
 * of each segment from there on. */
static enum status encode_rest(struct memo *m, struct slice text, const struct cuts *c,
                               uint32_t known, struct prompt *p, uint32_t *counts, struct err *e)
{
    size_t from = known ? c->ends[known - 1] : 0;
    enum status st = OK;
    for (uint32_t i = known; st == OK && i < c->n; i++) {
        st = encode_segment(m, (struct slice){text.ptr + from, c->ends[i] - from}, i == 0, p, e);
        from = c->ends[i];
        if (counts)
            counts[i] = (uint32_t)p->tokens.count;
    }
    p->n_boundary_tokens = (uint32_t)p->tokens.count;
    if (st == OK && (from < text.len || c->n == 0))
        st = encode_segment(m, (struct slice){text.ptr + from, text.len - from}, c->n == 0, p, e);
    return st;
}

/* Where the next prompt may go on: behind this one's last turn, before it (another question about
 * the same), and behind the first (another chat with the same system text). */
static void remember_ends(struct memo *m, const struct cuts *c, uint32_t known,
                          const uint32_t *counts, const struct prompt *p)
{
    for (uint32_t i = known; i < c->n; i++)
        if (i == 0 || i + 2 >= c->n)
            remember(m, &c->digests[i], p->tokens.ids, counts[i], p->n_replayed, p->is_odd, p);
}

enum status memo_tokenize(struct memo *m, const struct digest *owner, struct slice text,
                          struct prompt *p, struct err *e)
{
    struct cuts c = {0};
    uint64_t start = clock_now_ns();
    uint32_t *counts = NULL;
    *p = (struct prompt){.is_text = true};
    buf_init(&p->rest, PROMPT_TEXT_MAX);
    enum status st = cut(m, owner, text, &c);
    if (st != OK) {
        err_set(e, st, "no memory to cut the prompt");
        goto out;
    }
    size_t rest_from = c.n ? c.ends[c.n - 1] : 0;
    buf_add(&p->rest, text.ptr + rest_from, text.len - rest_from);
    p->boundary = c.n ? c.digests[c.n - 1] : *owner;
    uint32_t known = c.n;
    while (known > 0 && !recall(m, &c.digests[known - 1], p) &&
           !recall_durable(m, &c.digests[known - 1], p))
        known--;
    p->n_cuts = c.n;
    p->n_known = known;
    p->before = c.n > 1 ? c.digests[c.n - 2] : p->boundary;
    counts = mem_try_new((size_t)c.n + 1, sizeof *counts);
    st = counts ? encode_rest(m, text, &c, known, p, counts, e)
                : err_set(e, E_NOMEM, "no memory for the prompt");
    if (st == OK)
        remember_ends(m, &c, known, counts, p);
    if (st == OK && find_points(m, p) != OK)
        st = err_set(e, E_NOMEM, "no memory for the prompt");
    if (st == OK && p->tokens.count == 0)
        st = err_set(e, E_INVALID, "the prompt is empty");
out:
    mem_free(counts);
    mem_free(c.ends);
    mem_free(c.digests);
    p->ms = clock_ms_since(start);
    if (st != OK)
        prompt_release(p);
    return st;
}

/* ---- what a session knows ---- */

/* The bytes that tokens spell, as a rendered text has them; *n_ends of end-of-turn tokens' ends:
 * ends[i] bytes after at[i] tokens. */
struct spelled {
    struct buf text;
    size_t *ends;
    uint32_t *at;
    uint32_t n;
};

/* The first token is a BOS that was added to the text's tokens, not to the text. */
static bool has_added_bos(const struct memo *m, struct slice text, const uint32_t *tokens,
                          uint32_t n_tokens)
{
    return n_tokens > 0 && m->vocabulary.add_bos && tokens[0] == m->vocabulary.bos &&
           !slice_starts(text, tokenizer_piece(m->options.tokenizer, tokens[0], true));
}

uint32_t memo_tokens_within(const struct memo *m, struct slice text, const uint32_t *tokens,
                            uint32_t n_tokens, size_t n_bytes)
{
    struct detokenizer d;
    struct buf piece;
    size_t used = 0;
    uint32_t i = has_added_bos(m, text, tokens, n_tokens);
    detok_init(&d, m->options.tokenizer, true);
    buf_init(&piece, PROMPT_TEXT_MAX);
    for (; i < n_tokens && used < n_bytes && !piece.failed; i++) {
        buf_clear(&piece);
        detok_push(&d, tokens[i], &piece);
        if (used + piece.len > n_bytes)
            break;
        used += piece.len;
    }
    buf_release(&piece);
    return i;
}

static bool spell(const struct memo *m, struct slice text, const uint32_t *tokens,
                  uint32_t n_tokens, struct spelled *s)
{
    struct detokenizer d;
    buf_init(&s->text, PROMPT_TEXT_MAX);
    s->ends = mem_try_new(n_tokens + 1, sizeof *s->ends);
    s->at = mem_try_new(n_tokens + 1, sizeof *s->at);
    if (!s->ends || !s->at)
        return false;
    detok_init(&d, m->options.tokenizer, true);
    for (uint32_t i = has_added_bos(m, text, tokens, n_tokens); i < n_tokens; i++) {
        if (tokens[i] >= m->vocabulary.n_vocab)
            return false;
        detok_push(&d, tokens[i], &s->text);
        if (tokenizer_is_end(m->options.tokenizer, tokens[i])) {
            s->ends[s->n] = s->text.len;
            s->at[s->n++] = i + 1;
        }
    }
    return !s->text.failed;
}

/* The end-of-turn token whose text stands at `from`; TOKEN_NONE: none does. */
static uint32_t end_token_at(const struct memo *m, struct slice text, size_t from)
{
    const uint32_t ids[] = {m->vocabulary.eot, m->vocabulary.eos};
    struct slice rest = {text.ptr + from, text.len - from};
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        struct slice piece = ids[i] == TOKEN_NONE
                                 ? (struct slice){0}
                                 : tokenizer_piece(m->options.tokenizer, ids[i], true);
        if (piece.len && slice_starts(rest, piece) && first_boundary(m, piece) == piece.len)
            return ids[i];
    }
    return TOKEN_NONE;
}

static uint32_t cut_at(const struct cuts *c, size_t end)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (c->ends[i] == end)
            return i;
    return UINT32_MAX;
}

/* Would the tokenizer spell the whole of it so? */
static bool spells_alike(struct memo *m, struct slice text, const struct cuts *c, uint32_t n_cuts,
                         const uint32_t *tokens, uint32_t n_tokens)
{
    struct cuts some = *c;
    struct prompt canonical = {0};
    struct err e;
    some.n = n_cuts;
    struct slice head = {text.ptr, c->ends[n_cuts - 1]};
    bool same = encode_rest(m, head, &some, 0, &canonical, NULL, &e) == OK &&
                canonical.tokens.count == n_tokens &&
                memcmp(canonical.tokens.ids, tokens, n_tokens * sizeof *tokens) == 0;
    token_list_release(&canonical.tokens);
    return same;
}

bool memo_seed(struct memo *m, const struct digest *owner, struct slice text,
               const uint32_t *tokens, uint32_t n_tokens, uint32_t n_turns)
{
    struct spelled s = {0};
    struct cuts c = {0};
    bool seeded = false;
    uint32_t *ids = mem_try_new((size_t)n_tokens + 1, sizeof *ids);
    if (m->options.no_replay || !ids || !spell(m, text, tokens, n_tokens, &s) ||
        cut(m, owner, text, &c) != OK)
        goto out;
    size_t common = 0, n = s.text.len < text.len ? s.text.len : text.len;
    while (common < n && s.text.ptr[common] == text.ptr[common])
        common++;
    memcpy(ids, tokens, n_tokens * sizeof *ids);
    uint32_t index = UINT32_MAX, count = 0;
    if (common == s.text.len) { /* the last turn's end is in the text, if not in the session */
        uint32_t end = end_token_at(m, text, common);
        if (end != TOKEN_NONE) {
            ids[n_tokens] = end;
            count = n_tokens + 1;
            index = cut_at(&c, common + tokenizer_piece(m->options.tokenizer, end, true).len);
        }
    }
    for (uint32_t i = s.n; index == UINT32_MAX && i-- > 0;) {
        count = s.at[i];
        index = s.ends[i] <= common ? cut_at(&c, s.ends[i]) : UINT32_MAX;
        n_turns = 0; /* only a part of it: how many is not known here */
    }
    if (index != UINT32_MAX) {
        bool is_odd = !spells_alike(m, text, &c, index + 1, ids, count);
        remember(m, &c.digests[index], ids, count, is_odd ? n_turns : 0, is_odd, NULL);
        for (uint32_t i = index + 1; i < c.n; i++) /* they begin with other ids */
            forget(m, &c.digests[i]);
        seeded = true;
    }
out:
    mem_free(s.ends);
    mem_free(s.at);
    buf_release(&s.text);
    mem_free(c.ends);
    mem_free(c.digests);
    mem_free(ids);
    return seeded;
}

/* ---- remembering a turn ---- */

static void row_done(void *arg, enum status st, const struct err *e)
{
    (void)st; /* losing a row costs a canonical tokenization, and the cache warns about the disk */
    (void)e;
    mem_free(arg);
}

static void remember_durably(struct memo *m, const struct digest *key, uint64_t owner,
                             const uint32_t *tokens, uint32_t n_tokens, uint32_t n_replayed)
{
    if (!m->options.store || m->options.store_read_only)
        return;
    uint32_t *copy = mem_try_new(n_tokens, sizeof *copy);
    if (!copy)
        return;
    memcpy(copy, tokens, n_tokens * sizeof *copy);
    uint8_t meta[4];
    put_le32(meta, n_replayed);
    struct store_chunk chunk = {copy, n_tokens * sizeof *copy};
    struct store_put put = {.kind = RECORD_TOKENS,
                            .key = row_key(key), /* its digest has the owner's salt */
                            .owner = owner,
                            .meta = meta,
                            .meta_len = sizeof meta,
                            .chunks = &chunk,
                            .n_chunks = 1,
                            .done = row_done,
                            .arg = copy};
    struct err e;
    if (store_put(m->options.store, &put, &e) != OK)
        mem_free(copy);
}

/* Would the tokenizer spell the last segment with just these ids? */
static bool is_canonical(struct memo *m, const struct prompt *p, struct slice segment,
                         const uint32_t *tokens, uint32_t n_tokens)
{
    struct prompt canonical = {0};
    struct err e;
    bool same = encode_segment(m, segment, p->n_boundary_tokens == 0, &canonical, &e) == OK &&
                canonical.tokens.count == n_tokens &&
                memcmp(canonical.tokens.ids, tokens, n_tokens * sizeof *tokens) == 0;
    token_list_release(&canonical.tokens);
    return same;
}

void memo_remember(struct memo *m, const struct prompt *p, const uint32_t *generated,
                   uint32_t n_generated, struct slice written, uint32_t end_token)
{
    if (!p->is_text || m->options.no_replay)
        return;
    struct slice end_piece = tokenizer_piece(m->options.tokenizer, end_token, true);
    if (end_piece.len == 0 || first_boundary(m, end_piece) != end_piece.len)
        return; /* not one of the tokens at which texts are cut */
    struct buf segment;
    buf_init(&segment, PROMPT_TEXT_MAX);
    buf_add_slice(&segment, buf_slice(&p->rest));
    buf_add_slice(&segment, written);
    uint32_t n = (uint32_t)p->tokens.count + n_generated + 1;
    uint32_t *tokens = mem_try_new(n, sizeof *tokens);
    /* A turn that wrote an end token's text by other means would be cut elsewhere: leave it. */
    if (!segment.failed && tokens && first_boundary(m, buf_slice(&segment)) == 0) {
        buf_add_slice(&segment, end_piece);
        memcpy(tokens, p->tokens.ids, p->tokens.count * sizeof *tokens);
        memcpy(tokens + p->tokens.count, generated, n_generated * sizeof *tokens);
        tokens[n - 1] = end_token;
        struct digester d = {0};
        struct digest key = extend(&d, &p->boundary, buf_slice(&segment));
        digester_release(&d);
        bool is_odd =
            p->is_odd || !is_canonical(m, p, buf_slice(&segment), tokens + p->n_boundary_tokens,
                                       n - p->n_boundary_tokens);
        remember(m, &key, tokens, n, p->n_replayed + 1, is_odd, p);
        if (is_odd)
            remember_durably(m, &key, p->store_owner, tokens, n, p->n_replayed + 1);
    }
    mem_free(tokens);
    buf_release(&segment);
}
