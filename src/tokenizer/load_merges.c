/* SPDX-License-Identifier: MIT
 * load_merges.c — what may be joined: the merge list of BPE, the scores of SPM. */
#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "tokenizer/load_int.h"

#include <math.h>

/* Floats in ascending order as ascending integers, for all but NaN. */
static uint32_t ordered(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

enum status load_scores(struct loader *l)
{
    struct tokenizer *t = l->t;
    uint32_t n = t->texts.count;
    struct gguf_array scores;
    bool found;
    enum status st = gguf_get_array(l->g, "tokenizer.ggml.scores", &scores, &found, l->e);
    if (st != OK)
        return st;
    if (!found)
        return load_error(l, E_INVALID, "no tokenizer.ggml.scores, which model \"llama\" needs");
    if (scores.kind != GGUF_F32)
        return load_error(l, E_INVALID, "tokenizer.ggml.scores: not f32");
    if (scores.count != n)
        return load_error(l, E_INVALID, "%llu token scores for %u tokens",
                          (unsigned long long)scores.count, n);
    t->ranks = mem_try_new(n, sizeof *t->ranks);
    if (!t->ranks)
        return load_error(l, E_NOMEM, "scores of %u tokens", n);
    for (uint32_t id = 0; id < n; id++) {
        float score;
        memcpy(&score, scores.data + 4 * (size_t)id, sizeof score);
        if (isnan(score))
            return load_error(l, E_INVALID, "token %u: its score is not a number", id);
        t->ranks[id] = ~ordered(score);
    }
    return OK;
}

/* A line of the merge list, cut in two; the hashes are made ahead so that the slots of a whole batch
 * are on their way from memory when the first is looked at.  With find_joined()'s guess and the
 * prefetches of load.c, gpt-oss (446,000 lines) loads in 117 ms instead of 220: processor time, three
 * interleaved runs of the best of ten, on a busy machine. */
struct merge_line {
    struct slice left, right;
    uint64_t left_hash, right_hash;
};

#define MERGE_BATCH 32u

/* Cut at the blank that is not the first character. */
static enum status cut_line(struct loader *l, struct slice line, uint32_t rank, struct merge_line *m)
{
    const char *blank = line.len > 1 ? memchr(line.ptr + 1, ' ', line.len - 1) : NULL;
    if (!blank || blank + 1 == line.ptr + line.len)
        return load_error(l, E_INVALID, "merge %u is not two tokens: \"" SLICE_FMT "\"", rank,
                          slice_short(line), line.ptr);
    m->left = (struct slice){line.ptr, (size_t)(blank - line.ptr)};
    m->right = (struct slice){blank + 1, line.len - m->left.len - 1};
    m->left_hash = words_hash(m->left.ptr, m->left.len);
    m->right_hash = words_hash(m->right.ptr, m->right.len);
    words_prefetch(&l->t->by_text, m->left_hash);
    words_prefetch(&l->t->by_text, m->right_hash);
    return OK;
}

static bool is_joined(const struct tokenizer *t, uint32_t id, const struct merge_line *m)
{
    if (id >= t->texts.count)
        return false;
    struct slice text = strings_at(&t->texts, id);
    return text.len == m->left.len + m->right.len && slice_starts(text, m->left) &&
           memcmp(text.ptr + m->left.len, m->right.ptr, m->right.len) == 0;
}

/* The token that a line makes.  Files list merges in the order of the ids that they make (one or
 * several lines each), so the last one or its successor is nearly always right. */
static uint32_t find_joined(const struct tokenizer *t, const struct merge_line *m, uint32_t last)
{
    char joined[TOKENIZER_TOKEN_BYTES_MAX];
    size_t len = m->left.len + m->right.len;
    if (is_joined(t, last + 1, m))
        return last + 1;
    if (is_joined(t, last, m))
        return last;
    if (len > sizeof joined)
        return WORDS_NONE; /* longer than any token */
    memcpy(joined, m->left.ptr, m->left.len);
    memcpy(joined + m->left.len, m->right.ptr, m->right.len);
    return words_find(&t->by_text, joined, len);
}

static enum status add_merge(struct loader *l, const struct merge_line *m, uint32_t rank)
{
    struct tokenizer *t = l->t;
    bool there;
    uint32_t last = rank > 0 ? t->merged[rank - 1] : 0;
    uint32_t both = find_joined(t, m, last);
    uint32_t left = words_find_hashed(&t->by_text, m->left.ptr, m->left.len, m->left_hash);
    uint32_t right = words_find_hashed(&t->by_text, m->right.ptr, m->right.len, m->right_hash);
    if (left == WORDS_NONE || right == WORDS_NONE || both == WORDS_NONE)
        return load_error(l, E_INVALID,
                          "merge %u names a token that is not there: \"" SLICE_FMT " " SLICE_FMT "\"",
                          rank, slice_short(m->left), m->left.ptr, slice_short(m->right),
                          m->right.ptr);
    t->merged[rank] = both;
    /* Text that merely looks like a control token must not become one: such merges rest. */
    if (!t->is_mergeable[left] || !t->is_mergeable[right] || !t->is_mergeable[both])
        return OK;
    return load_status(l, pairs_add(&t->merges, left, right, rank, &there, l->e));
}

static enum status add_merges(struct loader *l, const struct gguf_array *lines)
{
    struct merge_line batch[MERGE_BATCH];
    const uint8_t *at = lines->data;
    enum status st = OK;
    for (uint32_t rank = 0; st == OK && rank < lines->count; rank += MERGE_BATCH) {
        uint64_t rest = lines->count - rank;
        uint32_t n = rest < MERGE_BATCH ? (uint32_t)rest : MERGE_BATCH;
        for (uint32_t i = 0; st == OK && i < n; i++)
            st = cut_line(l, gguf_array_string(&at), rank + i, &batch[i]);
        for (uint32_t i = 0; st == OK && i < n; i++)
            st = add_merge(l, &batch[i], rank + i);
    }
    return st;
}

enum status load_merges(struct loader *l)
{
    struct tokenizer *t = l->t;
    struct gguf_array lines;
    bool found;
    enum status st = gguf_get_array(l->g, "tokenizer.ggml.merges", &lines, &found, l->e);
    if (st != OK)
        return st;
    if (!found)
        return load_error(l, E_INVALID, "no tokenizer.ggml.merges, which model \"gpt2\" needs");
    if (lines.kind != GGUF_STRING)
        return load_error(l, E_INVALID, "tokenizer.ggml.merges: not strings");
    if (lines.count > PAIRS_VALUE_MAX)
        return load_error(l, E_LIMIT, "%llu merges, at most %u", (unsigned long long)lines.count,
                          PAIRS_VALUE_MAX);
    uint32_t n = (uint32_t)lines.count;
    t->merged = mem_try_new(n ? n : 1, sizeof *t->merged);
    if (!t->merged)
        return load_error(l, E_NOMEM, "%u merges", n);
    st = load_status(l, pairs_init(&t->merges, n, l->e));
    return st == OK ? add_merges(l, &lines) : st;
}
