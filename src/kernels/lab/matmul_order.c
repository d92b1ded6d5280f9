/* SPDX-License-Identifier: MIT
 * matmul_order.c — throw-away: is the order of operations of docs/numerics.md fast on AVX2?
 * Question: 16 rows interleaved, a lane owns an output, one exact integer dot per 32, one f32 chain
 *           along k.  How many GOP/s a core (a multiply and an add are two), M = 64 and M = 1?
 * Build:    cc -O3 -mavx2 -mfma -mf16c -ffp-contract=off matmul_order.c -o /tmp/lab && /tmp/lab
 * Result:   GOP/s at 576 × 1536, best over register tiles (Zen 4, one thread, gcc 12, shared
 * machine; register-only maddubs+add 373, maddubs+madd+add 232), and M = 1 from level 2: Q4_1 243
 * (4 × 16), 157    Q5_0 190 (4 × 16), 107    Q8_0 123 (3 × 16), 99 Q6_K 144 (4 × 16),  92    Q4_K
 * 236 (4 × 16), 139 The order costs nothing: 16 rows interleaved need no horizontal sum at all.
 * With -DREGROUP gcc moves int16 sums behind all products and spills them: Q4_1 90–160. 4 × 16 is
 * the register tile to use.  Kept. */
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum kind { K_Q4_1, K_Q5_0, K_Q8_0, K_Q6_K, K_Q4_K, N_KINDS };
static const char *const names[] = {"Q4_1", "Q5_0", "Q8_0", "Q6_K", "Q4_K"};
static const int plane_bytes[] = {256, 320, 512, 384, 256};

#define INLINE   static inline __attribute__((always_inline))
#define ROWS_MAX 8

struct job {
    const uint8_t *w;     /* planes of all tiles */
    const uint16_t *d;    /* per tile and block: d[16], m[16] */
    const int8_t *q;      /* [rows][n_in] */
    const int16_t *sum16; /* [rows][n_in / 16] */
    const float *scale, *scaled_sum;
    float *y;
    int n_in, n_out, rows;
};

/* Keeps gcc from regrouping integer sums; build with -DREGROUP to see what that costs. */
INLINE void stay_in_order(__m256i *v)
{
#ifndef REGROUP
    __asm__("" : "+x"(*v));
#else
    (void)v;
#endif
}
INLINE __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}
INLINE __m256i quad(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

/* Code vector of group g (4 k of 8 rows), half h. */
INLINE __m256i code(enum kind kind, const uint8_t *p, int g, int h)
{
    const __m256i m4 = _mm256_set1_epi8(15);
    if (kind == K_Q8_0)
        return load(p + g * 64 + h * 32);
    __m256i n = load(p + (g & 3) * 64 + h * 32);
    n = _mm256_and_si256(g < 4 ? n : _mm256_srli_epi16(n, 4), m4);
    if (kind == K_Q5_0) {
        __m256i b = load(p + 256 + h * 32);
        b = g < 4 ? _mm256_slli_epi16(b, 4 - g) : _mm256_srli_epi16(b, g - 4);
        n = _mm256_or_si256(n, _mm256_and_si256(b, _mm256_set1_epi8(16)));
    }
    if (kind == K_Q6_K) {
        __m256i b = load(p + 256 + (g & 1) * 64 + h * 32);
        const int s = (g >> 1) * 2;
        b = s < 4 ? _mm256_slli_epi16(b, 4 - s) : _mm256_srli_epi16(b, s - 4);
        n = _mm256_or_si256(n, _mm256_and_si256(b, _mm256_set1_epi8(48)));
    }
    return n;
}

INLINE void tile(enum kind kind, const int R, const struct job *jb, int t, int r0)
{
    const int nb = jb->n_in / 32;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256 acc[ROWS_MAX][2];
    for (int r = 0; r < R; r++)
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    for (int b = 0; b < nb; b++) {
        const uint8_t *p = jb->w + ((size_t)t * nb + b) * plane_bytes[kind];
        const uint16_t *d = jb->d + ((size_t)t * nb + b) * 32;
        __m256i s[ROWS_MAX][2], u[ROWS_MAX][2];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            /* nibbles: 0 4 1 5 2 6 3 7 so that a load serves both; else in order */
            const int g = kind == K_Q8_0 || kind == K_Q6_K ? i : (i >> 1) + (i & 1) * 4;
            const __m256i w0 = code(kind, p, g, 0), w1 = code(kind, p, g, 1);
            const int per = kind == K_Q4_1 || kind == K_Q4_K ? 8
                            : kind == K_Q5_0                 ? 4
                            : kind == K_Q6_K                 ? 2
                                                             : 1;
            __m256i a0 = w0, a1 = w1;
            if (kind == K_Q8_0)
                a0 = _mm256_abs_epi8(w0), a1 = _mm256_abs_epi8(w1);
            __m256i f0 = ones, f1 = ones;
            if (kind == K_Q6_K) {
                const __m256i sc = load(d + 16);
                f0 = _mm256_srai_epi16(g < 4 ? _mm256_slli_epi16(sc, 8) : sc, 8);
                f1 = _mm256_srai_epi16(g < 4 ? sc : _mm256_slli_epi16(sc, 8), 8);
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const __m256i x = quad(jb->q + (size_t)(r0 + r) * jb->n_in + b * 32 + g * 4);
                __m256i x0 = x, x1 = x;
                if (kind == K_Q8_0)
                    x0 = _mm256_sign_epi8(x, w0), x1 = _mm256_sign_epi8(x, w1);
                const __m256i p0 = _mm256_maddubs_epi16(a0, x0), p1 = _mm256_maddubs_epi16(a1, x1);
                if (i % per == 0)
                    u[r][0] = p0, u[r][1] = p1;
                else
                    u[r][0] = _mm256_add_epi16(u[r][0], p0),
                    u[r][1] = _mm256_add_epi16(u[r][1], p1);
                stay_in_order(&u[r][0]);
                stay_in_order(&u[r][1]);
                if (i % per == per - 1) {
                    const __m256i v0 = _mm256_madd_epi16(u[r][0], f0);
                    const __m256i v1 = _mm256_madd_epi16(u[r][1], f1);
                    if (i == per - 1)
                        s[r][0] = v0, s[r][1] = v1;
                    else
                        s[r][0] = _mm256_add_epi32(s[r][0], v0),
                        s[r][1] = _mm256_add_epi32(s[r][1], v1);
                }
            }
        }
        __m256 dw0 = _mm256_cvtph_ps(_mm_loadu_si128((const void *)d));
        __m256 dw1 = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(d + 8)));
        __m256 mw0 = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(d + 16)));
        __m256 mw1 = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(d + 24)));
        if (kind == K_Q4_K) {
            const uint8_t *sc = (const void *)d;
#define U8(o) _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(sc + (o)))))
            dw0 = _mm256_mul_ps(dw0, U8(32)), dw1 = _mm256_mul_ps(dw1, U8(40));
            mw0 = _mm256_mul_ps(mw0, U8(48)), mw1 = _mm256_mul_ps(mw1, U8(56));
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const size_t at = (size_t)(r0 + r) * nb + b;
            const __m256 da = _mm256_broadcast_ss(jb->scale + at);
            __m256i s0 = s[r][0], s1 = s[r][1];
            if (kind == K_Q5_0) {
                const __m256i c = _mm256_madd_epi16(quad((const void *)(jb->sum16 + at * 2)),
                                                    _mm256_set1_epi16(16));
                s0 = _mm256_sub_epi32(s0, c), s1 = _mm256_sub_epi32(s1, c);
            }
            if (kind == K_Q6_K) {
                const __m256i c = quad((const void *)(jb->sum16 + at * 2));
                s0 = _mm256_sub_epi32(s0, _mm256_slli_epi32(_mm256_madd_epi16(c, load(d)), 5));
                s1 = _mm256_sub_epi32(s1, _mm256_slli_epi32(_mm256_madd_epi16(c, load(d)), 5));
            }
            acc[r][0] = _mm256_fmadd_ps(_mm256_mul_ps(dw0, da), _mm256_cvtepi32_ps(s0), acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(_mm256_mul_ps(dw1, da), _mm256_cvtepi32_ps(s1), acc[r][1]);
            if (kind == K_Q4_1 || kind == K_Q4_K) {
                const __m256 ss = _mm256_broadcast_ss(jb->scaled_sum + at);
                acc[r][0] = _mm256_fmadd_ps(mw0, ss, acc[r][0]);
                acc[r][1] = _mm256_fmadd_ps(mw1, ss, acc[r][1]);
            }
        }
    }
    for (int r = 0; r < R; r++) {
        float *y = jb->y + (size_t)(r0 + r) * jb->n_out + t * 16;
        _mm256_storeu_ps(y, acc[r][0]);
        _mm256_storeu_ps(y + 8, acc[r][1]);
    }
}

#define RUN(kind, R)                                                             \
    __attribute__((noinline)) static void run_##kind##_##R(const struct job *jb) \
    {                                                                            \
        for (int t = 0; t < jb->n_out / 16; t++)                                 \
            for (int r = 0; r + R <= jb->rows; r += R)                           \
                tile(kind, R, jb, t, r);                                         \
    }
#define RUNS(kind) RUN(kind, 1) RUN(kind, 2) RUN(kind, 3) RUN(kind, 4) RUN(kind, 6)
RUNS(K_Q4_1)
RUNS(K_Q5_0)
RUNS(K_Q8_0)
RUNS(K_Q6_K)
RUNS(K_Q4_K)
#define ROW(kind)                                                                      \
    {                                                                                  \
        run_##kind##_1, run_##kind##_2, run_##kind##_3, run_##kind##_4, run_##kind##_6 \
    }
    static void (*const runs[N_KINDS][5])(const struct job *) = {
        ROW(K_Q4_1), ROW(K_Q5_0), ROW(K_Q8_0), ROW(K_Q6_K), ROW(K_Q4_K)};
static const int run_rows[5] = {1, 2, 3, 4, 6};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double best_of(void (*f)(const struct job *), const struct job *jb)
{
    double best = 1e9;
    for (int i = 0; i < 7; i++) {
        int n = 0;
        const double t0 = now();
        double t1;
        do {
            f(jb);
            n++;
        } while ((t1 = now()) - t0 < 0.02);
        best = (t1 - t0) / n < best ? (t1 - t0) / n : best;
    }
    return best;
}

int main(void)
{
    for (int shape = 0; shape < 2; shape++) {
        struct job jb = {.n_in = shape ? 1536 : 640, .n_out = shape ? 576 : 2048, .rows = 96};
        const size_t nb = (size_t)jb.n_in / 32, tiles = (size_t)jb.n_out / 16;
        uint8_t *w = aligned_alloc(64, tiles * nb * 512);
        uint16_t *d = aligned_alloc(64, tiles * nb * 64 + 64);
        for (size_t i = 0; i < tiles * nb * 512; i++)
            w[i] = (uint8_t)rand();
        for (size_t i = 0; i < tiles * nb * 32; i++)
            d[i] = (uint16_t)(0x2000 + rand() % 1000);
        int8_t *q = aligned_alloc(64, (size_t)jb.rows * (size_t)jb.n_in);
        for (int i = 0; i < jb.rows * jb.n_in; i++)
            q[i] = (int8_t)(rand() % 255 - 127);
        jb.w = w, jb.d = d, jb.q = q;
        jb.sum16 = calloc((size_t)jb.rows * nb * 2, 2);
        jb.scale = calloc((size_t)jb.rows * nb, 4);
        jb.scaled_sum = calloc((size_t)jb.rows * nb, 4);
        jb.y = calloc((size_t)jb.rows * (size_t)jb.n_out, 4);
        printf("%d x %d, GOP/s by rows a register tile:\n", jb.n_out, jb.n_in);
        for (int k = 0; k < N_KINDS; k++) {
            printf("  %s", names[k]);
            for (int i = 0; i < 5; i++) {
                const double s = best_of(runs[k][i], &jb);
                printf("  %dx16 %6.1f", run_rows[i], 2e-9 * jb.n_in * jb.n_out * jb.rows / s);
            }
            jb.rows = 1;
            const double s = best_of(runs[k][0], &jb);
            jb.rows = 96;
            printf("   M=1 %6.1f (%.1f GB/s)\n", 2e-9 * jb.n_in * jb.n_out / s,
                   1e-9 * (double)(tiles * nb) * (plane_bytes[k] + 64) / s);
        }
    }
    return 0;
}
