/* SPDX-License-Identifier: MIT
 * attention.c — softmax(q·K)·V over paged keys, as docs/numerics.md §7 defines it. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* One KV head of one block, as stored. */
struct block {
    enum kv_type type;
    uint32_t head_dim;
    const uint8_t *k, *v;
};

static float value_at(const uint8_t *values, enum kv_type type, size_t at)
{
    return type == KV_F32 ? ((const float *)(const void *)values)[at]
                          : f16_to_f32(((const uint16_t *)(const void *)values)[at]);
}

/* The scale of 32 dimensions of token t. */
static float scale_at(const uint8_t *head, size_t codes_bytes, uint32_t dim_block, uint32_t t)
{
    return value_at(head + codes_bytes, KV_F16, (size_t)dim_block * KV_PAGE_TOKENS + t);
}

static float score(const float *q, const struct block *kb, uint32_t t)
{
    float s = 0.0f;
    if (!kv_is_quantized(kb->type)) {
        for (uint32_t d = 0; d < kb->head_dim; d++)
            s = fmaf(q[d], value_at(kb->k, kb->type, (size_t)d * KV_PAGE_TOKENS + t), s);
        return s;
    }
    const size_t codes_bytes = kv_codes_bytes(KV_Q8_0, kb->head_dim);
    for (uint32_t b = 0; b < kb->head_dim / KV_BLOCK; b++) {
        float part = 0.0f;
        for (uint32_t d = b * KV_BLOCK; d < (b + 1) * KV_BLOCK; d++)
            part = fmaf(q[d], (float)(int8_t)kb->k[(size_t)d * KV_PAGE_TOKENS + t], part);
        s = fmaf(part, scale_at(kb->k, codes_bytes, b, t), s);
    }
    return s;
}

static int32_t v_code(const struct block *kb, uint32_t t, uint32_t d)
{
    const size_t row = (size_t)t * kb->head_dim;
    if (kb->type == KV_Q8_0)
        return (int8_t)kb->v[row + d];
    const uint32_t half = KV_BLOCK / 2; /* dimensions i and i + 16 of a block share a byte */
    const uint8_t two = kb->v[(row + d / KV_BLOCK * KV_BLOCK) / 2 + d % half];
    const int32_t code = d % KV_BLOCK < half ? two & 15 : two >> 4;
    return code < 8 ? code : code - 16;
}

static float add_value(float acc, float p, const struct block *kb, uint32_t t, uint32_t d)
{
    if (!kv_is_quantized(kb->type))
        return fmaf(p, value_at(kb->v, kb->type, (size_t)t * kb->head_dim + d), acc);
    const size_t codes_bytes = kv_codes_bytes(kb->type, kb->head_dim);
    const float weight = p * scale_at(kb->v, codes_bytes, d / KV_BLOCK, t);
    return fmaf(weight, (float)v_code(kb, t, d), acc);
}

/* One query, one block of 64 keys, visible ones [low, high). */
static void add_block(float *max, float *sum, float *acc, const float *q, const struct block *kb,
                      struct attention_span span)
{
    float s[KV_PAGE_TOKENS], block_max = -INFINITY;
    for (uint32_t t = span.low; t < span.high; t++) {
        s[t] = score(q, kb, t);
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
    for (uint32_t d = 0; d < kb->head_dim; d++) {
        acc[d] *= shrink;
        for (uint32_t t = span.low; t < span.high; t++)
            acc[d] = add_value(acc[d], s[t], kb, t, d);
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
    const size_t k_at = tile.kv_head * kv_head_bytes(kv->type, false, hd);
    const size_t v_at = tile.kv_head * kv_head_bytes(kv->type, true, hd);
    CHECK(kv_type_fits(kv->type, hd));
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
            if (span.low == span.high)
                continue;
            const struct block kb = {kv->type, hd,
                                     (const uint8_t *)kv->k[b - kv->first_page] + k_at,
                                     (const uint8_t *)kv->v[b - kv->first_page] + v_at};
            add_block(&o.max[row], &o.sum[row], o.acc + (size_t)row * hd, query, &kb, span);
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
