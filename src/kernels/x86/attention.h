/* SPDX-License-Identifier: MIT
 * attention.h — blocks of 64 keys, one softmax step each, up to ATTENTION_ROWS rows at a time.
 * A row is one query head of one token; rows of a tile lie token by token, so that the heads of a
 * group, which see the same keys, come together and share each K and V vector.
 * K and V are widened from the page as they are used, codes of quantized types as they are: their
 * scales wait until 32 dimensions of K are added up, and go to the weights of V before that.
 * Widening a block once into f32 panels for
 * all rows of the tile was tried: no faster with 64 rows of 256 dimensions (96 GFLOP/s either way,
 * Zen 4) and half as fast with the 4 rows of a decode step (45 against 85), since panels go
 * through level 2.
 * Scores of keys that a row does not see are computed with the rest and never read. */
#include "kernels/ref/ref.h"

#include <math.h>

#define LANES_STEP      16u /* head dimensions are multiples of it; §5's lanes */
#define VECTORS_AT_ONCE 4   /* of keys or dimensions, with several rows */
_Static_assert(ATTENTION_ROWS <= ATTENTION_ROWS_MAX, "the caller's scratch");
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
    size_t k_bytes, v_bytes; /* of a KV head of a block; codes of quantized types come first */
    float *scores;           /* [ATTENTION_ROWS][64] */
    float *weights;          /* quantized V: [ATTENTION_ROWS][head_dim / 32][64], p × scale */
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

/* K is kept in bytes in both quantized types. */
INLINE enum kv_type k_type(enum kv_type type)
{
    return type == KV_Q4 ? KV_Q8_0 : type;
}

INLINE size_t kv_bits(enum kv_type type)
{
    return type == KV_F32 ? 32 : type == KV_F16 ? 16 : type == KV_Q8_0 ? 8 : 4;
}

/* Lanes of values or codes at + offset, offset a constant.  KV_Q4: at % 32 == 0, and of 32 codes
 * the first 16 are the low nibbles. */
INLINE vf kv_lanes(enum kv_type type, const void *p, size_t at, size_t offset)
{
    if (type == KV_F32)
        return vf_load((const float *)p + at + offset);
    if (type == KV_F16)
        return vf_halves_at((const uint16_t *)p + at + offset);
    if (type == KV_Q8_0)
        return vf_signed_bytes_at((const int8_t *)p + at + offset);
    const uint8_t *two = (const uint8_t *)p + at / 2 + offset / 32 * 16 + offset % 16;
    return offset % 32 < 16 ? vf_low_nibbles_at(two) : vf_high_nibbles_at(two);
}

/* Lanes at + offset of a row of them: asks for their line of the next block, once a line.  Into
 * level 2: runs of 8 KiB all over memory come at 28 GB/s that way, at 20 into level 1, at 15–19
 * unasked (Zen 4, two threads), since level 1 has few misses under way. */
INLINE void fetch_ahead(enum kv_type type, bool is_first, const uint8_t *next, size_t at,
                        size_t offset)
{
    if (is_first && offset * kv_bits(type) / 8 % 64 == 0)
        __builtin_prefetch(next + (at + offset) * kv_bits(type) / 8, 0, 2);
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
/* 0 that compilers take for a number like any other: a known one they keep in a register all the
 * time, and the loop over dimensions has none to spare (q8_0 56 against 70 GFLOP/s, AVX2; halves,
 * which have one loop, lose by it: 58 against 76 with 3 rows of 64). */
INLINE vf some_zero(void)
{
    vf zero = vf_zero();
    VECTOR_STAYS(v, zero);
    return zero;
}

/* Adds sums over 32 dimensions of codes, times their scales, to the scores of R rows; the first 32
 * begin from 0. */
INLINE void add_scaled(const int R, const int n_vectors, const struct work *w, uint32_t d,
                       uint32_t key0, vf s[ATTENTION_ROWS][8])
{
    const uint16_t *scales =
        (const uint16_t *)((const uint8_t *)w->k + kv_codes_bytes(KV_Q8_0, w->head_dim)) +
        (size_t)(d / KV_BLOCK) * KV_PAGE_TOKENS + key0;
#pragma GCC unroll 8
    for (int i = 0; i < n_vectors; i++) {
        const vf scale = vf_halves_at(scales + LANES * (size_t)i);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const float *before = w->scores + (size_t)r * KV_PAGE_TOKENS + key0 + LANES * (size_t)i;
            s[r][i] = vf_fma(s[r][i], scale, d == 0 ? some_zero() : vf_load(before));
        }
    }
}

/* Scores of R rows for the keys of n_vectors × LANES lanes from key0 on. */
INLINE void scores_of(enum kv_type type, const int R, const int n_vectors, const bool is_first,
                      const struct work *w, uint32_t row0, uint32_t key0)
{
    vf s[ATTENTION_ROWS][8];
    const float *q[ATTENTION_ROWS];
    const uint32_t run = kv_is_quantized(type) ? KV_BLOCK : w->head_dim;
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
        q[r] = query_of(w, row0 + (uint32_t)r);
    for (uint32_t d0 = 0; d0 < w->head_dim; d0 += run) {
#pragma GCC unroll 6
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int i = 0; i < n_vectors; i++)
                s[r][i] = kv_is_quantized(type) ? some_zero() : vf_zero();
        for (uint32_t d = d0; d < d0 + run; d++)
#pragma GCC unroll 8
            for (int i = 0; i < n_vectors; i++) {
                const size_t at = (size_t)d * KV_PAGE_TOKENS + key0, offset = LANES * (size_t)i;
                fetch_ahead(k_type(type), is_first, w->next_k, at, offset);
                const vf k = kv_lanes(k_type(type), w->k, at, offset);
#pragma GCC unroll 6
                for (int r = 0; r < R; r++)
                    s[r][i] = vf_fma(vf_set1(q[r][d]), k, s[r][i]);
            }
        if (kv_is_quantized(type))
            add_scaled(R, n_vectors, w, d0, key0, s);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int i = 0; i < n_vectors; i++)
                vf_store(w->scores + (size_t)r * KV_PAGE_TOKENS + key0 + LANES * (size_t)i,
                         s[r][i]);
    }
}

/* ---- p · V ---- */
/* The weights of codes of V: p × scale. */
INLINE void weigh(enum kv_type type, const int R, const struct work *w)
{
    const uint32_t n_scales = w->head_dim / KV_BLOCK * KV_PAGE_TOKENS;
    const uint16_t *scales =
        (const uint16_t *)((const uint8_t *)w->v + kv_codes_bytes(type, w->head_dim));
    for (uint32_t i = 0; i < n_scales; i += LANES) {
        const vf scale = vf_halves_at(scales + i);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++)
            vf_store(w->weights + (size_t)r * n_scales + i,
                     vf_mul(vf_load(w->scores + (size_t)r * KV_PAGE_TOKENS + i % KV_PAGE_TOKENS),
                            scale));
    }
}

/* acc of R rows from score row r0 on, n_vectors × LANES dimensions from d on, over the keys of
 * span. */
INLINE void values_of(enum kv_type type, const int R, const int n_vectors, const bool is_first,
                      const struct work *w, uint32_t row0, uint32_t r0, uint32_t d,
                      struct attention_span span)
{
    vf a[ATTENTION_ROWS][8];
    float *acc = w->state.acc + (size_t)(row0 + r0) * w->head_dim + d;
    const bool is_coded = kv_is_quantized(type);
    const size_t row = is_coded ? w->head_dim / KV_BLOCK * KV_PAGE_TOKENS : KV_PAGE_TOKENS;
    const float *p =
        is_coded ? w->weights + r0 * row + d / KV_BLOCK * KV_PAGE_TOKENS : w->scores + r0 * row;
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++)
            a[r][i] = vf_load(acc + (size_t)r * w->head_dim + LANES * (size_t)i);
    for (uint32_t t = span.low; t < span.high; t++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++) {
            const size_t at = (size_t)t * w->head_dim + d, offset = LANES * (size_t)i;
            const size_t dim_block = is_coded ? offset / KV_BLOCK * KV_PAGE_TOKENS : 0;
            fetch_ahead(type, is_first, w->next_v, at, offset);
            const vf v = kv_lanes(type, w->v, at, offset);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                a[r][i] = vf_fma(vf_set1(p[(size_t)r * row + dim_block + t]), v, a[r][i]);
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
    if (kv_is_quantized(type))
        weigh(type, R, w);
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

static void block_q8_0(const struct work *w)
{
    all_rows_of_block(KV_Q8_0, w);
}

static void block_q4(const struct work *w)
{
    all_rows_of_block(KV_Q4, w);
}

static void (*const block_of[])(const struct work *w) = {
    [KV_F16] = block_f16, [KV_F32] = block_f32, [KV_Q8_0] = block_q8_0, [KV_Q4] = block_q4};

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

static void fetch(const uint8_t *p, size_t from, size_t to)
{
    for (size_t i = from; i < to; i += 64)
        __builtin_prefetch(p + i, 0, 2);
}

/* This KV head's part of K or V of a block. */
static const uint8_t *k_of(const struct work *w, uint32_t block)
{
    return (const uint8_t *)w->kv->k[block - w->kv->first_page] + w->tile.kv_head * w->k_bytes;
}

static const uint8_t *v_of(const struct work *w, uint32_t block)
{
    return (const uint8_t *)w->kv->v[block - w->kv->first_page] + w->tile.kv_head * w->v_bytes;
}

/* Seen blocks of a partition, ascending; each asks for the one behind it. */
static void add_blocks(struct work *w, const uint32_t *blocks, uint32_t n)
{
    const enum kv_type type = w->kv->type;
    for (uint32_t i = 0; i < n; i++) {
        w->block = blocks[i];
        w->k = k_of(w, w->block);
        w->v = v_of(w, w->block);
        w->next_k = w->next_v = NULL;
        if (i == 0) {
            fetch(w->k, 0, w->k_bytes);
            fetch(w->v, 0, w->v_bytes);
        }
        if (i + 1 < n) {
            w->next_k = k_of(w, blocks[i + 1]);
            w->next_v = v_of(w, blocks[i + 1]);
        }
        if (i + 1 < n && kv_is_quantized(type)) { /* scales; the codes follow by and by */
            fetch(w->next_k, kv_codes_bytes(KV_Q8_0, w->head_dim), w->k_bytes);
            fetch(w->next_v, kv_codes_bytes(type, w->head_dim), w->v_bytes);
        }
        block_of[type](w);
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
                     .k_bytes = kv_head_bytes(kv->type, false, kv->head_dim),
                     .v_bytes = kv_head_bytes(kv->type, true, kv->head_dim),
                     .scores = scratch,
                     .weights = scratch + (size_t)ATTENTION_ROWS_MAX * KV_PAGE_TOKENS};
    CHECK(kv_type_fits(kv->type, kv->head_dim));
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

/* ---- folding, finishing ---- */
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
