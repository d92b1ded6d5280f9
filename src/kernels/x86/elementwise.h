/* SPDX-License-Identifier: MIT
 * elementwise.h — norms, activations, rotation and row reductions in LANES lanes. */
#include <math.h>

#define TREE_LANES 16u /* docs/numerics.md §5 */

/* One vector of a row of n from i on; zeros beyond its end. */
INLINE vf load_upto(const float *x, uint32_t i, uint32_t n)
{
    return n - i >= LANES ? vf_load(x + i) : vf_load_first(x + i, n - i);
}

static float sum_of_squares(const float *x, uint32_t n)
{
    vf lane[PARTS];
    for (uint32_t h = 0; h < PARTS; h++)
        lane[h] = vf_zero();
    uint32_t i = 0;
    for (; n - i >= TREE_LANES; i += TREE_LANES)
#pragma GCC unroll 2
        for (uint32_t h = 0; h < PARTS; h++) {
            const vf a = vf_load(x + i + h * LANES);
            lane[h] = vf_fma(a, a, lane[h]);
        }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < PARTS; h++)
        if (i + h * LANES < n) { /* + 0 × 0 leaves a sum of squares as it is */
            const vf a = load_upto(x, i + h * LANES, n);
            lane[h] = vf_fma(a, a, lane[h]);
        }
    return tree_add(lane);
}

void ISA_NAME(rms_norm)(float *y, const float *x, const float *w, uint32_t n, float eps)
{
    const float mean = sum_of_squares(x, n) / (float)n;
    const float inverse = 1.0f / sqrtf(mean + eps);
    const vf factor = vf_set1(inverse);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), factor), vf_load(w + i)));
    for (; i < n; i++)
        y[i] = (x[i] * inverse) * w[i];
}

void ISA_NAME(add)(float *y, const float *x, uint32_t n)
{
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_add(vf_load(y + i), vf_load(x + i)));
    for (; i < n; i++)
        y[i] += x[i];
}

void ISA_NAME(scale)(float *y, float factor, uint32_t n)
{
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_mul(vf_load(y + i), vf_set1(factor)));
    for (; i < n; i++)
        y[i] *= factor;
}

INLINE vf vf_silu(vf g, vf up)
{
    const vf e = vf_exp(vf_xor(g, vf_set1(-0.0f)));
    return vf_mul(vf_div(g, vf_add(vf_set1(1.0f), e)), up);
}

INLINE vf vf_gelu(vf g, vf up)
{
    const vf one = vf_set1(1.0f);
    const vf cubic = vf_fma(vf_mul(vf_set1(GELU_B), g), g, one);
    const vf u = vf_mul(vf_set1(GELU_A), vf_mul(g, cubic));
    return vf_mul(vf_div(g, vf_add(one, vf_exp(u))), up);
}

void ISA_NAME(silu_mul)(float *y, const float *gate, const float *up, uint32_t n)
{
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_silu(vf_load(gate + i), vf_load(up + i)));
    if (i < n)
        vf_store_first(y + i, n - i,
                       vf_silu(vf_load_first(gate + i, n - i), vf_load_first(up + i, n - i)));
}

void ISA_NAME(gelu_mul)(float *y, const float *gate, const float *up, uint32_t n)
{
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_gelu(vf_load(gate + i), vf_load(up + i)));
    if (i < n)
        vf_store_first(y + i, n - i,
                       vf_gelu(vf_load_first(gate + i, n - i), vf_load_first(up + i, n - i)));
}

/* x0 c − x1 s, x0 s + x1 c, as fma(∓x1, s, x0 c) and fma(x0, s, x1 c). */
static void rope_pairs(float *x, uint32_t n_rot, const float *cos_sin)
{
    for (uint32_t i = 0; i < n_rot; i += LANES) {
        const vf v = vf_load(x + i), cs = vf_load(cos_sin + i);
        const vf c = vf_even_twice(cs), s = vf_odd_twice(cs);
        const vf other = vf_negate_even(vf_swap_pairs(v)); /* −x1 x0 */
        vf_store(x + i, vf_fma(other, s, vf_mul(v, c)));
    }
}

static void rope_halves(float *x, uint32_t n_rot, const float *cos_sin)
{
    const uint32_t half = n_rot / 2;
    for (uint32_t i = 0; i < half; i += LANES) {
        const vf a = vf_load(cos_sin + 2 * i), b = vf_load(cos_sin + 2 * i + LANES);
        const vf c = vf_evens(a, b), s = vf_odds(a, b);
        const vf x0 = vf_load(x + i), x1 = vf_load(x + half + i);
        vf_store(x + i, vf_fnma(x1, s, vf_mul(x0, c)));
        vf_store(x + half + i, vf_fma(x0, s, vf_mul(x1, c)));
    }
}

void ISA_NAME(rope)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot,
                    const float *cos_sin, enum rope_style style)
{
    const uint32_t whole = n_rot / (2 * LANES) * (2 * LANES); /* halves in whole vectors */
    for (uint32_t h = 0; h < n_heads; h++) {
        float *head = x + (size_t)h * head_dim;
        if (whole == n_rot && style == ROPE_PAIRS) {
            rope_pairs(head, n_rot, cos_sin);
        } else if (whole == n_rot) {
            rope_halves(head, n_rot, cos_sin);
        } else {
            for (uint32_t i = 0; i < n_rot / 2; i++) {
                float *a = head + (style == ROPE_PAIRS ? 2 * i : i);
                float *b = style == ROPE_PAIRS ? a + 1 : a + n_rot / 2;
                const float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], x0 = *a, x1 = *b;
                *a = fmaf(-x1, s, x0 * c);
                *b = fmaf(x0, s, x1 * c);
            }
        }
    }
}

static float max_of(const float *x, uint32_t n)
{
    vf m = vf_set1(-INFINITY);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        m = vf_max(vf_load(x + i), m); /* NaN never wins */
    float max = vf_largest(m);
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

void ISA_NAME(max_sum_exp)(const float *x, uint32_t n, float *max, float *sum)
{
    const float m = max_of(x, n);
    const vf bias = vf_set1(m);
    *max = m;
    *sum = 0.0f;
    if (m == -INFINITY)
        return;
    vf lane[PARTS];
    for (uint32_t h = 0; h < PARTS; h++)
        lane[h] = vf_zero();
    uint32_t i = 0;
    for (; n - i >= TREE_LANES; i += TREE_LANES)
#pragma GCC unroll 2
        for (uint32_t h = 0; h < PARTS; h++)
            lane[h] = vf_add(lane[h], vf_exp(vf_sub(vf_load(x + i + h * LANES), bias)));
#pragma GCC unroll 2
    for (uint32_t h = 0; h < PARTS; h++)
        if (i + h * LANES < n) {
            const vf e = vf_exp(vf_sub(load_upto(x, i + h * LANES, n), bias));
            const vmask in = lanes_within(0, (int32_t)(n - i - h * LANES));
            lane[h] = vf_add(lane[h], vf_blend(vf_zero(), e, in));
        }
    *sum = tree_add(lane);
}

uint32_t ISA_NAME(argmax)(const float *x, uint32_t n)
{
    const float m = max_of(x, n);
    const vf wanted = vf_set1(m);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const uint32_t hit = vf_equal_bits(vf_load(x + i), wanted);
        if (hit != 0)
            return i + (uint32_t)__builtin_ctz(hit);
    }
    for (; i < n; i++)
        if (x[i] == m)
            return i;
    return 0; /* nothing but NaN */
}
