/* SPDX-License-Identifier: MIT
 * forward.c — one step of any family, by all workers together.
 *
 *   rows    embedding, rope angles
 *   per layer:
 *     rows    x → norm → 8-bit                                        (1)
 *     tiles   q, k, v                                                 (2)
 *     rows    biases, head norms, rope, scale of q; K and V to pages  (3)    (rotated: kernels.h)
 *     tasks   attention                                               (4)
 *     rows    → 8-bit                                                 (5)
 *     tiles   output projection                                       (6)
 *     rows    x += …, norm → 8-bit                                    (7)
 *     tiles   gate, up                                                (8)
 *     rows    gate(…) × up → 8-bit                                    (9)
 *     tiles   down                                                   (10)
 *     rows    x += …  and (1) of the next layer
 *   rows    final norm of the rows whose logits are wanted → 8-bit
 *   tiles   output matrix
 *
 * A barrier stands after each line.  Rows are split evenly and for good (a row's data stay with one
 * core's cache); tiles and tasks are claimed one after the other, so that a core that lost its time
 * to another job does not hold up the rest.  The counter for claims is reset in the rows stage
 * before each.  In the last layer only the tail rows go on after (3). */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/check.h"
#include "model/model_int.h"
#include "os/clock.h"

/* Tiles of weights are claimed in blocks: this many blocks a worker and matmul stage. */
#define BLOCKS_PER_WORKER   8u
#define ROW_BLOCK_MIN       64u
#define PAGES_PER_PARTITION (KV_PARTITION_TOKENS / KV_PAGE_TOKENS)

_Static_assert(KV_PARTITION_TOKENS % KV_PAGE_TOKENS == 0, "a partition is whole pages");

struct step {
    const struct model *m;
    const struct kernels *kernels;
    struct model_workspace *w;
    struct team *team;  /* of this step: the engine's, or the workspace's team of one */
    uint32_t n_workers; /* its size */
    const struct model_batch *batch;
    struct act_rows normed, attended, gated; /* inputs of matmuls; they share the 8-bit buffers */
    struct kv_layout layouts[MODEL_GROUPS_MAX];
    uint64_t start_ns;
    uint32_t residual_row; /* of the last sequence's last token */
    _Atomic int failure;   /* the first status other than OK from before_layer */
};

/* ---- splitting ---- */
struct range {
    uint32_t begin, end;
};

static struct range share(uint32_t n, uint32_t worker, uint32_t n_workers)
{
    return (struct range){(uint32_t)((uint64_t)n * worker / n_workers),
                          (uint32_t)((uint64_t)n * (worker + 1) / n_workers)};
}

/* ---- stages ---- */
const char *model_stage_name(enum model_stage stage)
{
#define STAGE_NAME(id, text) [id] = (text),
    static const char *const names[MODEL_STAGES] = {MODEL_STAGES_LIST(STAGE_NAME)};
#undef STAGE_NAME
    return names[stage];
}

void model_workspace_time(struct model_workspace *w, struct model_times *times)
{
    w->times = times;
}

/* The way to the workers counts as waiting in the first stage. */
static void start_clock(struct step *s, uint32_t worker)
{
    struct model_times *t = s->w->times;
    if (!t)
        return;
    t[worker].since_ns = clock_now_ns();
    t[worker].wait_ns[STAGE_ENTER] += t[worker].since_ns - s->start_ns;
}

/* The end of a stage: all workers meet. */
static void meet(struct step *s, uint32_t worker, enum model_stage stage)
{
    struct model_times *t = s->w->times ? &s->w->times[worker] : NULL;
    const uint64_t arrived_ns = t ? clock_now_ns() : 0;
    team_barrier(s->team);
    if (!t)
        return;
    const uint64_t now_ns = clock_now_ns();
    t->busy_ns[stage] += arrived_ns - t->since_ns;
    t->wait_ns[stage] += now_ns - arrived_ns;
    t->since_ns = now_ns;
}

/* The same behind rows: the claims of the next stage start at 0. */
static void finish_rows(struct step *s, uint32_t worker, enum model_stage stage)
{
    if (worker == 0)
        team_next_reset(s->team);
    meet(s, worker, stage);
}

/* ---- matmul stages ---- */
struct product {
    float *y;
    size_t y_stride;
    const struct packed *w;
};

/* Tiles [begin, end) of the products' tiles laid end to end. */
static void multiply_tiles(const struct step *s, const struct act_rows *x, struct range rows,
                           const struct product *products, uint32_t n_products, uint32_t begin,
                           uint32_t end)
{
    uint32_t base = 0;
    for (uint32_t i = 0; i < n_products && base < end; i++) {
        uint32_t n_tiles = packed_tiles(products[i].w->n_out);
        uint32_t from = begin > base ? begin - base : 0;
        uint32_t to = end - base < n_tiles ? end - base : n_tiles;
        if (from < to)
            s->kernels->matmul(products[i].y, products[i].y_stride, x, rows.begin, rows.end,
                               products[i].w, from, to);
        base += n_tiles;
    }
}

/* What a stage multiplies, cut into blocks of tiles and of rows, block_index by block_index. */
struct cut {
    uint32_t n_tiles, tiles_per_block, n_tile_blocks, n_rows, n_row_blocks;
};

/* grain: blocks begin at multiples of so many tiles. */
static struct cut cut_product(const struct step *s, uint32_t n_rows, uint32_t n_tiles,
                              uint32_t grain)
{
    uint32_t wanted = s->n_workers * BLOCKS_PER_WORKER;
    uint32_t tiles_per_block = n_tiles / wanted > 0 ? n_tiles / wanted : 1;
    tiles_per_block = (tiles_per_block + grain - 1) / grain * grain;
    struct cut c = {n_tiles, tiles_per_block, 0, n_rows, 1};
    c.n_tile_blocks = (n_tiles + tiles_per_block - 1) / tiles_per_block;
    /* Many workers, narrow matrix: cut the rows as well. */
    if (c.n_tile_blocks < wanted / 2)
        c.n_row_blocks = wanted / 2 / c.n_tile_blocks;
    if (c.n_row_blocks > n_rows / ROW_BLOCK_MIN)
        c.n_row_blocks = n_rows / ROW_BLOCK_MIN > 0 ? n_rows / ROW_BLOCK_MIN : 1;
    return c;
}

/* The next block that nobody has; false: none is left. */
static bool claim(const struct step *s, const struct cut *c, struct range *rows,
                  struct range *tiles)
{
    uint32_t i = team_next(s->team, 1);
    if (i >= c->n_tile_blocks * c->n_row_blocks)
        return false;
    *rows = share(c->n_rows, i % c->n_row_blocks, c->n_row_blocks);
    tiles->begin = i / c->n_row_blocks * c->tiles_per_block;
    tiles->end = tiles->begin + c->tiles_per_block;
    tiles->end = tiles->end < c->n_tiles ? tiles->end : c->n_tiles;
    return true;
}

static void multiply(const struct step *s, const struct act_rows *x, uint32_t n_rows,
                     const struct product *products, uint32_t n_products)
{
    uint32_t n_tiles = 0;
    for (uint32_t i = 0; i < n_products; i++)
        n_tiles += packed_tiles(products[i].w->n_out);
    const struct cut c = cut_product(s, n_rows, n_tiles, 1);
    for (struct range rows, tiles; claim(s, &c, &rows, &tiles);)
        multiply_tiles(s, x, rows, products, n_products, tiles.begin, tiles.end);
}

static bool any_needs_q8(const struct packed *const *w, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (packed_needs_q8(w[i]->type, w[i]->activations))
            return true;
    return false;
}

/* The 8-bit part of a row, if one of the n matrices that read it wants that. */
static void quantize(const struct step *s, const struct act_rows *x, uint32_t row,
                     const struct packed *const *w, uint32_t n)
{
    if (any_needs_q8(w, n))
        s->kernels->quantize_row(x, row);
}

static void add_bias(const struct step *s, float *y, const float *bias, uint32_t n)
{
    if (bias)
        s->kernels->add(y, bias, n);
}

/* ---- rows before a layer ---- */
static void embed_row(struct step *s, uint32_t r)
{
    const struct model_spec *spec = &s->m->spec;
    const struct gguf_tensor *t = s->m->embedding;
    const struct row *row = &s->w->rows[r];
    float *x = s->w->x + (size_t)r * spec->n_embd;
    const uint8_t *source =
        (const uint8_t *)t->data + row->token * tensor_row_bytes(t->type, spec->n_embd);
    tensor_dequantize(t->type, source, x, spec->n_embd);
    if (spec->embedding_scale != 1)
        s->kernels->scale(x, spec->embedding_scale, spec->n_embd);
    for (uint32_t i = 0; i < spec->n_ropes; i++)
        kernels_rope_angles(s->w->cos_sin[i] + (size_t)r * spec->n_rot, s->m->rope_freqs[i],
                            spec->n_rot, row->position);
    if (s->batch->residuals && r == s->residual_row)
        memcpy(s->batch->residuals, x, spec->n_embd * sizeof *x);
}

static void norm_row(struct step *s, const float *x, uint32_t to, const float *weight)
{
    uint32_t n = s->m->spec.n_embd;
    s->kernels->rms_norm(s->w->normed + (size_t)to * n, x, weight, n, s->m->spec.norm_eps);
}

static void enter_layer_row(struct step *s, uint32_t layer, uint32_t r)
{
    const struct layer_weights *l = &s->m->layers[layer];
    const struct packed *readers[] = {&l->matrix[M_Q], &l->matrix[M_K], &l->matrix[M_V]};
    norm_row(s, s->w->x + (size_t)r * s->m->spec.n_embd, r, l->vector[V_ATTN_NORM]);
    quantize(s, &s->normed, r, readers, 3);
}

static void multiply_qkv(struct step *s, uint32_t layer)
{
    const struct layer_weights *l = &s->m->layers[layer];
    const struct product products[] = {
        {s->w->q, l->matrix[M_Q].n_out, &l->matrix[M_Q]},
        {s->w->k, l->matrix[M_K].n_out, &l->matrix[M_K]},
        {s->w->v, l->matrix[M_V].n_out, &l->matrix[M_V]},
    };
    multiply(s, &s->normed, s->w->n_rows, products, 3);
}

/* ---- (3) ---- */
static void norm_heads(const struct step *s, float *x, const float *weight, uint32_t n_heads)
{
    uint32_t dim = s->m->spec.head_dim;
    for (uint32_t h = 0; weight && h < n_heads; h++)
        s->kernels->rms_norm(x + h * dim, x + h * dim, weight, dim, s->m->spec.norm_eps);
}

static void *page_of(const struct step *s, uint32_t sequence, uint32_t group, uint32_t position)
{
    const struct kv_pages *p = &s->batch->sequences[sequence].groups[group];
    return p->pages[position / KV_PAGE_TOKENS - p->first_page];
}

static void write_kv_row(struct step *s, uint32_t layer, uint32_t r)
{
    const struct model_spec *spec = &s->m->spec;
    const struct layer_weights *l = &s->m->layers[layer];
    const struct row *row = &s->w->rows[r];
    const uint32_t n_q = spec->n_heads * spec->head_dim, n_kv = spec->n_kv_heads * spec->head_dim;
    const uint32_t rope = spec->layers[layer].rope;
    float *q = s->w->q + (size_t)r * n_q;
    float *k = s->w->k + (size_t)r * n_kv;
    float *v = s->w->v + (size_t)r * n_kv;
    const float *angles = s->w->cos_sin[rope] + (size_t)r * spec->n_rot;
    add_bias(s, q, l->vector[V_Q_BIAS], n_q);
    add_bias(s, k, l->vector[V_K_BIAS], n_kv);
    add_bias(s, v, l->vector[V_V_BIAS], n_kv);
    norm_heads(s, q, l->vector[V_Q_NORM], spec->n_heads);
    norm_heads(s, k, l->vector[V_K_NORM], spec->n_kv_heads);
    s->kernels->rope(q, spec->n_heads, spec->head_dim, spec->n_rot, angles, spec->rope_style);
    s->kernels->rope(k, spec->n_kv_heads, spec->head_dim, spec->n_rot, angles, spec->rope_style);
    s->kernels->scale(q, spec->attention_scale, n_q);
    const struct kv_layout *layout = &s->layouts[l->group];
    if (kv_is_quantized(layout->type)) {
        s->kernels->rotate(q, spec->n_heads, spec->head_dim);
        s->kernels->rotate(k, spec->n_kv_heads, spec->head_dim);
        s->kernels->rotate(v, spec->n_kv_heads, spec->head_dim);
    }
    uint8_t *chunk = (uint8_t *)page_of(s, row->sequence, l->group, row->position) +
                     2 * l->slot * layout->chunk_bytes;
    s->kernels->kv_write(layout->type, spec->n_kv_heads, spec->head_dim, chunk,
                         chunk + layout->v_at, row->position % KV_PAGE_TOKENS, k, v);
}

/* False: the step is over.  Every worker asks after the same barrier and gets the same answer. */
static bool may_go_on(struct step *s)
{
    return atomic_load_explicit(&s->failure, memory_order_relaxed) == OK;
}

static void ask_before_layer(struct step *s, uint32_t layer, uint32_t worker)
{
    const struct model_batch *b = s->batch;
    if (!b->before_layer)
        return;
    enum status st = b->before_layer(b->before_layer_arg, layer, worker, s->n_workers);
    int none = OK;
    if (st != OK)
        atomic_compare_exchange_strong(&s->failure, &none, (int)st);
}

/* ---- (4) ---- */
struct attention_task {
    const struct tile *tile;
    uint32_t unit; /* of the plan's: query heads [unit × unit_heads, + unit_heads) */
};

/* One partition of one tile and unit, which to the kernel is all of a model with one KV head.  The
 * page pointers of a partition fit the stack. */
static void attend_partition(const struct step *s, uint32_t layer, const struct attention_plan *p,
                             struct attention_task task, uint32_t partition, float *state,
                             float *scratch)
{
    const struct model_spec *spec = &s->m->spec;
    const struct layer_weights *l = &s->m->layers[layer];
    const struct kv_layout *layout = &s->layouts[l->group];
    const struct kv_pages *pages = &s->batch->sequences[task.tile->sequence].groups[l->group];
    const void *k[PAGES_PER_PARTITION], *v[PAGES_PER_PARTITION];
    const uint32_t head = task.unit * p->unit_heads;
    const uint32_t kv_head = head / (spec->n_heads / spec->n_kv_heads);
    const size_t k_at = kv_head * kv_head_bytes(layout->type, false, spec->head_dim);
    const size_t v_at = layout->v_at + kv_head * kv_head_bytes(layout->type, true, spec->head_dim);
    uint32_t first = partition * PAGES_PER_PARTITION, end = first + PAGES_PER_PARTITION;
    if (first < pages->first_page)
        first = pages->first_page;
    if (end > pages->first_page + pages->n_pages)
        end = pages->first_page + pages->n_pages;
    for (uint32_t page = first; page < end; page++) {
        const uint8_t *base = pages->pages[page - pages->first_page];
        k[page - first] = base + 2 * l->slot * layout->chunk_bytes + k_at;
        v[page - first] = base + 2 * l->slot * layout->chunk_bytes + v_at;
    }
    const uint32_t n_q = spec->n_heads * spec->head_dim;
    const struct attention_kv kv = {
        .type = layout->type,
        .n_kv_heads = 1,
        .head_dim = spec->head_dim,
        .k = k,
        .v = v,
        .first_page = first,
    };
    const struct attention_queries queries = {
        .q = s->w->q + (size_t)task.tile->q_row * n_q + (size_t)head * spec->head_dim,
        .q_stride = n_q,
        .n_heads = p->unit_heads,
        .first_position = task.tile->first_position,
        .window = p->window,
    };
    const struct attention_tile tile = {.n_tokens = task.tile->n_tokens};
    s->kernels->attention_partial(state, &queries, &kv, tile, partition, scratch);
}

static void finish_tile(const struct step *s, const struct attention_plan *p,
                        struct attention_task task, const float *state)
{
    const struct model_spec *spec = &s->m->spec;
    const uint32_t n_q = spec->n_heads * spec->head_dim;
    const struct attention_tile tile = {.n_tokens = task.tile->n_tokens};
    float *heads = s->w->attended + (size_t)task.tile->out_row * n_q +
                   (size_t)task.unit * p->unit_heads * spec->head_dim;
    s->kernels->attention_finish(heads, n_q, state, tile, p->unit_heads, spec->head_dim);
    if (!kv_is_quantized(s->batch->kv_type))
        return;
    for (uint32_t t = 0; t < tile.n_tokens; t++) /* V was rotated: back */
        s->kernels->rotate(heads + t * (size_t)n_q, p->unit_heads, spec->head_dim);
}

static void attend_whole(const struct step *s, uint32_t layer, const struct attention_plan *p,
                         uint32_t index, float *scratch)
{
    const struct model_spec *spec = &s->m->spec;
    /* The last tiles see most: they are claimed first. */
    struct attention_task task = {
        .tile = &p->tiles[p->n_tiles - 1 - index / p->n_units],
        .unit = index % p->n_units,
    };
    float *state = scratch, *later = state + s->w->state_floats;
    float *inner = later + s->w->state_floats;
    for (uint32_t i = 0; i < task.tile->n_partitions; i++) {
        attend_partition(s, layer, p, task, task.tile->first_partition + i, i == 0 ? state : later,
                         inner);
        if (i > 0)
            s->kernels->attention_fold(state, later, task.tile->n_tokens * p->unit_heads,
                                       spec->head_dim);
    }
    finish_tile(s, p, task, state);
}

static float *partial_of(const struct step *s, const struct attention_plan *p,
                         struct attention_task task, uint32_t i)
{
    size_t floats = attention_state_floats(task.tile->n_tokens, p->unit_heads, s->m->spec.head_dim);
    return s->w->partials + task.tile->first_state +
           ((size_t)task.unit * task.tile->n_partitions + i) * floats;
}

static void attend_split(const struct step *s, uint32_t layer, const struct attention_plan *p,
                         uint32_t index, float *scratch)
{
    uint32_t tile = 0; /* few: a split plan has less than TASKS_PER_WORKER_MIN × workers of them */
    while (tile + 1 < p->n_tiles && p->tiles[tile + 1].first_task <= index)
        tile++;
    uint32_t within = index - p->tiles[tile].first_task;
    struct attention_task task = {
        .tile = &p->tiles[tile],
        .unit = within % p->n_units, /* those that read the same keys at the same time */
    };
    uint32_t i = within / p->n_units;
    attend_partition(s, layer, p, task, task.tile->first_partition + i, partial_of(s, p, task, i),
                     scratch);
}

static void fold_split(const struct step *s, const struct attention_plan *p, struct range tasks)
{
    for (uint32_t index = tasks.begin; index < tasks.end; index++) {
        struct attention_task task = {
            .tile = &p->tiles[index / p->n_units],
            .unit = index % p->n_units,
        };
        for (uint32_t i = 1; i < task.tile->n_partitions; i++)
            s->kernels->attention_fold(partial_of(s, p, task, 0), partial_of(s, p, task, i),
                                       task.tile->n_tokens * p->unit_heads, s->m->spec.head_dim);
        finish_tile(s, p, task, partial_of(s, p, task, 0));
    }
}

static void attend(struct step *s, uint32_t layer, const struct attention_plan *p, uint32_t worker)
{
    float *scratch = s->w->worker_scratch + worker * s->w->worker_floats;
    for (uint32_t i; (i = team_next(s->team, 1)) < p->n_tasks;) {
        if (p->is_split)
            attend_split(s, layer, p, i, scratch);
        else
            attend_whole(s, layer, p, i, scratch);
    }
    meet(s, worker, STAGE_ATTENTION);
    if (!p->is_split)
        return;
    fold_split(s, p, share(p->n_tiles * p->n_units, worker, s->n_workers));
    meet(s, worker, STAGE_FOLD);
}

/* ---- (5) … (10) ---- */
/* x += what a block computed, after its bias and norm where the family has them. */
static void add_to_residual(const struct step *s, float *x, uint32_t r, const float *bias,
                            const float *post_norm)
{
    uint32_t n = s->m->spec.n_embd;
    float *y = s->w->projected + (size_t)r * n;
    add_bias(s, y, bias, n);
    if (post_norm)
        s->kernels->rms_norm(y, y, post_norm, n, s->m->spec.norm_eps);
    s->kernels->add(x, y, n);
}

static void gate_row(const struct step *s, const struct layer_weights *l, uint32_t r)
{
    const struct model_spec *spec = &s->m->spec;
    float *gate = s->w->gate + (size_t)r * spec->n_ff, *up = s->w->up + (size_t)r * spec->n_ff;
    add_bias(s, gate, l->vector[V_GATE_BIAS], spec->n_ff);
    add_bias(s, up, l->vector[V_UP_BIAS], spec->n_ff);
    if (spec->gate == GATE_GELU)
        s->kernels->gelu_mul(gate, gate, up, spec->n_ff);
    else
        s->kernels->silu_mul(gate, gate, up, spec->n_ff);
    const struct packed *readers[] = {&l->matrix[M_DOWN]};
    quantize(s, &s->gated, r, readers, 1);
}

/* What follows attention.  x: the residual rows, n_rows of them. */
static void run_block_rest(struct step *s, uint32_t layer, float *x, uint32_t n_rows,
                           uint32_t worker)
{
    const struct layer_weights *l = &s->m->layers[layer];
    const uint32_t n_embd = s->m->spec.n_embd, n_ff = s->m->spec.n_ff;
    const struct packed *out_readers[] = {&l->matrix[M_OUT]};
    const struct packed *ff_readers[] = {&l->matrix[M_GATE], &l->matrix[M_UP]};
    struct range rows = share(n_rows, worker, s->n_workers);
    for (uint32_t r = rows.begin; r < rows.end; r++)
        quantize(s, &s->attended, r, out_readers, 1);
    finish_rows(s, worker, STAGE_OUT_ROWS);
    const struct product out = {s->w->projected, n_embd, &l->matrix[M_OUT]};
    multiply(s, &s->attended, n_rows, &out, 1);
    meet(s, worker, STAGE_OUT);
    for (uint32_t r = rows.begin; r < rows.end; r++) {
        float *row = x + (size_t)r * n_embd;
        add_to_residual(s, row, r, l->vector[V_OUT_BIAS], l->vector[V_POST_ATTN_NORM]);
        norm_row(s, row, r, l->vector[V_FFN_NORM]);
        quantize(s, &s->normed, r, ff_readers, 2);
    }
    finish_rows(s, worker, STAGE_FF_ROWS);
    const struct product gate_up[] = {{s->w->gate, n_ff, &l->matrix[M_GATE]},
                                      {s->w->up, n_ff, &l->matrix[M_UP]}};
    multiply(s, &s->normed, n_rows, gate_up, 2);
    meet(s, worker, STAGE_GATE_UP);
    for (uint32_t r = rows.begin; r < rows.end; r++)
        gate_row(s, l, r);
    finish_rows(s, worker, STAGE_GATE_ROWS);
    const struct product down = {s->w->projected, n_embd, &l->matrix[M_DOWN]};
    multiply(s, &s->gated, n_rows, &down, 1);
    meet(s, worker, STAGE_DOWN);
    for (uint32_t r = rows.begin; r < rows.end; r++)
        add_to_residual(s, x + (size_t)r * n_embd, r, l->vector[V_DOWN_BIAS],
                        l->vector[V_POST_FFN_NORM]);
}

static void capture_residual(const struct step *s, uint32_t layer, const float *x)
{
    const struct model_spec *spec = &s->m->spec;
    float *to = s->batch->residuals + (size_t)(layer + 1) * spec->n_embd;
    if (layer + 1 < spec->n_layers)
        memcpy(to, x, spec->n_embd * sizeof *x);
    else
        s->kernels->rms_norm(to, x, s->m->output_norm, spec->n_embd, spec->norm_eps);
}

/* ---- the output matrix ---- */
/* Lanes of its own, so that the compiler may use vectors; a comparison with NaN is false. */
static float largest_of(const float *x, uint32_t n)
{
    float lanes[16], most = -INFINITY;
    for (uint32_t lane = 0; lane < 16; lane++)
        lanes[lane] = -INFINITY;
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (uint32_t lane = 0; lane < 16; lane++)
            lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (uint32_t lane = 0; lane < 16; lane++)
        most = lanes[lane] > most ? lanes[lane] : most;
    return most;
}

#define BLOCK_TILES (MODEL_LOGIT_BLOCK / TILE_ROWS)
_Static_assert(MODEL_LOGIT_BLOCK % TILE_ROWS == 0, "a block is whole tiles");

/* Logits, and their largest while they are in the nearest cache: who draws need not read all. */
static void multiply_logits(const struct step *s)
{
    const uint32_t n_vocab = s->m->info.n_vocab;
    const uint32_t n_blocks = (n_vocab + MODEL_LOGIT_BLOCK - 1) / MODEL_LOGIT_BLOCK;
    const struct product logits = {s->batch->logits, n_vocab, &s->m->output};
    const struct cut c = cut_product(s, s->w->n_logits, packed_tiles(logits.w->n_out), BLOCK_TILES);
    for (struct range rows, tiles; claim(s, &c, &rows, &tiles);)
        for (uint32_t tile = tiles.begin; tile < tiles.end; tile += BLOCK_TILES) {
            const uint32_t end = tile + BLOCK_TILES < tiles.end ? tile + BLOCK_TILES : tiles.end;
            multiply_tiles(s, &s->normed, rows, &logits, 1, tile, end);
            const uint32_t at = tile * TILE_ROWS, left = n_vocab - at;
            for (uint32_t r = rows.begin; s->batch->maxima && r < rows.end; r++)
                s->batch->maxima[(size_t)r * n_blocks + tile / BLOCK_TILES] =
                    largest_of(s->batch->logits + (size_t)r * n_vocab + at,
                               left < MODEL_LOGIT_BLOCK ? left : MODEL_LOGIT_BLOCK);
        }
}

/* ---- layers ---- */
/* Up to the K and V of a layer; false: the step is over. */
static bool run_block_start(struct step *s, uint32_t layer, struct range rows, uint32_t worker)
{
    for (uint32_t r = rows.begin; r < rows.end; r++)
        enter_layer_row(s, layer, r);
    finish_rows(s, worker, STAGE_ENTER);
    multiply_qkv(s, layer);
    meet(s, worker, STAGE_QKV);
    for (uint32_t r = rows.begin; r < rows.end; r++)
        write_kv_row(s, layer, r);
    ask_before_layer(s, layer, worker);
    finish_rows(s, worker, STAGE_KV);
    return may_go_on(s);
}

static void run_tail(struct step *s, uint32_t layer, uint32_t worker)
{
    struct model_workspace *w = s->w;
    const struct model_spec *spec = &s->m->spec;
    struct range rows = share(w->n_tail, worker, s->n_workers);
    for (uint32_t r = rows.begin; r < rows.end; r++)
        memcpy(w->x_tail + (size_t)r * spec->n_embd, w->x + (size_t)w->tail[r] * spec->n_embd,
               spec->n_embd * sizeof(float));
    attend(s, layer, &w->plans[PLAN_TAIL], worker);
    run_block_rest(s, layer, w->x_tail, w->n_tail, worker);
    const struct packed *readers[] = {&s->m->output};
    for (uint32_t r = rows.begin; r < rows.end; r++) {
        const float *x = w->x_tail + (size_t)r * spec->n_embd;
        if (r < w->n_logits) {
            norm_row(s, x, r, s->m->output_norm);
            quantize(s, &s->normed, r, readers, 1);
        } else {
            s->kernels->rms_norm(s->batch->hidden + (size_t)(r - w->n_logits) * spec->n_embd, x,
                                 s->m->output_norm, spec->n_embd, spec->norm_eps);
        }
        if (s->batch->residuals && w->tail[r] == s->residual_row)
            capture_residual(s, layer, x);
    }
    finish_rows(s, worker, STAGE_HEAD_ROWS);
    if (w->n_logits > 0)
        multiply_logits(s);
}

static void run_step(void *arg, uint32_t worker, uint32_t n_workers)
{
    struct step *s = arg;
    DCHECK(n_workers == s->n_workers);
    struct model_workspace *w = s->w;
    const uint32_t n_embd = s->m->spec.n_embd, last = s->m->spec.n_layers - 1;
    struct range rows = share(w->n_rows, worker, s->n_workers);
    start_clock(s, worker);
    for (uint32_t r = rows.begin; r < rows.end; r++)
        embed_row(s, r);
    for (uint32_t layer = 0; layer < last; layer++) {
        if (!run_block_start(s, layer, rows, worker))
            return;
        attend(s, layer, &w->plans[s->m->layers[layer].group], worker);
        run_block_rest(s, layer, w->x, w->n_rows, worker);
        if (s->batch->residuals && s->residual_row >= rows.begin && s->residual_row < rows.end)
            capture_residual(s, layer, w->x + (size_t)s->residual_row * n_embd);
    }
    if (run_block_start(s, last, rows, worker) && w->n_tail > 0) {
        run_tail(s, last, worker);
        if (w->times)
            meet(s, worker, STAGE_HEAD);
    }
}

/* ---- the door ---- */
static void check_sequence(const struct model *m, const struct model_sequence *s)
{
    CHECK(s->n_tokens >= 1 && s->n_tokens <= MODEL_BATCH_TOKENS_MAX);
    CHECK(s->n_logits <= s->n_tokens);
    CHECK(s->first_position <= UINT32_MAX - s->n_tokens);
    for (uint32_t i = 0; i < s->n_tokens; i++)
        CHECK(s->tokens[i] < m->info.n_vocab);
    uint32_t last = s->first_position + s->n_tokens - 1;
    for (uint32_t g = 0; g < m->info.n_groups; g++) {
        uint32_t window = m->info.groups[g].window, seen = 0;
        if (window != 0 && s->first_position >= window)
            seen = s->first_position - window + 1;
        CHECK(s->groups[g].first_page <= seen / KV_PAGE_TOKENS);
        CHECK(s->groups[g].first_page + s->groups[g].n_pages > last / KV_PAGE_TOKENS);
    }
}

static void check_batch(const struct model *m, const struct model_batch *batch)
{
    uint32_t n_tokens = 0, n_logits = 0, n_hidden = 0;
    CHECK(batch->n_sequences >= 1 && batch->n_sequences <= MODEL_BATCH_TOKENS_MAX);
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        check_sequence(m, &batch->sequences[i]);
        n_tokens += batch->sequences[i].n_tokens;
        *(batch->sequences[i].is_hidden ? &n_hidden : &n_logits) += batch->sequences[i].n_logits;
        CHECK(n_tokens <= MODEL_BATCH_TOKENS_MAX);
    }
    CHECK(n_logits == 0 || batch->logits != NULL);
    CHECK(n_hidden == 0 || batch->hidden != NULL);
    CHECK(!batch->residuals || batch->sequences[batch->n_sequences - 1].n_logits > 0);
}

static uint32_t count_rows(const struct model_batch *batch)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < batch->n_sequences; i++)
        n += batch->sequences[i].n_tokens;
    return n;
}

static struct act_rows act_rows_of(const struct model_workspace *w, const float *f32,
                                   uint32_t n_rows, uint32_t n_in)
{
    return (struct act_rows){
        .n_rows = n_rows,
        .n_in = n_in,
        .f32 = f32,
        .q = w->act_q,
        .scale = w->act_scale,
        .scaled_sum = w->act_scaled_sum,
        .sum16 = w->act_sum16,
    };
}

enum status model_forward(const struct model *m, struct model_workspace *w, struct team *team,
                          const struct model_batch *batch, struct err *e)
{
    const struct model_spec *spec = &m->spec;
    CHECK(team_size(team) == w->n_workers);
    check_batch(m, batch);
    const struct pace_step cost = {count_rows(batch), plan_bytes(m, batch),
                                   (double)m->info.packed_bytes};
    const enum model_pace pace = pace_choose(&w->pace, cost, spec->n_layers, w->n_workers);
    const uint64_t start_ns = clock_now_ns();
    plan_step(m, w, batch, pace == PACE_ALONE ? 1 : w->n_workers);
    struct step s = {
        .m = m,
        .kernels = m->kernels,
        .w = w,
        .team = pace == PACE_ALONE ? w->alone : team,
        .n_workers = pace == PACE_ALONE ? 1 : w->n_workers,
        .batch = batch,
        .start_ns = start_ns,
        .normed = act_rows_of(w, w->normed, w->n_rows, spec->n_embd),
        .attended = act_rows_of(w, w->attended, w->n_rows, spec->n_heads * spec->head_dim),
        .gated = act_rows_of(w, w->gate, w->n_rows, spec->n_ff),
        .residual_row = w->n_rows - 1,
    };
    for (uint32_t g = 0; g < m->info.n_groups; g++)
        s.layouts[g] = model_kv_layout(m, g, batch->kv_type);
    atomic_init(&s.failure, OK);
    team_run(s.team, run_step, &s);
    enum status st = (enum status)atomic_load(&s.failure);
    if (st == OK)
        pace_learn(&w->pace, cost, pace, (double)(clock_now_ns() - start_ns));
    return st == OK ? OK : err_set(e, st, "the KV cache of a layer cannot be read");
}
