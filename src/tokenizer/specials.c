/* SPDX-License-Identifier: MIT
 * specials.c — the trie, its walk, and the proof of where text may be cut. */
#include "tokenizer/specials.h"

#include "base/mem.h"

static void mark_start(struct specials *s, struct slice text)
{
    uint32_t first = (uint8_t)text.ptr[0];
    if (text.len >= 2) {
        uint32_t two = first * 256 + (uint8_t)text.ptr[1];
        s->starts[two / 64] |= 1ull << (two % 64);
        return;
    }
    for (uint32_t i = 0; i < 4; i++) /* any second byte */
        s->starts[first * 4 + i] = UINT64_MAX;
}

static enum status add(struct specials *s, uint32_t id, bool is_control, struct err *e)
{
    struct slice text = strings_at(s->texts, id);
    uint32_t node = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint32_t byte = (uint8_t)text.ptr[i], next = pairs_get(&s->edges, node, byte);
        if (next == PAIRS_NONE) {
            bool there;
            next = s->n_nodes;
            enum status st = pairs_add(&s->edges, node, byte, next, &there, e);
            if (st != OK)
                return st;
            s->nodes[s->n_nodes++].id = WORDS_NONE;
        }
        node = next;
    }
    s->nodes[node] = (struct specials_node){id, is_control};
    mark_start(s, text);
    return OK;
}

static enum status count_nodes(const struct specials *s, uint32_t *n_nodes, struct err *e)
{
    uint64_t sum = 1;
    for (uint32_t i = 0; i < s->count; i++) {
        size_t len = strings_at(s->texts, s->ids[i]).len;
        if (len > SPECIALS_BYTES_MAX)
            return err_set(e, E_LIMIT, "token %u: %zu bytes; special tokens have at most %u",
                           s->ids[i], len, SPECIALS_BYTES_MAX);
        sum += len;
    }
    if (sum > SPECIALS_NODES_MAX)
        return err_set(e, E_LIMIT, "special tokens: %llu bytes in all, at most %u",
                       (unsigned long long)sum, SPECIALS_NODES_MAX);
    *n_nodes = (uint32_t)sum;
    return OK;
}

enum status specials_init(struct specials *s, const struct strings *texts, uint32_t *ids,
                          bool *is_control, uint32_t count, struct err *e)
{
    *s = (struct specials){.ids = ids, .is_control = is_control, .count = count, .texts = texts};
    uint32_t n_nodes = 0;
    enum status st = count_nodes(s, &n_nodes, e);
    if (st != OK)
        return st;
    s->nodes = mem_try_new(n_nodes, sizeof *s->nodes);
    if (!s->nodes)
        return err_set(e, E_NOMEM, "trie of %u nodes", n_nodes);
    st = pairs_init(&s->edges, n_nodes, e);
    s->nodes[s->n_nodes++].id = WORDS_NONE;
    for (uint32_t i = 0; st == OK && i < count; i++)
        st = add(s, ids[i], is_control[i], e);
    return st;
}

void specials_release(struct specials *s)
{
    mem_free(s->ids);
    mem_free(s->is_control);
    mem_free(s->nodes);
    pairs_release(&s->edges);
    *s = (struct specials){0};
}

/* The longest special token at text[at]; len 0: none. */
static struct special_hit walk(const struct specials *s, struct slice text, size_t at,
                               bool with_control)
{
    struct special_hit hit = {at, 0, WORDS_NONE};
    uint32_t node = 0;
    for (size_t i = at; i < text.len; i++) {
        node = pairs_get(&s->edges, node, (uint8_t)text.ptr[i]);
        if (node == PAIRS_NONE)
            break;
        const struct specials_node *n = &s->nodes[node];
        if (n->id != WORDS_NONE && (with_control || !n->is_control)) {
            hit.len = i + 1 - at;
            hit.id = n->id;
        }
    }
    return hit;
}

struct special_hit specials_next(const struct specials *s, struct slice text, size_t at,
                                 bool with_control)
{
    const uint8_t *p = (const uint8_t *)text.ptr;
    if (s->count == 0)
        at = text.len;
    for (; at + 1 < text.len; at++) {
        uint32_t two = (uint32_t)p[at] * 256 + p[at + 1];
        if (!(s->starts[two / 64] >> (two % 64) & 1))
            continue;
        struct special_hit hit = walk(s, text, at, with_control);
        if (hit.len > 0)
            return hit;
    }
    if (at + 1 == text.len) {
        struct special_hit hit = walk(s, text, at, with_control);
        if (hit.len > 0)
            return hit;
    }
    return (struct special_hit){text.len, 0, WORDS_NONE};
}

/* Does `other`, laid over the text from k bytes before `mine` begins (or at its very beginning, but
 * longer), agree with it in all bytes that they share? */
static bool overlaps(struct slice mine, struct slice other)
{
    if (other.len > mine.len && slice_starts(other, mine))
        return true;
    for (size_t k = 1; k < other.len; k++) {
        size_t shared = other.len - k < mine.len ? other.len - k : mine.len;
        if (other.ptr[k] == mine.ptr[0] && memcmp(other.ptr + k, mine.ptr, shared) == 0)
            return true;
    }
    return false;
}

bool specials_is_unmistakable(const struct specials *s, uint32_t id)
{
    struct slice mine = strings_at(s->texts, id);
    bool is_special = false;
    for (uint32_t i = 0; i < s->count; i++) {
        is_special |= s->ids[i] == id;
        if (overlaps(mine, strings_at(s->texts, s->ids[i])))
            return false;
    }
    return is_special;
}
