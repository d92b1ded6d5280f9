/* SPDX-License-Identifier: MIT
 * elementwise.c — norms, activations, rotation and row reductions in eight lanes. */
#include "kernels/avx2/avx2.h"

#include <math.h>

/* Lanes of the rest of a row, n − i below 8: masked loads give zeros beyond it. */
INLINE __m256 load_rest(const float *x, uint32_t n)
{
    return _mm256_maskload_ps(x, lanes_below(n));
}

/* Sums of the 16 virtual lanes: lanes 0..7 in the first, 8..15 in the second vector. */
static float sum_of_squares(const float *x, uint32_t n)
{
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    if (i + 8 <= n) {
        const __m256 a = _mm256_loadu_ps(x + i);
        low = _mm256_fmadd_ps(a, a, low);
        i += 8;
        if (i < n) {
            const __m256 b = load_rest(x + i, n - i);
            high = _mm256_fmadd_ps(b, b, high); /* + 0 × 0 leaves a sum of squares as it is */
        }
    } else if (i < n) {
        const __m256 a = load_rest(x + i, n - i);
        low = _mm256_fmadd_ps(a, a, low);
    }
    return tree_add(low, high);
}

void avx2_rms_norm(float *y, const float *x, const float *w, uint32_t n, float eps)
{
    const float mean = sum_of_squares(x, n) / (float)n;
    const float inverse = 1.0f / sqrtf(mean + eps);
    const __m256 factor = _mm256_set1_ps(inverse);
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor),
                                              _mm256_loadu_ps(w + i)));
    for (; i < n; i++)
        y[i] = (x[i] * inverse) * w[i];
}

void avx2_add(float *y, const float *x, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
    for (; i < n; i++)
        y[i] += x[i];
}

void avx2_scale(float *y, float factor, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_loadu_ps(y + i), _mm256_set1_ps(factor)));
    for (; i < n; i++)
        y[i] *= factor;
}

INLINE __m256 silu_8(__m256 g, __m256 up)
{
    const __m256 e = exp_8(_mm256_xor_ps(g, _mm256_set1_ps(-0.0f)));
    return _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), e)), up);
}

INLINE __m256 gelu_8(__m256 g, __m256 up)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 cubic = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(GELU_B), g), g, one);
    const __m256 u = _mm256_mul_ps(_mm256_set1_ps(GELU_A), _mm256_mul_ps(g, cubic));
    return _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(one, exp_8(u))), up);
}

void avx2_silu_mul(float *y, const float *gate, const float *up, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, silu_8(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
    if (i < n)
        _mm256_maskstore_ps(y + i, lanes_below(n - i),
                            silu_8(load_rest(gate + i, n - i), load_rest(up + i, n - i)));
}

void avx2_gelu_mul(float *y, const float *gate, const float *up, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, gelu_8(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
    if (i < n)
        _mm256_maskstore_ps(y + i, lanes_below(n - i),
                            gelu_8(load_rest(gate + i, n - i), load_rest(up + i, n - i)));
}

/* Four pairs: x0 c − x1 s, x0 s + x1 c, as fma(∓x1, s, x0 c) and fma(x0, s, x1 c). */
static void rope_pairs(float *x, uint32_t n_rot, const float *cos_sin)
{
    for (uint32_t i = 0; i < n_rot; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i), cs = _mm256_loadu_ps(cos_sin + i);
        const __m256 c = _mm256_moveldup_ps(cs), s = _mm256_movehdup_ps(cs);
        const __m256 other = _mm256_permute_ps(v, 0xb1); /* x1 x0 */
        /* lane 0: −x1 s + x0 c; lane 1: x0 s + x1 c */
        _mm256_storeu_ps(
            x + i, _mm256_fmadd_ps(
                       _mm256_xor_ps(other, _mm256_setr_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0)),
                       s, _mm256_mul_ps(v, c)));
    }
}

static void rope_halves(float *x, uint32_t n_rot, const float *cos_sin)
{
    const uint32_t half = n_rot / 2;
    for (uint32_t i = 0; i < half; i += 8) {
        const __m256 a = _mm256_loadu_ps(cos_sin + 2 * i), b = _mm256_loadu_ps(cos_sin + 2 * i + 8);
        const __m256 even = _mm256_shuffle_ps(a, b, 0x88), odd = _mm256_shuffle_ps(a, b, 0xdd);
        const __m256 c = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8));
        const __m256 s = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(odd), 0xd8));
        const __m256 x0 = _mm256_loadu_ps(x + i), x1 = _mm256_loadu_ps(x + half + i);
        _mm256_storeu_ps(x + i, _mm256_fnmadd_ps(x1, s, _mm256_mul_ps(x0, c)));
        _mm256_storeu_ps(x + half + i, _mm256_fmadd_ps(x0, s, _mm256_mul_ps(x1, c)));
    }
}

void avx2_rope(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos_sin,
               enum rope_style style)
{
    const uint32_t whole = n_rot / 16 * 16; /* pairs and halves both in whole vectors */
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
    __m256 m = _mm256_set1_ps(-INFINITY);
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        m = _mm256_max_ps(_mm256_loadu_ps(x + i), m); /* NaN never wins */
    float lanes[8], max = -INFINITY;
    _mm256_storeu_ps(lanes, m);
    for (int j = 0; j < 8; j++)
        max = lanes[j] > max ? lanes[j] : max;
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

void avx2_max_sum_exp(const float *x, uint32_t n, float *max, float *sum)
{
    const float m = max_of(x, n);
    const __m256 bias = _mm256_set1_ps(m);
    __m256 lane[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    *max = m;
    *sum = 0.0f;
    if (m == -INFINITY)
        return;
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        lane[i / 8 % 2] =
            _mm256_add_ps(lane[i / 8 % 2], exp_8(_mm256_sub_ps(_mm256_loadu_ps(x + i), bias)));
    if (i < n) {
        const __m256 e = exp_8(_mm256_sub_ps(load_rest(x + i, n - i), bias));
        const __m256 in = _mm256_castsi256_ps(lanes_below(n - i));
        lane[i / 8 % 2] = _mm256_add_ps(lane[i / 8 % 2], _mm256_and_ps(e, in));
    }
    *sum = tree_add(lane[0], lane[1]);
}

uint32_t avx2_argmax(const float *x, uint32_t n)
{
    const float m = max_of(x, n);
    const __m256 wanted = _mm256_set1_ps(m);
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const int hit =
            _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), wanted, _CMP_EQ_OQ));
        if (hit != 0)
            return i + (uint32_t)__builtin_ctz((uint32_t)hit);
    }
    for (; i < n; i++)
        if (x[i] == m)
            return i;
    return 0; /* nothing but NaN */
}
