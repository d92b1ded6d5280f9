/* SPDX-License-Identifier: MIT
 * attention.h — blocks of 64 keys, one softmax step each, up to ATTENTION_ROWS rows at a time.
 * A row is one query head of one token; rows of a tile lie token by token, so that the heads of a
 * group, which see the same keys, come together and share each K and V vector.
 * K and V are widened from the page as they are used.  Widening a block once into f32 panels for
 * all rows of the tile was tried: no faster with 64 rows of 256 dimensions (96 GFLOP/s either way,
 * Zen 4) and half as fast with the 4 rows of a decode step (45 against 85), since panels go
 * through level 2.
 * Scores of keys that a row does not see are computed with the rest and never read. */
#include "kernels/ref/ref.h"

#include <math.h>

#define LANES_STEP           16u /* head dimensions are multiples of it; §5's lanes */
#define VECTORS_AT_ONCE      4   /* of keys or dimensions, with several rows */
#define BLOCKS_PER_PARTITION (KV_PARTITION_TOKENS / KV_PAGE_TOKENS)

/* ---- what a call works on ---- */
struct work {
    const struct attention_queries *queries;
    const struct attention_kv *kv;
    struct attention_tile tile;
    struct attention_state state;
    uint32_t group, n_rows, head_dim;
    const void *k, *v; /* this block's K and V of the KV head */
    /* The next block's, asked for while the first rows of this one are computed; NULL: none.  It
     * lies in another page, where no hardware prefetcher looks. */
    const uint8_t *next_k, *next_v;
    float *scores; /* [ATTENTION_ROWS][64] */
    uint32_t block;
};

static const float *query_of(const struct work *w, uint32_t row)
{
    const uint32_t token = w->tile.token0 + row / w->group;
    const uint32_t head = w->tile.kv_head * w->group + row % w->group;
    return w->queries->q + token * w->queries->q_stride + (size_t)head * w->head_dim;
}

static struct attention_span span_of(const struct work *w, uint32_t row)
{
    const uint32_t position = w->queries->first_position + w->tile.token0 + row / w->group;
    return attention_span_of(position, w->queries->window, w->block);
}

INLINE vf kv_lanes(enum kv_type type, const void *p, size_t at)
{
    if (type == KV_F16)
        return vf_halves_at((const uint16_t *)p + at);
    return vf_load((const float *)p + at);
}

INLINE size_t kv_bytes(enum kv_type type)
{
    return type == KV_F16 ? 2 : 4;
}

/* Vector i of a row of vectors: asks for its line of the next block, once a line.  Into level 2:
 * runs of 8 KiB all over memory come at 28 GB/s that way, at 20 into level 1, at 15–19 unasked
 * (Zen 4, two threads), since level 1 has few misses under way. */
INLINE void fetch_ahead(enum kv_type type, bool is_first, const uint8_t *next, size_t at, int i)
{
    if (is_first && LANES * (size_t)i * kv_bytes(type) % 64 == 0)
        __builtin_prefetch(next + at * kv_bytes(type), 0, 2);
}

/* ---- softmax of one row ---- */
/* Scores become p in place; max and sum move on.  Returns the factor for acc; 1 mostly.  False: no
 * score is a number above −inf, the row stays as it was. */
static bool softmax_step(float *s, struct attention_span span, float *max, float *sum,
                         float *shrink)
{
    const uint32_t from = span.low / LANES_STEP * LANES_STEP,
                   to = (span.high + LANES_STEP - 1) / LANES_STEP * LANES_STEP;
    const vf none = vf_set1(-INFINITY);
    const bool is_whole = span.low % LANES_STEP == 0 && span.high % LANES_STEP == 0;
    vf m = none;
    for (uint32_t t = from; t < to; t += LANES) {
        vf v = vf_load(s + t);
        if (!is_whole) {
            v = vf_blend(
                none, v,
                lanes_within((int32_t)span.low - (int32_t)t, (int32_t)span.high - (int32_t)t));
            vf_store(s + t, v);
        }
        m = vf_max(v, m); /* v > m ? v : m, also when v is NaN */
    }
    const float before = *max, block_max = vf_largest(m);
    const float now = block_max > before ? block_max : before;
    if (now == -INFINITY)
        return false;
    const vf bias = vf_set1(now);
    vf sums[PARTS];
    for (uint32_t h = 0; h < PARTS; h++)
        sums[h] = vf_zero();
    for (uint32_t t = from; t < to; t += LANES_STEP) /* exp(−inf) = 0: unseen keys add nothing */
#pragma GCC unroll 2
        for (uint32_t h = 0; h < PARTS; h++) {
            const vf p = vf_exp_below(vf_sub(vf_load(s + t + h * LANES), bias));
            vf_store(s + t + h * LANES, p);
            sums[h] = vf_add(sums[h], p);
        }
    *shrink = now == before ? 1.0f : vf_first(vf_exp(vf_set1(before - now)));
    *sum = fmaf(*sum, *shrink, tree_add(sums));
    *max = now;
    return true;
}

static void shrink_acc(float *acc, float shrink, uint32_t head_dim)
{
    if (shrink == 1.0f)
        return;
    const vf factor = vf_set1(shrink);
    for (uint32_t d = 0; d < head_dim; d += LANES)
        vf_store(acc + d, vf_mul(vf_load(acc + d), factor));
}

/* Softmax of rows [row0, row0 + n); a span becomes empty where nothing is to be added. */
static void softmax_rows(const struct work *w, uint32_t row0, uint32_t n,
                         struct attention_span *spans)
{
    for (uint32_t r = 0; r < n; r++) {
        const uint32_t row = row0 + r;
        float shrink;
        if (spans[r].low == spans[r].high)
            continue;
        if (softmax_step(w->scores + (size_t)r * KV_PAGE_TOKENS, spans[r], &w->state.max[row],
                         &w->state.sum[row], &shrink))
            shrink_acc(w->state.acc + (size_t)row * w->head_dim, shrink, w->head_dim);
        else
            spans[r] = (struct attention_span){0, 0};
    }
}

/* Keys that all n rows see; low ≥ high: none. */
static struct attention_span common_span(const struct attention_span *spans, uint32_t n)
{
    struct attention_span c = spans[0];
    for (uint32_t i = 1; i < n; i++) {
        c.low = spans[i].low > c.low ? spans[i].low : c.low;
        c.high = spans[i].high < c.high ? spans[i].high : c.high;
    }
    return c;
}

/* Keys that some of n rows see; {64, 0}: none. */
static struct attention_span any_span(const struct attention_span *spans, uint32_t n)
{
    struct attention_span c = {KV_PAGE_TOKENS, 0};
    for (uint32_t i = 0; i < n; i++) {
        if (spans[i].low == spans[i].high)
            continue;
        c.low = spans[i].low < c.low ? spans[i].low : c.low;
        c.high = spans[i].high > c.high ? spans[i].high : c.high;
    }
    return c;
}

/* ---- q · K ---- */
/* Scores of R rows for the keys of n_vectors × LANES lanes from key0 on. */
INLINE void scores_of(enum kv_type type, const int R, const int n_vectors, const bool is_first,
                      const struct work *w, uint32_t row0, uint32_t key0)
{
    vf s[ATTENTION_ROWS][8];
    const float *q[ATTENTION_ROWS];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        q[r] = query_of(w, row0 + (uint32_t)r);
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++)
            s[r][i] = vf_zero();
    }
    for (uint32_t d = 0; d < w->head_dim; d++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++) {
            const size_t at = (size_t)d * KV_PAGE_TOKENS + key0 + LANES * (size_t)i;
            fetch_ahead(type, is_first, w->next_k, at, i);
            const vf k = kv_lanes(type, w->k, at);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                s[r][i] = vf_fma(vf_set1(q[r][d]), k, s[r][i]);
        }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++)
            vf_store(w->scores + (size_t)r * KV_PAGE_TOKENS + key0 + LANES * (size_t)i, s[r][i]);
}

/* ---- p · V ---- */
/* acc of R rows from score row r0 on, n_vectors × LANES dimensions from d on, over the keys of
 * span. */
INLINE void values_of(enum kv_type type, const int R, const int n_vectors, const bool is_first,
                      const struct work *w, uint32_t row0, uint32_t r0, uint32_t d,
                      struct attention_span span)
{
    vf a[ATTENTION_ROWS][8];
    float *acc = w->state.acc + (size_t)(row0 + r0) * w->head_dim + d;
    const float *p = w->scores + (size_t)r0 * KV_PAGE_TOKENS;
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++)
            a[r][i] = vf_load(acc + (size_t)r * w->head_dim + LANES * (size_t)i);
    for (uint32_t t = span.low; t < span.high; t++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++) {
            const size_t at = (size_t)t * w->head_dim + d + LANES * (size_t)i;
            fetch_ahead(type, is_first, w->next_v, at, i);
            const vf v = kv_lanes(type, w->v, at);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                a[r][i] = vf_fma(vf_set1(p[(size_t)r * KV_PAGE_TOKENS + t]), v, a[r][i]);
        }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++)
            vf_store(acc + (size_t)r * w->head_dim + LANES * (size_t)i, a[r][i]);
}

INLINE void all_values_of(enum kv_type type, const int R, const bool is_first, const struct work *w,
                          uint32_t row0, uint32_t r0, struct attention_span span)
{
    uint32_t d = 0;
    if (span.low >= span.high)
        return;
    if (R == 1)
        for (; d + 8 * LANES <= w->head_dim; d += 8 * LANES)
            values_of(type, R, 8, is_first, w, row0, r0, d, span);
    for (; d + VECTORS_AT_ONCE * LANES <= w->head_dim; d += VECTORS_AT_ONCE * LANES)
        values_of(type, R, VECTORS_AT_ONCE, is_first, w, row0, r0, d, span);
    for (; d + 2 * LANES <= w->head_dim; d += 2 * LANES)
        values_of(type, R, 2, is_first, w, row0, r0, d, span);
    if (LANES == LANES_STEP && d < w->head_dim)
        values_of(type, R, 1, is_first, w, row0, r0, d, span);
}

/* ---- R rows, one block ---- */
INLINE void rows_of_block_as(enum kv_type type, const int R, const bool is_first,
                             const struct work *w, uint32_t row0)
{
    struct attention_span spans[ATTENTION_ROWS];
    for (uint32_t r = 0; r < (uint32_t)R; r++)
        spans[r] = span_of(w, row0 + r);
    const struct attention_span any = any_span(spans, (uint32_t)R);
    if (any.low >= any.high)
        return;
    const uint32_t n_vectors = R == 1 ? KV_PAGE_TOKENS / LANES : VECTORS_AT_ONCE;
#pragma GCC unroll 2
    for (uint32_t key = 0; key < KV_PAGE_TOKENS; key += n_vectors * LANES)
        if (any.low < key + n_vectors * LANES && any.high > key)
            scores_of(type, R, (int)n_vectors, is_first, w, row0, key);
    softmax_rows(w, row0, (uint32_t)R, spans);
    /* Keys ascend for every row: those before the common ones, the common ones, those after. */
    struct attention_span common = common_span(spans, (uint32_t)R);
    if (common.low >= common.high)
        common = (struct attention_span){KV_PAGE_TOKENS, KV_PAGE_TOKENS};
    for (uint32_t r = 0; R > 1 && r < (uint32_t)R; r++) {
        const uint32_t high = spans[r].high < common.low ? spans[r].high : common.low;
        all_values_of(type, 1, false, w, row0, r, (struct attention_span){spans[r].low, high});
    }
    all_values_of(type, R, is_first, w, row0, 0, common);
    for (uint32_t r = 0; R > 1 && r < (uint32_t)R; r++)
        all_values_of(type, 1, false, w, row0, r,
                      (struct attention_span){common.high, spans[r].high});
}

INLINE void rows_of_block(enum kv_type type, const int R, const struct work *w, uint32_t row0)
{
    if (row0 == 0 && w->next_k)
        rows_of_block_as(type, R, true, w, row0);
    else
        rows_of_block_as(type, R, false, w, row0);
}

/* Four rows by threes are two and two, which widens K and V as often as three and one, for more. */
INLINE void all_rows_of_block(enum kv_type type, const struct work *w)
{
    uint32_t row = 0;
    while (row < w->n_rows) {
        const uint32_t left = w->n_rows - row;
        if (ATTENTION_ROWS == 6 && left >= 6) {
            rows_of_block(type, ATTENTION_ROWS, w, row);
            row += 6;
        } else if (ATTENTION_ROWS == 6 && left == 4) {
            rows_of_block(type, ATTENTION_ROWS == 6 ? 4 : 1, w, row);
            row += 4;
        } else if (left == 1) {
            rows_of_block(type, 1, w, row);
            row += 1;
        } else if (left == 2 || left == 4) {
            rows_of_block(type, 2, w, row);
            row += 2;
        } else {
            rows_of_block(type, 3, w, row);
            row += 3;
        }
    }
}

static void block_f16(const struct work *w)
{
    all_rows_of_block(KV_F16, w);
}

static void block_f32(const struct work *w)
{
    all_rows_of_block(KV_F32, w);
}

/* Does any row see w->block?  The first token reaches back furthest, the last ahead. */
static bool is_seen(const struct work *w)
{
    for (uint32_t row = 0; row < w->n_rows; row += w->group) {
        const struct attention_span span = span_of(w, row);
        if (span.low < span.high)
            return true;
    }
    return false;
}

/* The KV head's part of a chunk of this block. */
static const uint8_t *head_part(const struct work *w, const void *const *chunks, uint32_t block)
{
    const size_t elements = (size_t)w->tile.kv_head * w->head_dim * KV_PAGE_TOKENS;
    return (const uint8_t *)chunks[block - w->kv->first_page] + elements * kv_bytes(w->kv->type);
}

static void fetch(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(p + i, 0, 2);
}

/* Seen blocks of a partition, ascending; each asks for the one behind it. */
static void add_blocks(struct work *w, const uint32_t *blocks, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        w->block = blocks[i];
        w->k = head_part(w, w->kv->k, w->block);
        w->v = head_part(w, w->kv->v, w->block);
        w->next_k = w->next_v = NULL;
        if (i + 1 < n) {
            w->next_k = head_part(w, w->kv->k, blocks[i + 1]);
            w->next_v = head_part(w, w->kv->v, blocks[i + 1]);
        }
        if (i == 0) {
            const size_t bytes = (size_t)w->head_dim * KV_PAGE_TOKENS * kv_bytes(w->kv->type);
            fetch(w->k, bytes);
            fetch(w->v, bytes);
        }
        if (w->kv->type == KV_F16)
            block_f16(w);
        else
            block_f32(w);
    }
}

void ISA_NAME(attention_partial)(float *state, const struct attention_queries *q,
                                 const struct attention_kv *kv, struct attention_tile tile,
                                 uint32_t partition, float *scratch)
{
    if (kv->head_dim % LANES_STEP != 0) { /* no model we know; exact all the same */
        ref_attention_partial(state, q, kv, tile, partition, scratch);
        return;
    }
    const uint32_t group = q->n_heads / kv->n_kv_heads;
    struct work w = {.queries = q,
                     .kv = kv,
                     .tile = tile,
                     .group = group,
                     .n_rows = tile.n_tokens * group,
                     .head_dim = kv->head_dim,
                     .scores = scratch};
    w.state = attention_state_of(state, w.n_rows);
    for (uint32_t row = 0; row < w.n_rows; row++) {
        w.state.max[row] = -INFINITY;
        w.state.sum[row] = 0.0f;
    }
    memset(w.state.acc, 0, (size_t)w.n_rows * w.head_dim * sizeof(float));
    uint32_t seen[BLOCKS_PER_PARTITION], n_seen = 0;
    for (uint32_t i = 0; i < BLOCKS_PER_PARTITION; i++) {
        w.block = partition * BLOCKS_PER_PARTITION + i;
        if (is_seen(&w)) /* else its page may not even be there */
            seen[n_seen++] = w.block;
    }
    add_blocks(&w, seen, n_seen);
}

/* ---- folding, finishing, writing ---- */
void ISA_NAME(attention_fold)(float *state, const float *later, uint32_t n_rows, uint32_t head_dim)
{
    const struct attention_state a = attention_state_of(state, n_rows);
    const float *max = later, *sum = later + n_rows, *acc = later + 2 * (size_t)n_rows;
    for (uint32_t row = 0; row < n_rows; row++) {
        const float m = max[row] > a.max[row] ? max[row] : a.max[row];
        if (max[row] == -INFINITY)
            continue;
        const float before = a.max[row];
        const float shrink_a = vf_first(vf_exp(vf_set1(before - m)));
        const float shrink_b = vf_first(vf_exp(vf_set1(max[row] - m)));
        a.max[row] = m;
        a.sum[row] = fmaf(a.sum[row], shrink_a, sum[row] * shrink_b);
        float *x = a.acc + (size_t)row * head_dim;
        const float *y = acc + (size_t)row * head_dim;
        const vf fa = vf_set1(shrink_a), fb = vf_set1(shrink_b);
        uint32_t d = 0;
        for (; d + LANES <= head_dim; d += LANES)
            vf_store(x + d, vf_fma(vf_load(x + d), fa, vf_mul(vf_load(y + d), fb)));
        for (; d < head_dim; d++)
            x[d] = fmaf(x[d], shrink_a, y[d] * shrink_b);
    }
}

void ISA_NAME(attention_finish)(float *out, size_t out_stride, const float *state,
                                struct attention_tile tile, uint32_t heads_per_group,
                                uint32_t head_dim)
{
    const uint32_t n_rows = tile.n_tokens * heads_per_group;
    const float *sum = state + n_rows, *acc = state + 2 * (size_t)n_rows;
    for (uint32_t row = 0; row < n_rows; row++) {
        const uint32_t token = tile.token0 + row / heads_per_group;
        const uint32_t head = tile.kv_head * heads_per_group + row % heads_per_group;
        float *o = out + token * out_stride + (size_t)head * head_dim;
        const float *a = acc + (size_t)row * head_dim;
        const float inverse = 1.0f / sum[row];
        uint32_t d = 0;
        for (; d + LANES <= head_dim; d += LANES)
            vf_store(o + d, vf_mul(vf_load(a + d), vf_set1(inverse)));
        for (; d < head_dim; d++)
            o[d] = a[d] * inverse;
    }
}

void ISA_NAME(kv_write)(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                        void *v_chunk, uint32_t slot, const float *k, const float *v)
{
    if (type != KV_F16 || head_dim % LANES != 0) {
        ref_kv_write(type, n_kv_heads, head_dim, k_chunk, v_chunk, slot, k, v);
        return;
    }
    /* f16_from_f32: clamp to ±65504 (NaN passes), then round to nearest even. */
    const vf most = vf_set1(65504.0f), least = vf_set1(-65504.0f);
    uint16_t *to_k = (uint16_t *)k_chunk + slot;
    for (uint32_t h = 0; h < n_kv_heads; h++) {
        uint16_t *to_v = (uint16_t *)v_chunk + ((size_t)h * KV_PAGE_TOKENS + slot) * head_dim;
        for (uint32_t d = 0; d < head_dim; d += LANES) {
            const size_t from = (size_t)h * head_dim + d;
            uint16_t lanes[LANES];
            store_halves(lanes, vf_max(least, vf_min(most, vf_load(k + from))));
            for (uint32_t i = 0; i < LANES; i++)
                to_k[(from + i) * KV_PAGE_TOKENS] = lanes[i];
            store_halves(to_v + d, vf_max(least, vf_min(most, vf_load(v + from))));
        }
    }
}
