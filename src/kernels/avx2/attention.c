/* SPDX-License-Identifier: MIT
 * attention.c — blocks of 64 keys, one softmax step each.  Two ways to the same bits:
 * few:  up to 3 rows (decode): K and V are read from the page as they are, each value once per
 * pass. many: K and V of the block become f32 panels of 16 lanes in scratch (in level 1 or 2), used
 * by all query heads and tokens of the tile, 6 rows × 16 lanes at a time. A row is one query head
 * of one token.  Scores of keys that a row does not see are computed with the rest and never read.
 */
#include "kernels/avx2/avx2.h"
#include "kernels/ref/ref.h"

#include <math.h>

#define FEW_ROWS             3
#define MANY_ROWS            6   /* 12 accumulators, 2 of K or V, 1 broadcast */
#define PANEL                16u /* lanes of a panel: keys of K, dimensions of V */
#define BLOCKS_PER_PARTITION (KV_PARTITION_TOKENS / KV_PAGE_TOKENS)

/* ---- what a call works on ---- */
struct work {
    const struct attention_queries *queries;
    const struct attention_kv *kv;
    struct attention_tile tile;
    struct attention_state state;
    uint32_t group, n_rows, head_dim;
    const void *k, *v; /* this block's K and V of the KV head */
    float *k_panels;   /* [4][head_dim][16] */
    float *v_panels;   /* [head_dim / 16][64][16] */
    float *scores;     /* [n_rows][64] */
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

INLINE __m256 kv_lanes(enum kv_type type, const void *p, size_t at)
{
    if (type == KV_F16)
        return halves_at((const uint16_t *)p + at);
    return _mm256_loadu_ps((const float *)p + at);
}

/* ---- softmax of one row ---- */
/* Scores become p in place; max and sum move on.  Returns the factor for acc; 1 mostly.  False: no
 * score is a number above −inf, the row stays as it was. */
static bool softmax_step(float *s, struct attention_span span, float *max, float *sum,
                         float *shrink)
{
    const uint32_t from = span.low / PANEL * PANEL, to = (span.high + PANEL - 1) / PANEL * PANEL;
    const __m256 none = _mm256_set1_ps(-INFINITY);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i low = _mm256_set1_epi32((int32_t)span.low - 1);
    const __m256i high = _mm256_set1_epi32((int32_t)span.high);
    const bool is_whole = span.low % PANEL == 0 && span.high % PANEL == 0;
    __m256 m = none;
    for (uint32_t t = from; t < to; t += 8) {
        __m256 v = _mm256_loadu_ps(s + t);
        if (!is_whole) {
            const __m256i at = _mm256_add_epi32(lane, _mm256_set1_epi32((int32_t)t));
            const __m256i in =
                _mm256_and_si256(_mm256_cmpgt_epi32(at, low), _mm256_cmpgt_epi32(high, at));
            v = _mm256_blendv_ps(none, v, _mm256_castsi256_ps(in));
            _mm256_storeu_ps(s + t, v);
        }
        m = _mm256_max_ps(v, m); /* v > m ? v : m, also when v is NaN */
    }
    __m128 n = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    n = _mm_max_ps(n, _mm_movehl_ps(n, n));
    n = _mm_max_ss(n, _mm_movehdup_ps(n));
    const float before = *max, block_max = _mm_cvtss_f32(n);
    const float now = block_max > before ? block_max : before;
    if (now == -INFINITY)
        return false;
    const __m256 bias = _mm256_set1_ps(now);
    __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (uint32_t t = from; t < to; t += 8) { /* exp(−inf) = 0: unseen keys add nothing */
        const __m256 p = exp_8(_mm256_sub_ps(_mm256_loadu_ps(s + t), bias));
        _mm256_storeu_ps(s + t, p);
        sums[t / 8 % 2] = _mm256_add_ps(sums[t / 8 % 2], p);
    }
    *shrink = now == before ? 1.0f : _mm256_cvtss_f32(exp_8(_mm256_set1_ps(before - now)));
    *sum = fmaf(*sum, *shrink, tree_add(sums[0], sums[1]));
    *max = now;
    return true;
}

static void shrink_acc(float *acc, float shrink, uint32_t head_dim)
{
    if (shrink == 1.0f)
        return;
    const __m256 factor = _mm256_set1_ps(shrink);
    for (uint32_t d = 0; d < head_dim; d += 8)
        _mm256_storeu_ps(acc + d, _mm256_mul_ps(_mm256_loadu_ps(acc + d), factor));
}

/* Softmax of rows [row0, row1); spans[] become what V is added for. */
static void softmax_rows(const struct work *w, uint32_t row0, uint32_t row1,
                         struct attention_span *spans)
{
    for (uint32_t row = row0; row < row1; row++) {
        struct attention_span *span = &spans[row - row0];
        float shrink;
        if (span->low == span->high)
            continue;
        if (softmax_step(w->scores + (size_t)row * KV_PAGE_TOKENS, *span, &w->state.max[row],
                         &w->state.sum[row], &shrink))
            shrink_acc(w->state.acc + (size_t)row * w->head_dim, shrink, w->head_dim);
        else
            *span = (struct attention_span){0, 0};
    }
}

/* Keys that every row of the group sees; low ≥ high: none. */
static struct attention_span common_span(const struct attention_span *spans, uint32_t n)
{
    struct attention_span c = spans[0];
    for (uint32_t i = 1; i < n; i++) {
        c.low = spans[i].low > c.low ? spans[i].low : c.low;
        c.high = spans[i].high < c.high ? spans[i].high : c.high;
    }
    return c;
}

/* Keys that some row sees, widened to whole panels; {0, 0}: none. */
static struct attention_span any_span(const struct attention_span *spans, uint32_t n)
{
    struct attention_span c = {KV_PAGE_TOKENS, 0};
    for (uint32_t i = 0; i < n; i++) {
        if (spans[i].low == spans[i].high)
            continue;
        c.low = spans[i].low < c.low ? spans[i].low : c.low;
        c.high = spans[i].high > c.high ? spans[i].high : c.high;
    }
    if (c.low >= c.high)
        return (struct attention_span){0, 0};
    return (struct attention_span){c.low / PANEL * PANEL, (c.high + PANEL - 1) / PANEL * PANEL};
}

/* ---- few rows, straight from the page ---- */
/* scores of R rows for 32 keys from key0 on (R = 1: 64 keys from 0). */
INLINE void few_scores(enum kv_type type, const int R, const struct work *w, uint32_t key0)
{
    enum { V_MAX = 8 };
    const int n_vectors = R == 1 ? 8 : 4;
    __m256 s[FEW_ROWS][V_MAX];
    const float *q[FEW_ROWS];
    for (int r = 0; r < R; r++) {
        q[r] = query_of(w, (uint32_t)r);
        for (int i = 0; i < n_vectors; i++)
            s[r][i] = _mm256_setzero_ps();
    }
    for (uint32_t d = 0; d < w->head_dim; d++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++) {
            const __m256 k = kv_lanes(type, w->k, d * KV_PAGE_TOKENS + key0 + 8 * (size_t)i);
#pragma GCC unroll 3
            for (int r = 0; r < R; r++)
                s[r][i] = _mm256_fmadd_ps(_mm256_set1_ps(q[r][d]), k, s[r][i]);
        }
    for (int r = 0; r < R; r++)
        for (int i = 0; i < n_vectors; i++)
            _mm256_storeu_ps(w->scores + (size_t)r * KV_PAGE_TOKENS + key0 + 8 * (size_t)i,
                             s[r][i]);
}

/* acc of R rows, dimensions [d, d + 16), over keys [low, high). */
INLINE void few_values(enum kv_type type, const int R, const struct work *w, uint32_t row0,
                       uint32_t d, struct attention_span span, const int n_vectors)
{
    enum { V_MAX = 8 };
    __m256 a[FEW_ROWS][V_MAX];
    float *acc = w->state.acc + (size_t)row0 * w->head_dim + d;
    const float *p = w->scores + (size_t)row0 * KV_PAGE_TOKENS;
    for (int r = 0; r < R; r++)
        for (int i = 0; i < n_vectors; i++)
            a[r][i] = _mm256_loadu_ps(acc + (size_t)r * w->head_dim + 8 * (size_t)i);
    for (uint32_t t = span.low; t < span.high; t++)
#pragma GCC unroll 8
        for (int i = 0; i < n_vectors; i++) {
            const __m256 v = kv_lanes(type, w->v, (size_t)t * w->head_dim + d + 8 * (size_t)i);
#pragma GCC unroll 3
            for (int r = 0; r < R; r++)
                a[r][i] =
                    _mm256_fmadd_ps(_mm256_set1_ps(p[(size_t)r * KV_PAGE_TOKENS + t]), v, a[r][i]);
        }
    for (int r = 0; r < R; r++)
        for (int i = 0; i < n_vectors; i++)
            _mm256_storeu_ps(acc + (size_t)r * w->head_dim + 8 * (size_t)i, a[r][i]);
}

INLINE void few_values_all(enum kv_type type, const int R, const struct work *w, uint32_t row0,
                           struct attention_span span)
{
    uint32_t d = 0;
    if (R == 1)
        for (; d + 64 <= w->head_dim; d += 64)
            few_values(type, R, w, row0, d, span, 8);
    for (; d + 32 <= w->head_dim; d += 32)
        few_values(type, R, w, row0, d, span, 4);
    for (; d < w->head_dim; d += 16)
        few_values(type, R, w, row0, d, span, 2);
}

INLINE void few_rows(enum kv_type type, const int R, const struct work *w)
{
    struct attention_span spans[FEW_ROWS];
    for (int r = 0; r < R; r++)
        spans[r] = span_of(w, (uint32_t)r);
    if (any_span(spans, (uint32_t)R).high == 0)
        return;
    few_scores(type, R, w, 0);
    if (R != 1)
        few_scores(type, R, w, 32);
    softmax_rows(w, 0, (uint32_t)R, spans);
    bool is_same = true;
    for (int r = 1; r < R; r++)
        is_same &= spans[r].low == spans[0].low && spans[r].high == spans[0].high;
    if (is_same)
        few_values_all(type, R, w, 0, spans[0]);
    else
        for (int r = 0; r < R; r++)
            few_values_all(type, 1, w, (uint32_t)r, spans[r]);
}

static void few_f16(const struct work *w)
{
    if (w->n_rows == 1)
        few_rows(KV_F16, 1, w);
    else if (w->n_rows == 2)
        few_rows(KV_F16, 2, w);
    else
        few_rows(KV_F16, 3, w);
}

static void few_f32(const struct work *w)
{
    if (w->n_rows == 1)
        few_rows(KV_F32, 1, w);
    else if (w->n_rows == 2)
        few_rows(KV_F32, 2, w);
    else
        few_rows(KV_F32, 3, w);
}

/* ---- many rows, through panels ---- */
INLINE void panels_of(enum kv_type type, const struct work *w, struct attention_span keys)
{
    const uint32_t hd = w->head_dim;
    for (uint32_t d = 0; d < hd; d++)
        for (uint32_t t = keys.low; t < keys.high; t += PANEL) {
            float *to = w->k_panels + ((size_t)(t / PANEL) * hd + d) * PANEL;
            const size_t at = (size_t)d * KV_PAGE_TOKENS + t;
            _mm256_storeu_ps(to, kv_lanes(type, w->k, at));
            _mm256_storeu_ps(to + 8, kv_lanes(type, w->k, at + 8));
        }
    for (uint32_t t = keys.low; t < keys.high; t++)
        for (uint32_t d = 0; d < hd; d += PANEL) {
            float *to = w->v_panels + ((size_t)(d / PANEL) * KV_PAGE_TOKENS + t) * PANEL;
            const size_t at = (size_t)t * hd + d;
            _mm256_storeu_ps(to, kv_lanes(type, w->v, at));
            _mm256_storeu_ps(to + 8, kv_lanes(type, w->v, at + 8));
        }
}

INLINE void many_scores(const int R, const struct work *w, uint32_t row0, uint32_t key0)
{
    __m256 s[MANY_ROWS][2];
    const float *q[MANY_ROWS];
    const float *k = w->k_panels + (size_t)(key0 / PANEL) * w->head_dim * PANEL;
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        q[r] = query_of(w, row0 + (uint32_t)r);
        s[r][0] = s[r][1] = _mm256_setzero_ps();
    }
    for (uint32_t d = 0; d < w->head_dim; d++, k += PANEL) {
        const __m256 k0 = _mm256_loadu_ps(k), k1 = _mm256_loadu_ps(k + 8);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const __m256 x = _mm256_set1_ps(q[r][d]);
            s[r][0] = _mm256_fmadd_ps(x, k0, s[r][0]);
            s[r][1] = _mm256_fmadd_ps(x, k1, s[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        float *to = w->scores + (size_t)(row0 + (uint32_t)r) * KV_PAGE_TOKENS + key0;
        _mm256_storeu_ps(to, s[r][0]);
        _mm256_storeu_ps(to + 8, s[r][1]);
    }
}

INLINE void many_values(const int R, const struct work *w, uint32_t row0,
                        struct attention_span span, uint32_t d)
{
    __m256 a[MANY_ROWS][2];
    float *acc = w->state.acc + (size_t)row0 * w->head_dim + d;
    const float *p = w->scores + (size_t)row0 * KV_PAGE_TOKENS;
    const float *v = w->v_panels + ((size_t)(d / PANEL) * KV_PAGE_TOKENS + span.low) * PANEL;
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        a[r][0] = _mm256_loadu_ps(acc + (size_t)r * w->head_dim);
        a[r][1] = _mm256_loadu_ps(acc + (size_t)r * w->head_dim + 8);
    }
    for (uint32_t t = span.low; t < span.high; t++, v += PANEL) {
        const __m256 v0 = _mm256_loadu_ps(v), v1 = _mm256_loadu_ps(v + 8);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const __m256 x = _mm256_set1_ps(p[(size_t)r * KV_PAGE_TOKENS + t]);
            a[r][0] = _mm256_fmadd_ps(x, v0, a[r][0]);
            a[r][1] = _mm256_fmadd_ps(x, v1, a[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
        _mm256_storeu_ps(acc + (size_t)r * w->head_dim, a[r][0]);
        _mm256_storeu_ps(acc + (size_t)r * w->head_dim + 8, a[r][1]);
    }
}

static void one_row_values(const struct work *w, uint32_t row, uint32_t low, uint32_t high)
{
    if (low < high)
        for (uint32_t d = 0; d < w->head_dim; d += PANEL)
            many_values(1, w, row, (struct attention_span){low, high}, d);
}

/* Keys ascend for every row: those before the common ones, the common ones, those after. */
INLINE void many_rows(const int R, const struct work *w, uint32_t row0)
{
    struct attention_span spans[MANY_ROWS];
    for (int r = 0; r < R; r++)
        spans[r] = span_of(w, row0 + (uint32_t)r);
    const struct attention_span any = any_span(spans, (uint32_t)R);
    for (uint32_t t = any.low; t < any.high; t += PANEL)
        many_scores(R, w, row0, t);
    softmax_rows(w, row0, row0 + (uint32_t)R, spans);
    const struct attention_span common = common_span(spans, (uint32_t)R);
    if (common.low >= common.high) {
        for (int r = 0; r < R; r++)
            one_row_values(w, row0 + (uint32_t)r, spans[r].low, spans[r].high);
        return;
    }
    for (int r = 0; r < R; r++)
        one_row_values(w, row0 + (uint32_t)r, spans[r].low, common.low);
    for (uint32_t d = 0; d < w->head_dim; d += PANEL)
        many_values(R, w, row0, common, d);
    for (int r = 0; r < R; r++)
        one_row_values(w, row0 + (uint32_t)r, common.high, spans[r].high);
}

static void many(const struct work *w)
{
    uint32_t row = 0;
    for (; w->n_rows - row >= 6; row += 6)
        many_rows(6, w, row);
    switch (w->n_rows - row) {
    case 5:
        many_rows(5, w, row);
        break;
    case 4:
        many_rows(4, w, row);
        break;
    case 3:
        many_rows(3, w, row);
        break;
    case 2:
        many_rows(2, w, row);
        break;
    case 1:
        many_rows(1, w, row);
        break;
    default:
        break;
    }
}

/* Keys of the block that the tile sees: the first token reaches back furthest, the last ahead. */
static struct attention_span tile_span(const struct work *w)
{
    const struct attention_span ends[2] = {span_of(w, 0), span_of(w, w->n_rows - 1)};
    return any_span(ends, 2);
}

static void add_block(struct work *w, uint32_t block)
{
    const size_t elements = (size_t)w->tile.kv_head * w->head_dim * KV_PAGE_TOKENS;
    const size_t bytes = elements * (w->kv->type == KV_F16 ? 2 : 4);
    w->block = block;
    const struct attention_span keys = tile_span(w);
    if (keys.high == 0)
        return;
    w->k = (const uint8_t *)w->kv->k[block - w->kv->first_page] + bytes;
    w->v = (const uint8_t *)w->kv->v[block - w->kv->first_page] + bytes;
    if (w->n_rows <= FEW_ROWS) {
        if (w->kv->type == KV_F16)
            few_f16(w);
        else
            few_f32(w);
        return;
    }
    if (w->kv->type == KV_F16)
        panels_of(KV_F16, w, keys);
    else
        panels_of(KV_F32, w, keys);
    many(w);
}

void avx2_attention_partial(float *state, const struct attention_queries *q,
                            const struct attention_kv *kv, struct attention_tile tile,
                            uint32_t partition, float *scratch)
{
    if (kv->head_dim % PANEL != 0) { /* no model we know; exact all the same */
        ref_attention_partial(state, q, kv, tile, partition, scratch);
        return;
    }
    const uint32_t group = q->n_heads / kv->n_kv_heads;
    const size_t block_floats = (size_t)KV_PAGE_TOKENS * kv->head_dim;
    struct work w = {.queries = q,
                     .kv = kv,
                     .tile = tile,
                     .group = group,
                     .n_rows = tile.n_tokens * group,
                     .head_dim = kv->head_dim,
                     .k_panels = scratch,
                     .v_panels = scratch + block_floats,
                     .scores = scratch + 2 * block_floats};
    w.state = attention_state_of(state, w.n_rows);
    for (uint32_t row = 0; row < w.n_rows; row++) {
        w.state.max[row] = -INFINITY;
        w.state.sum[row] = 0.0f;
    }
    memset(w.state.acc, 0, (size_t)w.n_rows * w.head_dim * sizeof(float));
    for (uint32_t i = 0; i < BLOCKS_PER_PARTITION; i++)
        add_block(&w, partition * BLOCKS_PER_PARTITION + i);
}

/* ---- folding, finishing, writing ---- */
void avx2_attention_fold(float *state, const float *later, uint32_t n_rows, uint32_t head_dim)
{
    const struct attention_state a = attention_state_of(state, n_rows);
    const float *max = later, *sum = later + n_rows, *acc = later + 2 * (size_t)n_rows;
    for (uint32_t row = 0; row < n_rows; row++) {
        const float m = max[row] > a.max[row] ? max[row] : a.max[row];
        if (max[row] == -INFINITY)
            continue;
        const float before = a.max[row];
        const float shrink_a = _mm256_cvtss_f32(exp_8(_mm256_set1_ps(before - m)));
        const float shrink_b = _mm256_cvtss_f32(exp_8(_mm256_set1_ps(max[row] - m)));
        a.max[row] = m;
        a.sum[row] = fmaf(a.sum[row], shrink_a, sum[row] * shrink_b);
        float *x = a.acc + (size_t)row * head_dim;
        const float *y = acc + (size_t)row * head_dim;
        const __m256 fa = _mm256_set1_ps(shrink_a), fb = _mm256_set1_ps(shrink_b);
        uint32_t d = 0;
        for (; d + 8 <= head_dim; d += 8)
            _mm256_storeu_ps(x + d, _mm256_fmadd_ps(_mm256_loadu_ps(x + d), fa,
                                                    _mm256_mul_ps(_mm256_loadu_ps(y + d), fb)));
        for (; d < head_dim; d++)
            x[d] = fmaf(x[d], shrink_a, y[d] * shrink_b);
    }
}

void avx2_attention_finish(float *out, size_t out_stride, const float *state,
                           struct attention_tile tile, uint32_t heads_per_group, uint32_t head_dim)
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
        for (; d + 8 <= head_dim; d += 8)
            _mm256_storeu_ps(o + d, _mm256_mul_ps(_mm256_loadu_ps(a + d), _mm256_set1_ps(inverse)));
        for (; d < head_dim; d++)
            o[d] = a[d] * inverse;
    }
}

/* f16_from_f32 in eight lanes: clamp to ±65504 (NaN passes), then round to nearest even. */
INLINE __m128i halves_of(__m256 v)
{
    v = _mm256_min_ps(_mm256_set1_ps(65504.0f), v);
    v = _mm256_max_ps(_mm256_set1_ps(-65504.0f), v);
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

void avx2_kv_write(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                   void *v_chunk, uint32_t slot, const float *k, const float *v)
{
    if (type != KV_F16 || head_dim % 8 != 0) {
        ref_kv_write(type, n_kv_heads, head_dim, k_chunk, v_chunk, slot, k, v);
        return;
    }
    uint16_t *to_k = (uint16_t *)k_chunk + slot;
    for (uint32_t h = 0; h < n_kv_heads; h++) {
        uint16_t *to_v = (uint16_t *)v_chunk + ((size_t)h * KV_PAGE_TOKENS + slot) * head_dim;
        for (uint32_t d = 0; d < head_dim; d += 8) {
            const size_t from = (size_t)h * head_dim + d;
            uint16_t lanes[8];
            _mm_storeu_si128((__m128i *)(void *)lanes, halves_of(_mm256_loadu_ps(k + from)));
            for (uint32_t i = 0; i < 8; i++)
                to_k[(from + i) * KV_PAGE_TOKENS] = lanes[i];
            _mm_storeu_si128((__m128i *)(void *)(to_v + d), halves_of(_mm256_loadu_ps(v + from)));
        }
    }
}
