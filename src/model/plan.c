/* SPDX-License-Identifier: MIT
 * plan.c — scratch of a step, and how a batch is cut into rows and attention tasks. */
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/model_int.h"

#define ALIGNMENT 64u
/* Partial states of a single-token step at the model's full context fit, up to this ceiling; a step
 * that needs more runs whole tiles, with the same bits. */
#define PARTIAL_BYTES_MAX (64u << 20)
/* Fewer tasks than this a worker, and partitions are split too. */
#define TASKS_PER_WORKER_MIN 4u
/* Fewer tasks than this a worker with partitions split, and query heads of a KV head are split as
 * well: two, since the first and the last partition that a window reaches may be short.  Gemma 3
 * has one KV head: behind a short prompt all its attention was one worker's. */
#define UNIT_TASKS_PER_WORKER 2u
#define UNIT_HEADS_MIN        2u

/* ---- workspace ---- */
struct region {
    void **p;
    uint64_t bytes;
};

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static size_t partials_wanted(const struct model_spec *s)
{
    uint64_t partitions = s->n_ctx_train / KV_PARTITION_TOKENS + 2;
    uint64_t state = attention_state_floats(1, s->n_heads / s->n_kv_heads, s->head_dim);
    uint64_t floats = partitions * s->n_kv_heads * state;
    return floats * sizeof(float) < PARTIAL_BYTES_MAX ? floats : PARTIAL_BYTES_MAX / sizeof(float);
}

enum status model_workspace_new(const struct model *m, uint32_t n_workers,
                                struct model_workspace **out, struct err *e)
{
    CHECK(n_workers >= 1);
    const struct model_spec *s = &m->spec;
    const uint64_t rows = MODEL_BATCH_TOKENS_MAX, heads_per_group = s->n_heads / s->n_kv_heads;
    const uint32_t n_q = s->n_heads * s->head_dim, n_kv = s->n_kv_heads * s->head_dim;
    struct model_workspace *w = mem_try_new(1, sizeof *w);
    if (!w)
        return err_set(e, E_NOMEM, "workspace");
    enum status st = team_new(1, &w->alone, e);
    if (st != OK) {
        mem_free(w);
        return st;
    }
    w->n_workers = n_workers;
    w->act_columns_max = max_u32(max_u32(s->n_embd, n_q), s->n_ff);
    w->partial_floats = partials_wanted(s);
    w->state_floats =
        (attention_state_floats(ATTENTION_TILE_TOKENS_MAX, (uint32_t)heads_per_group, s->head_dim) +
         15) /
        16 * 16;
    w->worker_floats = 2 * w->state_floats + attention_scratch_floats(s->head_dim);
    w->worker_floats = (w->worker_floats + 31) / 32 * 32;
    const uint64_t blocks = w->act_columns_max / ACT_BLOCK + 1;
    const struct region regions[] = {
        {(void **)&w->x, rows * s->n_embd * sizeof(float)},
        {(void **)&w->x_tail, rows * s->n_embd * sizeof(float)},
        {(void **)&w->normed, rows * s->n_embd * sizeof(float)},
        {(void **)&w->projected, rows * s->n_embd * sizeof(float)},
        {(void **)&w->q, rows * n_q * sizeof(float)},
        {(void **)&w->attended, rows * n_q * sizeof(float)},
        {(void **)&w->k, rows * n_kv * sizeof(float)},
        {(void **)&w->v, rows * n_kv * sizeof(float)},
        {(void **)&w->gate, rows * s->n_ff * sizeof(float)},
        {(void **)&w->up, rows * s->n_ff * sizeof(float)},
        {(void **)&w->cos_sin[0], rows * s->n_rot * sizeof(float)},
        {(void **)&w->cos_sin[1], s->n_ropes > 1 ? rows * s->n_rot * sizeof(float) : 0},
        {(void **)&w->act_q, rows * w->act_columns_max},
        {(void **)&w->act_scale, rows * blocks * sizeof(float)},
        {(void **)&w->act_scaled_sum, rows * blocks * sizeof(float)},
        {(void **)&w->act_sum16, rows * blocks * 2 * sizeof(int16_t)},
        {(void **)&w->partials, w->partial_floats * sizeof(float)},
        {(void **)&w->worker_scratch, n_workers * w->worker_floats * sizeof(float)},
    };
    uint64_t total = 0;
    for (size_t i = 0; i < ARRAY_COUNT(regions); i++)
        total += (regions[i].bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    w->memory_bytes = total;
    w->memory = mem_try_large(total);
    if (!w->memory) {
        model_workspace_free(w);
        return err_set(e, E_NOMEM, "%llu MiB of scratch for a step",
                       (unsigned long long)(total >> 20));
    }
    uint8_t *at = w->memory;
    for (size_t i = 0; i < ARRAY_COUNT(regions); i++) {
        *regions[i].p = at;
        at += (regions[i].bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    *out = w;
    return OK;
}

void model_workspace_free(struct model_workspace *w)
{
    if (!w)
        return;
    mem_free_large(w->memory, w->memory_bytes);
    team_free(w->alone);
    mem_free(w);
}

/* ---- rows ---- */
static void plan_rows(struct model_workspace *w, const struct model_batch *batch)
{
    w->n_rows = w->n_tail = 0;
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        const struct model_sequence *s = &batch->sequences[i];
        for (uint32_t t = 0; t < s->n_tokens; t++)
            w->rows[w->n_rows++] = (struct row){
                .sequence = i, .token = s->tokens[t], .position = s->first_position + t};
    }
}

/* Rows whose logits are wanted come first: the output matrix reads those alone. */
static void plan_tail(struct model_workspace *w, const struct model_batch *batch, bool is_hidden)
{
    uint32_t row = 0;
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        const struct model_sequence *s = &batch->sequences[i];
        row += s->n_tokens;
        for (uint32_t t = s->n_logits; s->is_hidden == is_hidden && t > 0; t--)
            w->tail[w->n_tail++] = row - t;
    }
}

/* ---- attention ---- */
/* Tiles of the last n tokens of a sequence, whose first query is at q_row. */
static void add_tiles(struct attention_plan *p, const struct model_sequence *s, uint32_t sequence,
                      uint32_t n, uint32_t q_row, uint32_t out_row)
{
    uint32_t first_position = s->first_position + (s->n_tokens - n);
    for (uint32_t t = 0; t < n; t += ATTENTION_TILE_TOKENS_MAX) {
        CHECK(p->n_tiles < TILES_MAX);
        struct tile *tile = &p->tiles[p->n_tiles++];
        tile->sequence = sequence;
        tile->q_row = q_row + t;
        tile->out_row = out_row + t;
        tile->n_tokens = n - t < ATTENTION_TILE_TOKENS_MAX ? n - t : ATTENTION_TILE_TOKENS_MAX;
        tile->first_position = first_position + t;
        uint32_t last = tile->first_position + tile->n_tokens - 1;
        uint32_t seen = 0;
        if (p->window != 0 && tile->first_position >= p->window)
            seen = tile->first_position - p->window + 1;
        tile->first_partition = seen / KV_PARTITION_TOKENS;
        tile->n_partitions = last / KV_PARTITION_TOKENS - tile->first_partition + 1;
    }
}

/* A KV head's query heads are cut into ever smaller equal parts until there are enough tasks.  Each
 * part reads all keys, so that it should have at least two heads to share them. */
static void choose_units(struct attention_plan *p, const struct model_spec *s, uint32_t n_workers)
{
    const uint32_t group = s->n_heads / s->n_kv_heads;
    uint32_t n_tasks = 0;
    for (uint32_t i = 0; i < p->n_tiles; i++)
        n_tasks += p->tiles[i].n_partitions * s->n_kv_heads;
    p->unit_heads = group;
    for (uint32_t heads = group / 2; n_workers > 1 && heads >= UNIT_HEADS_MIN; heads--)
        if (group % heads == 0 &&
            n_tasks * (group / p->unit_heads) < UNIT_TASKS_PER_WORKER * n_workers)
            p->unit_heads = heads;
    p->n_units = s->n_heads / p->unit_heads;
}

static void choose_split(struct attention_plan *p, const struct model_spec *s,
                         size_t partial_floats, uint32_t n_workers)
{
    choose_units(p, s, n_workers);
    uint32_t n_whole = p->n_tiles * p->n_units, n_split = 0;
    size_t floats = 0;
    for (uint32_t i = 0; i < p->n_tiles; i++) {
        struct tile *t = &p->tiles[i];
        size_t state = attention_state_floats(t->n_tokens, p->unit_heads, s->head_dim);
        t->first_task = n_split;
        t->first_state = floats;
        n_split += t->n_partitions * p->n_units;
        floats += state * t->n_partitions * p->n_units;
    }
    p->is_split = n_workers > 1 && n_whole < TASKS_PER_WORKER_MIN * n_workers &&
                  n_split > n_whole && floats <= partial_floats;
    p->n_tasks = p->is_split ? n_split : n_whole;
}

double plan_bytes(const struct model *m, const struct model_batch *batch)
{
    double bytes = 0;
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        const struct model_sequence *s = &batch->sequences[i];
        double rows = s->n_tokens, seen = s->first_position + rows / 2;
        bytes += rows * (double)m->info.packed_bytes;
        for (uint32_t g = 0; g < m->info.n_groups; g++) {
            double window = m->info.groups[g].window;
            double tokens = window != 0 && window < seen ? window : seen;
            double page_bytes = (double)model_kv_layout(m, g, batch->kv_type).page_bytes;
            bytes += rows * tokens * page_bytes / KV_PAGE_TOKENS;
        }
    }
    return bytes;
}

void plan_step(const struct model *m, struct model_workspace *w, const struct model_batch *batch,
               uint32_t n_workers)
{
    plan_rows(w, batch);
    plan_tail(w, batch, false);
    w->n_logits = w->n_tail;
    plan_tail(w, batch, true);
    uint32_t last_group = m->layers[m->spec.n_layers - 1].group;
    for (uint32_t i = 0; i < PLANS_MAX; i++) {
        bool is_tail = i == PLAN_TAIL;
        if (!is_tail && i >= m->info.n_groups)
            continue;
        struct attention_plan *p = &w->plans[i];
        p->n_tiles = 0;
        p->window = m->info.groups[is_tail ? last_group : i].window;
        uint32_t row = 0, out_row = 0, hidden_row = w->n_logits;
        for (uint32_t j = 0; j < batch->n_sequences; j++) {
            const struct model_sequence *s = &batch->sequences[j];
            uint32_t n = is_tail ? s->n_logits : s->n_tokens;
            uint32_t *out = is_tail && s->is_hidden ? &hidden_row : &out_row;
            row += s->n_tokens;
            add_tiles(p, s, j, n, row - n, *out);
            *out += n;
        }
        choose_split(p, &m->spec, w->partial_floats, n_workers);
    }
}
