/* SPDX-License-Identifier: MIT
 * rig.h — a model with its team, workspace and KV pages, for the tests of this room. */
#ifndef KVASIR_TESTS_MODEL_RIG_H
#define KVASIR_TESTS_MODEL_RIG_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/model.h"
#include "npy.h"
#include "text/json.h"

#define RIG_PAGES_MAX 512u /* 32,768 tokens */

struct rig {
    struct gguf *gguf;
    struct team *team;
    struct model *model;
    struct model_workspace *workspace;
    const struct model_info *info;
};

struct rig_options {
    enum activations activations;
    enum isa isa;
    uint32_t n_workers;
    bool may_run_alone; /* false: every step goes to the whole team, however small */
};

static inline void rig_fail(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s: %s\n", what, status_name(e->code), e->msg);
    fail();
}

/* From an open file, which is the rig's from now on. */
static inline struct rig rig_from(struct gguf *g, struct rig_options o)
{
    struct rig r = {.gguf = g};
    struct err e = {0};
    if (team_new(o.n_workers, &r.team, &e) != OK)
        rig_fail("team", &e);
    struct model_options options = {.activations = o.activations, .isa = o.isa};
    if (model_load(g, r.team, &options, &r.model, &e) != OK)
        rig_fail("load", &e);
    if (model_workspace_new(r.model, o.n_workers, &r.workspace, &e) != OK)
        rig_fail("workspace", &e);
    if (!o.may_run_alone)
        model_workspace_set_pace(r.workspace, PACE_TOGETHER);
    r.info = model_info(r.model);
    return r;
}

static inline struct rig rig_open(const char *path, struct rig_options o)
{
    struct gguf *g = NULL;
    struct err e = {0};
    if (gguf_open(path, &g, &e) != OK)
        rig_fail(path, &e);
    return rig_from(g, o);
}

static inline void rig_close(struct rig *r)
{
    model_workspace_free(r->workspace);
    model_free(r->model);
    team_free(r->team);
    gguf_close(r->gguf);
    *r = (struct rig){0};
}

/* ---- KV of one sequence: every page is memory of its own, filled with NaN until written ---- */
struct rig_kv {
    enum kv_type type;
    uint32_t n_groups, n_pages;
    void *pages[MODEL_GROUPS_MAX][RIG_PAGES_MAX];
};

static inline void rig_kv_init(struct rig_kv *kv, const struct rig *r, enum kv_type type,
                               uint32_t n_tokens)
{
    *kv = (struct rig_kv){.type = type, .n_groups = r->info->n_groups};
    kv->n_pages = (n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    CHECK(kv->n_pages <= RIG_PAGES_MAX);
    for (uint32_t g = 0; g < kv->n_groups; g++) {
        struct kv_layout l = model_kv_layout(r->model, g, type);
        for (uint32_t i = 0; i < kv->n_pages; i++) {
            kv->pages[g][i] = mem_try_aligned(64, l.page_bytes);
            CHECK(kv->pages[g][i] != NULL);
            memset(kv->pages[g][i], 0xff, l.page_bytes);
        }
    }
}

static inline void rig_kv_release(struct rig_kv *kv)
{
    for (uint32_t g = 0; g < kv->n_groups; g++)
        for (uint32_t i = 0; i < kv->n_pages; i++)
            mem_free(kv->pages[g][i]);
    *kv = (struct rig_kv){0};
}

/* Points a sequence at pages; in windowed groups at those only that the step may see. */
static inline void rig_view(const struct rig *r, struct rig_kv *kv, struct model_sequence *s)
{
    uint32_t end = s->first_position + s->n_tokens;
    for (uint32_t g = 0; g < kv->n_groups; g++) {
        uint32_t window = r->info->groups[g].window, seen = 0;
        if (window != 0 && s->first_position >= window)
            seen = s->first_position - window + 1;
        uint32_t first = seen / KV_PAGE_TOKENS;
        s->groups[g] = (struct kv_pages){
            .pages = kv->pages[g] + first,
            .first_page = first,
            .n_pages = (end + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS - first,
        };
    }
}

/* The largest of each block of logits are what a plain loop finds. */
static inline void rig_check_maxima(const float *logits, const float *maxima, uint32_t n_rows,
                                    uint32_t n_vocab)
{
    for (uint32_t row = 0; row < n_rows; row++)
        for (uint32_t at = 0; at < n_vocab; at += MODEL_LOGIT_BLOCK) {
            float most = -INFINITY;
            for (uint32_t i = at; i < n_vocab && i < at + MODEL_LOGIT_BLOCK; i++)
                most = fmaxf(most, logits[(size_t)row * n_vocab + i]);
            assert_true(*maxima++ == most);
        }
}

static inline void rig_step(struct rig *r, enum kv_type type, struct model_sequence *sequences,
                            uint32_t n, float *logits, float *residuals)
{
    const uint32_t n_blocks = (r->info->n_vocab + MODEL_LOGIT_BLOCK - 1) / MODEL_LOGIT_BLOCK;
    uint32_t n_logits = 0;
    for (uint32_t i = 0; i < n; i++)
        n_logits += sequences[i].n_logits;
    float *maxima = mem_new((size_t)n_blocks * n_logits + 1, sizeof *maxima);
    struct model_batch batch = {
        .sequences = sequences,
        .n_sequences = n,
        .kv_type = type,
        .logits = logits,
        .maxima = maxima,
        .residuals = residuals,
    };
    struct err e = {0};
    if (model_forward(r->model, r->workspace, r->team, &batch, &e) != OK)
        rig_fail("forward", &e);
    rig_check_maxima(logits, maxima, n_logits, r->info->n_vocab);
    mem_free(maxima);
}

/* Logits [n][n_vocab] of tokens at positions first …, in steps of at most `chunk` tokens. */
static inline void rig_run(struct rig *r, struct rig_kv *kv, const uint32_t *tokens, uint32_t first,
                           uint32_t n, uint32_t chunk, float *logits)
{
    for (uint32_t at = 0; at < n; at += chunk) {
        struct model_sequence s = {
            .tokens = tokens + at,
            .n_tokens = n - at < chunk ? n - at : chunk,
            .first_position = first + at,
        };
        s.n_logits = s.n_tokens;
        rig_view(r, kv, &s);
        rig_step(r, kv->type, &s, 1, logits + (size_t)at * r->info->n_vocab, NULL);
    }
}

/* ---- golden lines ---- */
struct rig_lines {
    char *text;
    size_t len, at;
    struct arena arena;
};

static inline void rig_lines_open(struct rig_lines *l, const char *path)
{
    *l = (struct rig_lines){0};
    FILE *f = fopen(path, "rb");
    if (!f)
        fprintf(stderr, "cannot open %s\n", path);
    CHECK(f != NULL && fseek(f, 0, SEEK_END) == 0);
    long size = ftell(f);
    CHECK(size >= 0 && fseek(f, 0, SEEK_SET) == 0);
    l->len = (size_t)size;
    l->text = mem_new(l->len + 1, 1);
    CHECK(fread(l->text, 1, l->len, f) == l->len);
    fclose(f);
    arena_init(&l->arena, 1u << 28);
}

/* The next line's value, NULL at the end; lives until the next call. */
static inline const struct json *rig_lines_next(struct rig_lines *l)
{
    if (l->at >= l->len)
        return NULL;
    char *end = memchr(l->text + l->at, '\n', l->len - l->at);
    size_t stop = end ? (size_t)(end - l->text) : l->len;
    struct slice line = {l->text + l->at, stop - l->at};
    l->at = stop + 1;
    if (line.len == 0)
        return rig_lines_next(l);
    struct json *v = NULL;
    struct err e = {0};
    arena_clear(&l->arena);
    if (json_parse(line, &l->arena, &v, &e) != OK)
        rig_fail("golden line", &e);
    return v;
}

static inline void rig_lines_close(struct rig_lines *l)
{
    arena_release(&l->arena);
    mem_free(l->text);
}

static inline uint32_t rig_ints(const struct json *array, uint32_t *out, uint32_t max)
{
    CHECK(array != NULL && array->kind == JSON_ARRAY && array->count <= max);
    for (size_t i = 0; i < array->count; i++)
        out[i] = (uint32_t)array->items[i].integer;
    return (uint32_t)array->count;
}

/* ---- distances ---- */
static inline double rig_max_abs_diff(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

/* KL(softmax(ref) || softmax(x)) in nats. */
static inline double rig_kl(const float *ref, const float *x, size_t n)
{
    double max_ref = -INFINITY, max_x = -INFINITY, sum_ref = 0, sum_x = 0, kl = 0;
    for (size_t i = 0; i < n; i++) {
        max_ref = fmax(max_ref, (double)ref[i]);
        max_x = fmax(max_x, (double)x[i]);
    }
    for (size_t i = 0; i < n; i++) {
        sum_ref += exp((double)ref[i] - max_ref);
        sum_x += exp((double)x[i] - max_x);
    }
    double lse_ref = max_ref + log(sum_ref), lse_x = max_x + log(sum_x);
    for (size_t i = 0; i < n; i++) {
        double lp = (double)ref[i] - lse_ref;
        kl += exp(lp) * (lp - ((double)x[i] - lse_x));
    }
    return kl;
}

static inline uint32_t rig_argmax(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

#endif
