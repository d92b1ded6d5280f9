/* SPDX-License-Identifier: MIT
 * attention.c — softmax(q·K)·V over paged keys, as docs/numerics.md §7 defines it. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

void ref_kv_write(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                  void *v_chunk, uint32_t slot, const float *k, const float *v)
{
    for (uint32_t h = 0; h < n_kv_heads; h++)
        for (uint32_t d = 0; d < head_dim; d++) {
            const size_t from = (size_t)h * head_dim + d;
            const size_t to_k = from * KV_PAGE_TOKENS + slot;
            const size_t to_v = ((size_t)h * KV_PAGE_TOKENS + slot) * head_dim + d;
            if (type == KV_F32) {
                ((float *)k_chunk)[to_k] = k[from];
                ((float *)v_chunk)[to_v] = v[from];
            } else {
                ((uint16_t *)k_chunk)[to_k] = f16_from_f32(k[from]);
                ((uint16_t *)v_chunk)[to_v] = f16_from_f32(v[from]);
            }
        }
}

static float kv_at(const void *chunk, enum kv_type type, size_t at)
{
    return type == KV_F32 ? ((const float *)chunk)[at] : f16_to_f32(((const uint16_t *)chunk)[at]);
}

/* One query, one block of 64 keys, visible ones [low, high). */
static void add_block(float *max, float *sum, float *acc, const float *q,
                      const struct attention_kv *kv, uint32_t kv_head, uint32_t block,
                      struct attention_span span)
{
    const uint32_t hd = kv->head_dim;
    const size_t head_at = (size_t)kv_head * hd * KV_PAGE_TOKENS;
    const void *k = kv->k[block - kv->first_page], *v = kv->v[block - kv->first_page];
    float s[KV_PAGE_TOKENS], block_max = -INFINITY;
    for (uint32_t t = span.low; t < span.high; t++) {
        s[t] = 0.0f;
        for (uint32_t d = 0; d < hd; d++)
            s[t] = fmaf(q[d], kv_at(k, kv->type, head_at + (size_t)d * KV_PAGE_TOKENS + t), s[t]);
        block_max = s[t] > block_max ? s[t] : block_max;
    }
    const float m = block_max > *max ? block_max : *max;
    if (m == -INFINITY)
        return;
    float lane[16] = {0};
    const float shrink = ref_exp(*max - m);
    for (uint32_t t = span.low; t < span.high; t++) {
        s[t] = ref_exp(s[t] - m);
        lane[t % 16] += s[t];
    }
    *sum = fmaf(*sum, shrink, tree_add16(lane));
    *max = m;
    for (uint32_t d = 0; d < hd; d++) {
        acc[d] *= shrink;
        for (uint32_t t = span.low; t < span.high; t++)
            acc[d] = fmaf(s[t], kv_at(v, kv->type, head_at + (size_t)t * hd + d), acc[d]);
    }
}

void ref_attention_partial(float *state, const struct attention_queries *q,
                           const struct attention_kv *kv, struct attention_tile tile,
                           uint32_t partition, float *scratch)
{
    (void)scratch;
    const uint32_t group = q->n_heads / kv->n_kv_heads, hd = kv->head_dim;
    const uint32_t n_rows = tile.n_tokens * group;
    const uint32_t blocks = KV_PARTITION_TOKENS / KV_PAGE_TOKENS;
    const struct attention_state o = attention_state_of(state, n_rows);
    for (uint32_t row = 0; row < n_rows; row++) {
        const uint32_t token = tile.token0 + row / group;
        const uint32_t head = tile.kv_head * group + row % group;
        const float *query = q->q + token * q->q_stride + (size_t)head * hd;
        o.max[row] = -INFINITY;
        o.sum[row] = 0.0f;
        memset(o.acc + (size_t)row * hd, 0, hd * sizeof(float));
        for (uint32_t b = partition * blocks; b < (partition + 1) * blocks; b++) {
            const struct attention_span span =
                attention_span_of(q->first_position + token, q->window, b);
            if (span.low < span.high)
                add_block(&o.max[row], &o.sum[row], o.acc + (size_t)row * hd, query, kv,
                          tile.kv_head, b, span);
        }
    }
}

void ref_attention_fold(float *state, const float *later, uint32_t n_rows, uint32_t head_dim)
{
    const struct attention_state a = attention_state_of(state, n_rows);
    const float *max = later, *sum = later + n_rows, *acc = later + 2 * (size_t)n_rows;
    for (uint32_t row = 0; row < n_rows; row++) {
        const float m = max[row] > a.max[row] ? max[row] : a.max[row];
        if (max[row] == -INFINITY)
            continue;
        const float shrink_a = ref_exp(a.max[row] - m), shrink_b = ref_exp(max[row] - m);
        a.max[row] = m;
        a.sum[row] = fmaf(a.sum[row], shrink_a, sum[row] * shrink_b);
        for (uint32_t d = 0; d < head_dim; d++) {
            float *x = &a.acc[(size_t)row * head_dim + d];
            *x = fmaf(*x, shrink_a, acc[(size_t)row * head_dim + d] * shrink_b);
        }
    }
}

void ref_attention_finish(float *out, size_t out_stride, const float *state,
                          struct attention_tile tile, uint32_t heads_per_group, uint32_t head_dim)
{
    const uint32_t n_rows = tile.n_tokens * heads_per_group;
    const float *sum = state + n_rows, *acc = state + 2 * (size_t)n_rows;
    for (uint32_t row = 0; row < n_rows; row++) {
        const uint32_t token = tile.token0 + row / heads_per_group;
        const uint32_t head = tile.kv_head * heads_per_group + row % heads_per_group;
        float *o = out + token * out_stride + (size_t)head * head_dim;
        const float inverse = 1.0f / sum[row];
        for (uint32_t d = 0; d < head_dim; d++)
            o[d] = acc[(size_t)row * head_dim + d] * inverse;
    }
}
