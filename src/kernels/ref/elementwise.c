/* SPDX-License-Identifier: MIT
 * elementwise.c — norms, activations, rotation and row reductions (docs/numerics.md §5, §6). */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

float ref_exp(float x)
{
    if (x > EXP_MAX)
        return INFINITY;
    if (x < EXP_MIN)
        return 0.0f;
    if (x != x)
        return x;
    const float n = fmaf(x, EXP_LOG2E, EXP_ROUND) - EXP_ROUND;
    float r = fmaf(-n, EXP_LN2_HIGH, x);
    r = fmaf(-n, EXP_LN2_LOW, r);
    float p = EXP_C6;
    p = fmaf(p, r, EXP_C5);
    p = fmaf(p, r, EXP_C4);
    p = fmaf(p, r, EXP_C3);
    p = fmaf(p, r, EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    uint32_t bits; /* n = 128 only with p < 1, so the exponent field never overflows (EXP_MAX) */
    memcpy(&bits, &p, 4);
    bits += (uint32_t)(int32_t)n << 23;
    memcpy(&p, &bits, 4);
    return p;
}

void ref_rms_norm(float *y, const float *x, const float *w, uint32_t n, float eps)
{
    float lane[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    const float mean = tree_add16(lane) / (float)n;
    const float inverse = 1.0f / sqrtf(mean + eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = (x[i] * inverse) * w[i];
}

void ref_add(float *y, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] += x[i];
}

void ref_scale(float *y, float factor, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] *= factor;
}

void ref_silu_mul(float *y, const float *gate, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const float g = gate[i];
        y[i] = g / (1.0f + ref_exp(-g)) * up[i];
    }
}

void ref_gelu_mul(float *y, const float *gate, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const float g = gate[i];
        const float u = GELU_A * (g * fmaf(GELU_B * g, g, 1.0f));
        y[i] = g / (1.0f + ref_exp(u)) * up[i];
    }
}

void ref_rope(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos_sin,
              enum rope_style style)
{
    const uint32_t half = n_rot / 2;
    for (uint32_t h = 0; h < n_heads; h++)
        for (uint32_t i = 0; i < half; i++) {
            float *a = x + (size_t)h * head_dim + (style == ROPE_PAIRS ? 2 * i : i);
            float *b = style == ROPE_PAIRS ? a + 1 : a + half;
            const float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], x0 = *a, x1 = *b;
            *a = fmaf(-x1, s, x0 * c);
            *b = fmaf(x0, s, x1 * c);
        }
}

void ref_max_sum_exp(const float *x, uint32_t n, float *max, float *sum)
{
    float m = -INFINITY;
    for (uint32_t i = 0; i < n; i++)
        m = x[i] > m ? x[i] : m;
    float lane[16] = {0};
    if (m != -INFINITY)
        for (uint32_t i = 0; i < n; i++)
            lane[i % 16] += ref_exp(x[i] - m);
    *max = m;
    *sum = tree_add16(lane);
}

uint32_t ref_argmax(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best] || (x[best] != x[best] && x[i] == x[i]))
            best = i;
    return best;
}
