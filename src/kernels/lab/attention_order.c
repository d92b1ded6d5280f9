/* SPDX-License-Identifier: MIT
 * attention_order.c — throw-away: attention over f16 pages in the order of docs/numerics.md (K
 * transposed, lanes = keys; V by rows, lanes = dimensions; one ascending chain a lane).
 * Question: widen a block of 64 keys once into f32 panels for all rows of a tile (6 rows × 16
 *           lanes), or widen each vector anew for every 3 rows (3 × 32 lanes)?  Without softmax.
 * Build:    cc -O3 -mavx2 -mfma -mf16c -ffp-contract=off attention_order.c -o /tmp/lab && /tmp/lab
 * Result:   GFLOP/s (Zen 4, one thread, gcc 12, shared machine; register-only FMA peak 115):
 *             rows × dimensions   direct  panels
 *             48 ×  64 (16 tokens, 3 heads)  100  90
 *             64 × 256 (16 tokens, 4 heads)  102  97
 *              4 × 256 (decode)               77  35
 *              8 × 128 (decode)               84  43
 *           Direct wins: panels go through level 2, widening is free beside 12 FMAs.  Kept. */
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEYS   64
#define INLINE static inline __attribute__((always_inline))

struct job {
    int rows, dim;
    const uint16_t *k, *v; /* [dim][64], [64][dim] */
    const float *q;        /* [rows][dim] */
    float *s, *acc;        /* [rows][64], [rows][dim] */
    float *k_panels, *v_panels;
};

INLINE __m256 half(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

/* out[r][lane] += Σ_i a[r][i] × b[i][lane], i ascending, for N vectors of lanes; b f16 or f32. */
INLINE void tile(const int R, const int N, float *out, int out_stride, const float *a, int a_stride,
                 const uint16_t *b16, const float *b32, int b_stride, int n)
{
    __m256 x[6][8];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int j = 0; j < N; j++)
            x[r][j] = _mm256_loadu_ps(out + r * out_stride + 8 * j);
    for (int i = 0; i < n; i++) {
        if (N == 2) { /* panels: two vectors for all rows */
            const __m256 b0 = _mm256_loadu_ps(b32 + i * b_stride);
            const __m256 b1 = _mm256_loadu_ps(b32 + i * b_stride + 8);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
                const __m256 f = _mm256_set1_ps(a[r * a_stride + i]);
                x[r][0] = _mm256_fmadd_ps(f, b0, x[r][0]);
                x[r][1] = _mm256_fmadd_ps(f, b1, x[r][1]);
            }
            continue;
        }
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) {
            const __m256 b = half(b16 + i * b_stride + 8 * j);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                x[r][j] = _mm256_fmadd_ps(_mm256_set1_ps(a[r * a_stride + i]), b, x[r][j]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int j = 0; j < N; j++)
            _mm256_storeu_ps(out + r * out_stride + 8 * j, x[r][j]);
}

INLINE void direct_rows(const int R, const struct job *jb, int r)
{
    float *s = jb->s + r * KEYS, *acc = jb->acc + r * jb->dim;
    memset(s, 0, sizeof(float) * KEYS * (size_t)R);
    for (int t = 0; t < KEYS; t += 32)
        tile(R, 4, s + t, KEYS, jb->q + r * jb->dim, jb->dim, jb->k + t, NULL, KEYS, jb->dim);
    for (int d = 0; d < jb->dim; d += 32)
        tile(R, 4, acc + d, jb->dim, s, KEYS, jb->v + d, NULL, jb->dim, KEYS);
}

__attribute__((noinline)) static void direct(const struct job *jb)
{
    int r = 0;
    for (; jb->rows - r == 3 || jb->rows - r > 4; r += 3)
        direct_rows(3, jb, r);
    for (; r + 2 <= jb->rows; r += 2)
        direct_rows(2, jb, r);
}

INLINE void panel_rows(const int R, const struct job *jb, int r)
{
    float *s = jb->s + r * KEYS, *acc = jb->acc + r * jb->dim;
    memset(s, 0, sizeof(float) * KEYS * (size_t)R);
    for (int t = 0; t < KEYS; t += 16)
        tile(R, 2, s + t, KEYS, jb->q + r * jb->dim, jb->dim, NULL, jb->k_panels + t * jb->dim, 16,
             jb->dim);
    for (int d = 0; d < jb->dim; d += 16)
        tile(R, 2, acc + d, jb->dim, s, KEYS, NULL, jb->v_panels + d * KEYS, 16, KEYS);
}

__attribute__((noinline)) static void panels(const struct job *jb)
{
    for (int d = 0; d < jb->dim; d++)
        for (int t = 0; t < KEYS; t += 8)
            _mm256_storeu_ps(jb->k_panels + (t / 16 * jb->dim + d) * 16 + t % 16,
                             half(jb->k + d * KEYS + t));
    for (int t = 0; t < KEYS; t++)
        for (int d = 0; d < jb->dim; d += 8)
            _mm256_storeu_ps(jb->v_panels + (d / 16 * KEYS + t) * 16 + d % 16,
                             half(jb->v + t * jb->dim + d));
    int r = 0;
    for (; r + 6 <= jb->rows; r += 6)
        panel_rows(6, jb, r);
    for (; r + 4 <= jb->rows; r += 4)
        panel_rows(4, jb, r);
    for (; r + 3 <= jb->rows; r += 3)
        panel_rows(3, jb, r);
    for (; r + 1 <= jb->rows; r++)
        panel_rows(1, jb, r);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double gflops(void (*f)(const struct job *), const struct job *jb)
{
    double best = 1e9;
    for (int i = 0; i < 9; i++) {
        int n = 0;
        const double t0 = now();
        double t1;
        do {
            memset(jb->acc, 0, sizeof(float) * (size_t)(jb->rows * jb->dim));
            f(jb);
            n++;
        } while ((t1 = now()) - t0 < 0.02);
        best = (t1 - t0) / n < best ? (t1 - t0) / n : best;
    }
    return 4e-9 * jb->rows * jb->dim * KEYS / best;
}

int main(void)
{
    static const int shapes[][2] = {{48, 64}, {3, 64}, {64, 256}, {4, 256}, {8, 128}, {128, 128}};
    for (int i = 0; i < 6; i++) {
        struct job jb = {.rows = shapes[i][0], .dim = shapes[i][1]};
        const size_t n = (size_t)KEYS * (size_t)jb.dim, m = (size_t)jb.rows * 256;
        jb.k = calloc(n, 2), jb.v = calloc(n, 2), jb.q = calloc(m, 4);
        jb.s = calloc(m, 4), jb.acc = calloc(m, 4);
        jb.k_panels = calloc(n, 4), jb.v_panels = calloc(n, 4);
        printf("%3d rows x %3d dimensions: direct %5.1f, panels %5.1f GFLOP/s\n", jb.rows, jb.dim,
               gflops(direct, &jb), gflops(panels, &jb));
    }
    return 0;
}
