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

/* "left right": cut at the blank that is not the first character (a token cannot hold a blank, but
 * old files have merges of U+0020 written as it is; those are refused with the others). */
static enum status cut_merge(struct loader *l, struct slice line, uint32_t rank, size_t *cut)
{
    const char *blank = line.len > 1 ? memchr(line.ptr + 1, ' ', line.len - 1) : NULL;
    if (!blank || blank + 1 == line.ptr + line.len)
        return load_error(l, E_INVALID, "merge %u is not two tokens: \"" SLICE_FMT "\"", rank,
                          slice_short(line), line.ptr);
    *cut = (size_t)(blank - line.ptr);
    return OK;
}

static enum status add_merge(struct loader *l, struct slice line, uint32_t rank)
{
    struct tokenizer *t = l->t;
    char joined[2 * TOKENIZER_TOKEN_BYTES_MAX];
    size_t cut;
    bool there;
    enum status st = cut_merge(l, line, rank, &cut);
    if (st != OK)
        return st;
    if (line.len > sizeof joined)
        return load_error(l, E_LIMIT, "merge %u has %zu bytes", rank, line.len);
    memcpy(joined, line.ptr, cut);
    memcpy(joined + cut, line.ptr + cut + 1, line.len - cut - 1);
    uint32_t left = words_find(&t->by_text, line.ptr, cut);
    uint32_t right = words_find(&t->by_text, line.ptr + cut + 1, line.len - cut - 1);
    uint32_t both = words_find(&t->by_text, joined, line.len - 1);
    if (left == WORDS_NONE || right == WORDS_NONE || both == WORDS_NONE)
        return load_error(l, E_INVALID, "merge %u names a token that is not there: \"" SLICE_FMT "\"",
                          rank, slice_short(line), line.ptr);
    /* Text that merely looks like a control token must not become one: such merges rest. */
    if (!t->is_mergeable[left] || !t->is_mergeable[right] || !t->is_mergeable[both])
        return OK;
    t->merged[rank] = both;
    return pairs_add(&t->merges, left, right, rank, &there, l->e);
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
    st = pairs_init(&t->merges, n, l->e);
    const uint8_t *at = lines.data;
    for (uint32_t rank = 0; st == OK && rank < n; rank++)
        st = add_merge(l, gguf_array_string(&at), rank);
    return st;
}
