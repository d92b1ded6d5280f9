/* SPDX-License-Identifier: MIT
 * trie.c — token texts as a tree in preorder: a walk is a loop, and leaving a branch is one jump.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "grammar/grammar_int.h"

static int by_text(const void *a, const void *b)
{
    const struct trie_text *x = a, *y = b;
    size_t n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int order = memcmp(x->text.ptr, y->text.ptr, n);
    if (order != 0)
        return order;
    if (x->text.len != y->text.len)
        return x->text.len < y->text.len ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

/* ---- a whole vocabulary is put into order by its first eight bytes, then by the rest ---- */
#define DIGIT_BITS 16u
#define MANY_TEXTS 16384u /* from which that is quicker */
struct keyed {
    uint64_t key;
    struct trie_text text;
};

static uint64_t key_of(struct slice text)
{
    uint64_t key = 0;
    for (size_t i = 0; i < 8; i++)
        key = key << 8 | (i < text.len ? (uint8_t)text.ptr[i] : 0);
    return key;
}

/* from [n] → to by one digit of the keys; count [1 << DIGIT_BITS]. */
static void sort_by_digit(const struct keyed *from, struct keyed *to, uint32_t n, uint32_t digit,
                          uint32_t *count)
{
    const uint32_t shift = digit * DIGIT_BITS, n_values = 1u << DIGIT_BITS;
    memset(count, 0, n_values * sizeof *count);
    for (uint32_t i = 0; i < n; i++)
        count[from[i].key >> shift & (n_values - 1)]++;
    for (uint32_t v = 0, at = 0; v < n_values; v++) {
        uint32_t here = count[v];
        count[v] = at;
        at += here;
    }
    for (uint32_t i = 0; i < n; i++)
        to[count[from[i].key >> shift & (n_values - 1)]++] = from[i];
}

/* False: out of memory. */
static bool sort_many(struct trie_text *texts, uint32_t n)
{
    struct keyed *a = mem_try_new(n, sizeof *a), *b = mem_try_new(n, sizeof *b);
    uint32_t *count = mem_try_new(1u << DIGIT_BITS, sizeof *count);
    const bool ok = a && b && count;
    for (uint32_t i = 0; ok && i < n; i++)
        a[i] = (struct keyed){key_of(texts[i].text), texts[i]};
    for (uint32_t digit = 0; ok && digit < 64 / DIGIT_BITS; digit += 2) {
        sort_by_digit(a, b, n, digit, count);
        sort_by_digit(b, a, n, digit + 1, count);
    }
    for (uint32_t i = 0, first = 0; ok && i < n; i++) {
        texts[i] = a[i].text;
        if (i + 1 < n && a[i + 1].key == a[i].key)
            continue;
        if (i > first)
            qsort(texts + first, i + 1 - first, sizeof *texts, by_text);
        first = i + 1;
    }
    mem_free(a);
    mem_free(b);
    mem_free(count);
    return ok;
}

static size_t common_prefix(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len, i = 0;
    while (i < n && a.ptr[i] == b.ptr[i])
        i++;
    return i;
}

static size_t count_nodes(const struct trie_text *texts, uint32_t n)
{
    size_t count = 1;
    for (uint32_t i = 0; i < n; i++)
        count += texts[i].text.len - (i ? common_prefix(texts[i - 1].text, texts[i].text) : 0);
    return count;
}

/* Each text adds the nodes by which it is longer than what it shares with the one before it. */
static void fill(struct trie *t, const struct trie_text *texts, uint32_t n, uint32_t *open)
{
    uint32_t depth = 0;
    t->nodes[0] = (struct trie_node){0};
    t->n_nodes = 1;
    open[0] = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t shared = i ? (uint32_t)common_prefix(texts[i - 1].text, texts[i].text) : 0;
        for (; depth > shared; depth--)
            t->nodes[open[depth]].end = t->n_nodes;
        for (; depth < texts[i].text.len;) {
            uint8_t byte = (uint8_t)texts[i].text.ptr[depth];
            open[++depth] = t->n_nodes;
            t->nodes[t->n_nodes++] = (struct trie_node){
                .byte = byte, .depth = (uint16_t)depth, .first_token = t->n_tokens};
        }
        t->tokens[t->n_tokens++] = texts[i].token;
        if (depth > t->depth_max)
            t->depth_max = depth;
        for (uint32_t d = depth; d-- > 0 && t->nodes[open[d]].height < depth - d;)
            t->nodes[open[d]].height = (uint16_t)(depth - d);
        uint8_t kinds = 0;
        for (uint32_t d = depth; d > 0; d--) {
            t->nodes[open[d]].kinds |= kinds;
            kinds |= (uint8_t)(1u << byte_kind(t->nodes[open[d]].byte));
        }
        t->nodes[0].kinds |= kinds;
    }
    for (; depth > 0; depth--)
        t->nodes[open[depth]].end = t->n_nodes;
    t->nodes[0].end = t->n_nodes;
    t->nodes[t->n_nodes].first_token = t->n_tokens;
}

enum status trie_new(struct trie *t, struct trie_text *texts, uint32_t n, struct err *e)
{
    *t = (struct trie){0};
    if (n > 1 && (n < MANY_TEXTS || !sort_many(texts, n)))
        qsort(texts, n, sizeof *texts, by_text);
    uint32_t *open = mem_try_new(GRAMMAR_TOKEN_MAX + 1, sizeof *open);
    t->nodes = mem_try_new(count_nodes(texts, n) + 1, sizeof *t->nodes);
    t->tokens = mem_try_new((size_t)n + 1, sizeof *t->tokens);
    if (!open || !t->nodes || !t->tokens) {
        mem_free(open);
        trie_release(t);
        return err_set(e, E_NOMEM, "grammar: out of memory for %u tokens", n);
    }
    fill(t, texts, n, open);
    mem_free(open);
    return OK;
}

void trie_release(struct trie *t)
{
    mem_free(t->nodes);
    mem_free(t->tokens);
    *t = (struct trie){0};
}

/* ---- the vocabulary ---- */
enum status grammar_vocabulary_new(uint32_t n_vocab, struct slice (*piece)(void *arg, uint32_t id),
                                   void *arg, struct grammar_vocabulary **out, struct err *e)
{
    struct grammar_vocabulary *v = mem_try_new(1, sizeof *v);
    struct trie_text *texts = mem_try_new((size_t)n_vocab + 1, sizeof *texts);
    size_t bytes = 0, at = 0;
    uint32_t n = 0;
    for (uint32_t id = 0; id < n_vocab; id++)
        bytes += piece(arg, id).len;
    if (v) {
        v->n_vocab = n_vocab;
        v->pieces = mem_try_new((size_t)n_vocab + 1, sizeof *v->pieces);
        v->bytes = mem_try_new(bytes + 1, 1);
    }
    enum status st = v && texts && v->pieces && v->bytes
                         ? OK
                         : err_set(e, E_NOMEM, "grammar: out of memory for %u tokens", n_vocab);
    for (uint32_t id = 0; st == OK && id < n_vocab; id++) {
        struct slice text = piece(arg, id);
        if (text.len == 0 || text.len > GRAMMAR_TOKEN_MAX || text.len > bytes - at)
            continue;
        memcpy(v->bytes + at, text.ptr, text.len);
        v->pieces[id] = (struct slice){v->bytes + at, text.len};
        texts[n++] = (struct trie_text){v->pieces[id], id};
        at += text.len;
    }
    if (st == OK)
        st = trie_new(&v->trie, texts, n, e);
    mem_free(texts);
    for (uint32_t i = 1; st == OK && i < v->trie.n_nodes; i = v->trie.nodes[i].end)
        v->before[v->trie.nodes[i].byte + 1] =
            v->trie.nodes[v->trie.nodes[i].end].first_token - v->trie.nodes[i].first_token;
    for (uint32_t b = 0; st == OK && b < 256; b++)
        v->before[b + 1] += v->before[b];
    if (st == OK)
        *out = v;
    else
        grammar_vocabulary_free(v);
    return st;
}

void grammar_vocabulary_free(struct grammar_vocabulary *v)
{
    if (!v)
        return;
    trie_release(&v->trie);
    mem_free(v->pieces);
    mem_free(v->bytes);
    mem_free(v);
}
