/* SPDX-License-Identifier: MIT
 * json_text.c — from an automaton over the code points of a text to one over the bytes of that text
 * as a JSON string, quotes and all.
 * Where the first is without choice so is the second, state by state, and there is no subset to be
 * looked for: a length of 4,096 is 57,000 states, which the way over an automaton with choice can't
 * hold.  A code point has one spelling: its UTF-8, but for what RFC 8259 wants escaped. */
#include <string.h>

#include "base/mem.h"
#include "grammar/automaton.h"

/* States of the result: 0 before the quote, 1 behind the last one, FIRST_TEXT + s where the text's
 * automaton is in s, then those in the middle of a character. */
#define STATE_END      1u
#define FIRST_TEXT     2u
#define TEXT_EDGES_MAX 256u /* of any byte */

struct edges {
    struct dfa_edge list[TEXT_EDGES_MAX];
    uint32_t n;
};
/* A state in the middle of a character. */
struct middle {
    uint32_t first, count; /* in edges */
};
struct writer {
    const struct dfa *text;
    uint32_t state; /* of the text, whose edges are being written */
    struct middle *middles;
    struct dfa_edge *edges;
    uint32_t n_middles, middles_cap, n_edges, edges_cap;
    uint32_t *slots, n_slots; /* middles by their edges, + 1 */
    enum status failed;
};

static void put_edge(struct edges *to, uint32_t lo, uint32_t hi, uint32_t state)
{
    struct dfa_edge *last = to->n ? &to->list[to->n - 1] : NULL;
    if (state == STATE_NONE)
        return;
    if (last && last->to == state && last->hi + 1 == lo)
        last->hi = hi;
    else
        to->list[to->n++] = (struct dfa_edge){lo, hi, state};
}

/* ---- states in the middle of a character: each once ---- */
static uint64_t hash_of(const struct dfa_edge *edges, uint32_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ edges[i].lo) * 0x100000001b3u;
        h = (h ^ edges[i].hi) * 0x100000001b3u;
        h = (h ^ edges[i].to) * 0x100000001b3u;
    }
    return h ^ h >> 32;
}

static bool room(struct writer *w, uint32_t n_more)
{
    if (w->failed != OK)
        return false;
    if (w->n_middles == w->middles_cap) {
        uint32_t cap = w->middles_cap ? 2 * w->middles_cap : 64, n_slots = 4 * cap;
        struct middle *middles = mem_try_resize(w->middles, cap, sizeof *middles);
        w->middles = middles ? middles : w->middles;
        uint32_t *slots = mem_try_new(n_slots, sizeof *slots);
        if (cap > AUTOMATON_STATES_MAX || !middles || !slots) {
            mem_free(slots);
            w->failed = middles && slots ? E_LIMIT : E_NOMEM;
            return false;
        }
        mem_free(w->slots);
        w->slots = slots;
        w->n_slots = n_slots;
        w->middles_cap = cap;
        for (uint32_t i = 0; i < w->n_middles; i++) {
            const struct middle *m = &w->middles[i];
            uint32_t at = (uint32_t)hash_of(w->edges + m->first, m->count) & (n_slots - 1);
            while (slots[at])
                at = (at + 1) & (n_slots - 1);
            slots[at] = i + 1;
        }
    }
    while (w->edges_cap - w->n_edges < n_more) {
        uint32_t cap = w->edges_cap ? 2 * w->edges_cap : 1024;
        struct dfa_edge *edges = mem_try_resize(w->edges, cap, sizeof *edges);
        w->edges = edges ? edges : w->edges;
        if (cap > AUTOMATON_EDGES_MAX || !edges) {
            w->failed = edges ? E_LIMIT : E_NOMEM;
            return false;
        }
        w->edges_cap = cap;
    }
    return true;
}

/* The state with these edges; none: STATE_NONE. */
static uint32_t middle_of(struct writer *w, const struct edges *e)
{
    if (e->n == 0 || !room(w, e->n))
        return STATE_NONE;
    const uint32_t base = FIRST_TEXT + w->text->n_states;
    uint32_t at = (uint32_t)hash_of(e->list, e->n) & (w->n_slots - 1);
    for (; w->slots[at]; at = (at + 1) & (w->n_slots - 1)) {
        const struct middle *m = &w->middles[w->slots[at] - 1];
        if (m->count == e->n && memcmp(w->edges + m->first, e->list, e->n * sizeof *e->list) == 0)
            return base + w->slots[at] - 1;
    }
    memcpy(w->edges + w->n_edges, e->list, e->n * sizeof *e->list);
    w->middles[w->n_middles] = (struct middle){w->n_edges, e->n};
    w->n_edges += e->n;
    w->slots[at] = ++w->n_middles;
    return base + w->n_middles - 1;
}

/* ---- UTF-8 ---- */
/* Any so many continuation bytes, then state `to`. */
static uint32_t any_tail(struct writer *w, uint32_t n_bytes, uint32_t to)
{
    for (; n_bytes > 0; n_bytes--) {
        struct edges e = {.n = 0};
        put_edge(&e, 0x80, 0xBF, to);
        to = middle_of(w, &e);
    }
    return to;
}

/* The bytes by which code points lo..hi begin, with n_more bytes behind each: byte = bias + the
 * code point's bits above those.  lo..hi have the same bits above the byte's own.  Depth: n_more
 * ≤ 3. */
static void put_range(struct writer *w, struct edges *e, uint32_t lo, uint32_t hi, uint32_t n_more,
                      uint32_t bias, uint32_t mask)
{
    const struct dfa *d = w->text;
    const uint32_t shift = 6 * n_more, low = (1u << shift) - 1;
    uint32_t i = d->first[w->state];
    for (uint32_t at = lo; at <= hi;) {
        while (i < d->first[w->state + 1] && d->edges[i].hi < at)
            i++;
        if (i == d->first[w->state + 1] || d->edges[i].lo > hi)
            return;
        at = d->edges[i].lo > at ? d->edges[i].lo : at;
        const uint32_t last = d->edges[i].hi < hi ? d->edges[i].hi : hi;
        const uint32_t byte = bias + (at >> shift & mask);
        if ((at & low) == 0 && last >= (at | low)) { /* all of one or more blocks */
            uint32_t end = (last & low) == low ? last : (last & ~low) - 1;
            put_edge(e, byte, bias + (end >> shift & mask),
                     any_tail(w, n_more, FIRST_TEXT + d->edges[i].to));
            at = end + 1;
            continue;
        }
        struct edges tail = {.n = 0};
        uint32_t end = (at | low) < hi ? (at | low) : hi;
        put_range(w, &tail, at, end, n_more - 1, 0x80, 0x3F);
        put_edge(e, byte, byte, middle_of(w, &tail));
        at = end + 1;
    }
}

/* ---- what is escaped ---- */
static uint32_t text_next(const struct writer *w, uint32_t cp)
{
    uint32_t to = dfa_next(w->text, w->state, cp);
    return to == STATE_NONE ? STATE_NONE : FIRST_TEXT + to;
}

/* The last digit of \u000X and \u001X. */
static uint32_t digit_of(struct writer *w, uint32_t tens)
{
    struct edges e = {.n = 0};
    for (int upper = 0; upper < 3; upper++)
        for (uint32_t d = upper ? 10 : 0; d < (upper ? 16 : 10); d++) {
            uint32_t cp = 16 * tens + d,
                     c = upper == 0 ? '0' + d : (upper == 1 ? 'A' : 'a') + d - 10;
            bool has_letter = cp >= 8 && cp <= 13 && cp != 11;
            if (!has_letter)
                put_edge(&e, c, c, text_next(w, cp));
        }
    return middle_of(w, &e);
}

/* Behind the backslash. */
static uint32_t escape_of(struct writer *w)
{
    static const struct {
        char letter, means;
    } letters[] = {{'"', '"'},  {'\\', '\\'}, {'b', '\b'}, {'f', '\f'},
                   {'n', '\n'}, {'r', '\r'},  {'t', '\t'}};
    struct edges e = {.n = 0}, u = {.n = 0};
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        uint32_t c = (uint8_t)letters[i].letter;
        put_edge(&e, c, c, text_next(w, (uint8_t)letters[i].means));
    }
    put_edge(&u, '0', '0', digit_of(w, 0));
    put_edge(&u, '1', '1', digit_of(w, 1));
    for (int zeros = 0; zeros < 2; zeros++) {
        uint32_t next = middle_of(w, &u);
        u.n = 0;
        put_edge(&u, '0', '0', next);
    }
    put_edge(&e, 'u', 'u', middle_of(w, &u));
    return middle_of(w, &e);
}

/* ---- counting ---- */
bool dfa_json_counts(const struct dfa *text, uint32_t *first, uint32_t *last)
{
    uint32_t least = 0;
    for (uint32_t s = 0; s < text->n_states; s++) {
        const uint32_t n = text->first[s + 1] - text->first[s];
        const bool is_last = s + 1 == text->n_states;
        const struct dfa_edge *x = is_last ? NULL : &text->edges[text->first[s]];
        if (n != (is_last ? 0 : 1) ||
            (x && (x->lo != 0 || x->hi != CODE_POINT_MAX || x->to != s + 1)))
            return false;
        least += least == s && !text->is_final[s];
        if (s >= least && !text->is_final[s])
            return false;
    }
    *first = FIRST_TEXT + least; /* none of these leads nowhere, so they keep their numbers */
    *last = FIRST_TEXT + text->n_states - 1;
    return text->n_states > 0;
}

/* ---- all ---- */
static void put_text_state(struct writer *w, struct edges *e)
{
    e->n = 0;
    put_range(w, e, 0x20, '"' - 1, 0, 0, 0x7F);
    if (w->text->is_final[w->state])
        put_edge(e, '"', '"', STATE_END);
    put_range(w, e, '"' + 1, '\\' - 1, 0, 0, 0x7F);
    put_edge(e, '\\', '\\', escape_of(w));
    put_range(w, e, '\\' + 1, 0x7F, 0, 0, 0x7F);
    put_range(w, e, 0x80, 0x7FF, 1, 0xC0, 0x1F);
    put_range(w, e, 0x800, 0xD7FF, 2, 0xE0, 0x0F); /* surrogates have no UTF-8 */
    put_range(w, e, 0xE000, 0xFFFF, 2, 0xE0, 0x0F);
    put_range(w, e, 0x10000, CODE_POINT_MAX, 3, 0xF0, 0x07);
}

enum status dfa_json_text(const struct dfa *text, struct dfa *out, struct err *e)
{
    struct writer w = {.text = text};
    struct dfa_maker m = {0};
    struct edges edges;
    if (text->n_states) {
        dfa_maker_state(&m, false);
        dfa_maker_edge(&m, '"', '"', FIRST_TEXT);
        dfa_maker_state(&m, true);
    }
    for (w.state = 0; w.state < text->n_states && m.failed == OK; w.state++) {
        put_text_state(&w, &edges);
        dfa_maker_state(&m, false);
        for (uint32_t i = 0; i < edges.n; i++)
            dfa_maker_edge(&m, edges.list[i].lo, edges.list[i].hi, edges.list[i].to);
        m.failed = m.failed == OK ? w.failed : m.failed;
    }
    for (uint32_t i = 0; i < w.n_middles && m.failed == OK; i++) {
        dfa_maker_state(&m, false);
        for (uint32_t j = 0; j < w.middles[i].count; j++) {
            const struct dfa_edge *x = &w.edges[w.middles[i].first + j];
            dfa_maker_edge(&m, x->lo, x->hi, x->to);
        }
    }
    mem_free(w.middles);
    mem_free(w.edges);
    mem_free(w.slots);
    return dfa_maker_end(&m, out, e);
}
