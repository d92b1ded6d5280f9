/* SPDX-License-Identifier: MIT
 * kernels_bench.c — what the kernels do on this machine, beside what the
 * machine can do. Prints, from one thread: register-only peaks and read
 * bandwidth, then GOP/s (a multiply and an add are two) of every weight type at
 * M = 1, 8, 64, 512 rows, GB/s of packed weights at M = 1, and GFLOP/s of
 * attention.  Best of several runs in CPU time of the thread, since other jobs
 * may share the cores.   Use: kernels_bench [ISA] [TYPE] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SECONDS_PER_RUN 0.02
#define RUNS            9

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best seconds of one call. */
static double time_of(void (*f)(void *), void *arg)
{
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        uint32_t n = 0;
        const double start = seconds();
        double now;
        do {
            f(arg);
            n++;
            now = seconds();
        } while (now - start < SECONDS_PER_RUN);
        const double each = (now - start) / n;
        best = each < best ? each : best;
    }
    return best;
}

/* ---- what the machine can do ---- */
#if defined(__x86_64__)
#define PEAK_STEPS 20000
#define CHAINS     12

static volatile int sink;

/* asm keeps the compiler from proving that the loop repeats itself, and from regrouping sums. */
__attribute__((target("avx2"))) static void peak_maddubs(void *arg)
{
    __m256i a[CHAINS], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(*(char *)arg);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        a[i] = _mm256_setzero_si256();
    for (int n = 0; n < PEAK_STEPS; n++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            a[i] = _mm256_add_epi16(a[i], _mm256_maddubs_epi16(x, y));
            __asm__("" : "+x"(a[i]), "+x"(x));
        }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        a[0] = _mm256_add_epi16(a[0], a[i]);
    sink = _mm256_extract_epi16(a[0], 0);
}

__attribute__((target("avx2"))) static void peak_maddubs_madd(void *arg)
{
    __m256i a[CHAINS], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(*(char *)arg);
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        a[i] = _mm256_setzero_si256();
    for (int n = 0; n < PEAK_STEPS; n++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            a[i] = _mm256_add_epi32(a[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
            __asm__("" : "+x"(a[i]), "+x"(x));
        }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        a[0] = _mm256_add_epi32(a[0], a[i]);
    sink = _mm256_extract_epi32(a[0], 0);
}

__attribute__((target("avx2,fma"))) static void peak_fma(void *arg)
{
    __m256 a[CHAINS], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(*(char *)arg);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        a[i] = _mm256_setzero_ps();
    for (int n = 0; n < PEAK_STEPS; n++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            a[i] = _mm256_fmadd_ps(x, y, a[i]);
            __asm__("" : "+x"(a[i]));
        }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++)
        a[0] = _mm256_add_ps(a[0], a[i]);
    sink = (int)_mm256_cvtss_f32(a[0]);
}

#define READ_BYTES ((size_t)256 << 20)
__attribute__((target("avx2"))) static void read_all(void *arg)
{
    const __m256i *p = arg;
    __m256i a[4] = {0};
    for (size_t i = 0; i < READ_BYTES / 32; i += 4)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
            a[j] = _mm256_or_si256(a[j], _mm256_load_si256(p + i + j));
    sink = _mm256_extract_epi32(
        _mm256_or_si256(_mm256_or_si256(a[0], a[1]), _mm256_or_si256(a[2], a[3])), 0);
}

/* Half of it, so that smaller buffers serve too. */
__attribute__((target("avx2"))) static void read_half(void *arg)
{
    const __m256i *p = arg;
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i < READ_BYTES / 64; i += 2) {
        a = _mm256_or_si256(a, _mm256_load_si256(p + i));
        b = _mm256_or_si256(b, _mm256_load_si256(p + i + 1));
    }
    sink = _mm256_extract_epi32(_mm256_or_si256(a, b), 0);
}

static void print_peaks(void)
{
    char three = 3;
    const double steps = (double)PEAK_STEPS * CHAINS;
    void *big = mem_try_aligned(64, READ_BYTES);
    CHECK(big != NULL);
    memset(big, 1, READ_BYTES);
    printf("peak: maddubs+add %.0f GOP/s, maddubs+madd+add %.0f GOP/s, fma f32 "
           "%.0f GFLOP/s, "
           "read %.1f GB/s\n",
           64e-9 * steps / time_of(peak_maddubs, &three),
           64e-9 * steps / time_of(peak_maddubs_madd, &three),
           16e-9 * steps / time_of(peak_fma, &three),
           1e-9 * (double)READ_BYTES / time_of(read_all, big));
    mem_free(big);
}
#else
static void print_peaks(void)
{
}
#endif

/* ---- products ---- */
struct product {
    const struct kernels *k;
    struct act_rows x;
    struct packed w;
    float *y;
};

static void run_product(void *arg)
{
    struct product *p = arg;
    p->k->matmul(p->y, p->w.n_out, &p->x, 0, p->x.n_rows, &p->w, 0, packed_tiles(p->w.n_out));
}

static void *bytes_new(size_t n)
{
    void *p = mem_try_aligned(64, n);
    CHECK(p != NULL);
    return p;
}

#define ROWS_MAX 512u
static const uint32_t row_counts[] = {1, 8, 64, 512};

/* Matrix × vector out of memory: as many outputs as make the packed weights
 * STREAM_BYTES. */
#define STREAM_BYTES ((uint64_t)160 << 20)

static void bench_type(const struct kernels *k, enum tensor_type type, uint32_t n_out,
                       uint32_t n_in)
{
    const uint64_t bytes = packed_bytes(type, ACTIVATIONS_Q8, n_out, n_in);
    if (bytes == 0)
        return;
    const uint64_t raw_bytes = tensor_row_bytes(type, n_in) * n_out;
    struct prng rng = {1, 0};
    uint8_t *raw = bytes_new(raw_bytes);
    for (uint64_t i = 0; i < raw_bytes; i++)
        raw[i] = (uint8_t)(prng_next(&rng) & 0x3f); /* every scale stays finite */
    for (uint64_t i = 0; type == TYPE_MXFP4 && i < raw_bytes; i++)
        raw[i] |= 0x40; /* no scale is subnormal */
    void *data = bytes_new(bytes);
    packed_fill(data, raw, type, ACTIVATIONS_Q8, n_out, n_in, 0, packed_tiles(n_out));
    float *f = bytes_new(ROWS_MAX * n_in * sizeof(float));
    for (size_t i = 0; i < (size_t)ROWS_MAX * n_in; i++)
        f[i] = (float)prng_uniform(2, 0, i, 0) - 0.5f;
    const size_t n_blocks = (size_t)ROWS_MAX * n_in / ACT_BLOCK;
    struct product p = {k,
                        {ROWS_MAX, n_in, f, bytes_new(n_blocks * 32), bytes_new(n_blocks * 4),
                         bytes_new(n_blocks * 4), bytes_new(n_blocks * 4)},
                        {type, ACTIVATIONS_Q8, n_out, n_in, data},
                        bytes_new((size_t)ROWS_MAX * n_out * sizeof(float))};
    for (uint32_t r = 0; r < ROWS_MAX && n_in % ACT_BLOCK == 0; r++)
        k->quantize_row(&p.x, r);
    printf("%-7s %6u x %-5u", tensor_type_name((uint32_t)type), n_out, n_in);
    for (size_t i = 0; i < ARRAY_COUNT(row_counts); i++) {
        p.x.n_rows = row_counts[i];
        const double s = time_of(run_product, &p);
        printf("  M=%-3u %6.1f", row_counts[i], 2e-9 * n_out * n_in * row_counts[i] / s);
        if (row_counts[i] == 1)
            printf(" (%4.1f GB/s)", 1e-9 * (double)bytes / s);
    }
    printf("  GOP/s\n");
    mem_free(raw);
    mem_free(data);
    mem_free(f);
    mem_free(p.x.q);
    mem_free(p.x.scale);
    mem_free(p.x.scaled_sum);
    mem_free(p.x.sum16);
    mem_free(p.y);
}

static void bench_stream(const struct kernels *k, enum tensor_type type, uint32_t n_in)
{
    const uint64_t tile_bytes = packed_bytes(type, ACTIVATIONS_Q8, TILE_ROWS, n_in);
    const uint32_t n_out = (uint32_t)(STREAM_BYTES / tile_bytes) * TILE_ROWS;
    const uint64_t size = tile_bytes * (n_out / TILE_ROWS);
    uint8_t *data = mem_try_large(size);
    CHECK(data != NULL);
    memset(data, 1, size);
    float *f = bytes_new(n_in * sizeof(float));
    struct product p = {
        k,
        {1, n_in, f, bytes_new(n_in), bytes_new(n_in), bytes_new(n_in), bytes_new(n_in)},
        {type, ACTIVATIONS_Q8, n_out, n_in, data},
        bytes_new((size_t)n_out * sizeof(float))};
    k->quantize_row(&p.x, 0);
    const double bytes = (double)tile_bytes * (n_out / TILE_ROWS);
    printf("%-7s %6u x %-5u M=1 from memory: %4.1f GB/s", tensor_type_name((uint32_t)type), n_out,
           n_in, 1e-9 * bytes / time_of(run_product, &p));
#if defined(__x86_64__)
    CHECK(bytes > READ_BYTES / 2);
    printf(", reading alone %4.1f GB/s", 0.5e-9 * (double)READ_BYTES / time_of(read_half, data));
#endif
    printf("\n");
    mem_free_large(data, size);
    mem_free(f);
    mem_free(p.x.q);
    mem_free(p.x.scale);
    mem_free(p.x.scaled_sum);
    mem_free(p.x.sum16);
    mem_free(p.y);
}

/* ---- attention ---- */
struct attend {
    const struct kernels *k;
    struct attention_queries q;
    struct attention_kv kv;
    struct attention_tile tile;
    float *state, *scratch;
};

static void run_attention(void *arg)
{
    struct attend *a = arg;
    a->k->attention_partial(a->state, &a->q, &a->kv, a->tile, 1, a->scratch);
}

/* One partition of 512 keys in a context that ends well behind it: every key is
 * seen. */
static void bench_attention(const struct kernels *k, enum kv_type type, uint32_t group,
                            uint32_t head_dim, uint32_t n_tokens)
{
    const size_t chunk = (size_t)head_dim * 64 * (type == KV_F16 ? 2 : 4);
    const void *ks[8], *vs[8];
    for (int i = 0; i < 8; i++) {
        ks[i] = bytes_new(chunk);
        vs[i] = bytes_new(chunk);
        memset((void *)(uintptr_t)ks[i], 0x12, chunk);
        memset((void *)(uintptr_t)vs[i], 0x12, chunk);
    }
    const size_t row = (size_t)group * head_dim;
    float *q = bytes_new(row * n_tokens * sizeof(float));
    for (size_t i = 0; i < row * n_tokens; i++)
        q[i] = (float)prng_uniform(3, 0, i, 0);
    struct attend a = {
        k,
        {q, row, group, 2000, 0},
        {type, 1, head_dim, ks, vs, 8},
        {0, 0, n_tokens},
        bytes_new(attention_state_floats(n_tokens, group, head_dim) * sizeof(float)),
        bytes_new(attention_scratch_floats(n_tokens, group, head_dim) * sizeof(float))};
    const double s = time_of(run_attention, &a);
    printf("attention %s  %u heads a group, dim %3u, %2u tokens: %6.1f GFLOP/s, "
           "KV %5.1f GB/s\n",
           type == KV_F16 ? "f16" : "f32", group, head_dim, n_tokens,
           4e-9 * (double)row * n_tokens * 512 / s, 16e-9 * (double)chunk / s);
    for (int i = 0; i < 8; i++) {
        mem_free((void *)(uintptr_t)ks[i]);
        mem_free((void *)(uintptr_t)vs[i]);
    }
    mem_free(q);
    mem_free(a.state);
    mem_free(a.scratch);
}

/* ---- row operations ---- */
struct rows {
    const struct kernels *k;
    float *x, *y, *w;
    struct act_rows act;
};
#define WIDTH 2048u
static void run_norm(void *arg)
{
    struct rows *r = arg;
    r->k->rms_norm(r->y, r->x, r->w, WIDTH, 1e-6f);
}
static void run_silu(void *arg)
{
    struct rows *r = arg;
    r->k->silu_mul(r->y, r->x, r->w, WIDTH);
}
static void run_quantize(void *arg)
{
    struct rows *r = arg;
    r->k->quantize_row(&r->act, 0);
}
static void run_sum_exp(void *arg)
{
    struct rows *r = arg;
    float max, sum;
    r->k->max_sum_exp(r->x, WIDTH, &max, &sum);
}

static void bench_rows(const struct kernels *k)
{
    struct rows r = {k, bytes_new(WIDTH * 4), bytes_new(WIDTH * 4), bytes_new(WIDTH * 4), {0}};
    for (uint32_t i = 0; i < WIDTH; i++)
        r.x[i] = r.w[i] = (float)prng_uniform(4, 0, i, 0) - 0.5f;
    r.act = (struct act_rows){
        1, WIDTH, r.x, bytes_new(WIDTH), bytes_new(WIDTH), bytes_new(WIDTH), bytes_new(WIDTH)};
    printf("ns a value: rms_norm %.3f, silu_mul %.3f, quantize %.3f, max_sum_exp "
           "%.3f\n",
           1e9 * time_of(run_norm, &r) / WIDTH, 1e9 * time_of(run_silu, &r) / WIDTH,
           1e9 * time_of(run_quantize, &r) / WIDTH, 1e9 * time_of(run_sum_exp, &r) / WIDTH);
    mem_free(r.x);
    mem_free(r.y);
    mem_free(r.w);
    mem_free(r.act.q);
    mem_free(r.act.scale);
    mem_free(r.act.scaled_sum);
    mem_free(r.act.sum16);
}

static const enum tensor_type types[] = {
    TYPE_Q4_1, TYPE_Q5_0, TYPE_Q8_0,   TYPE_Q4_K,   TYPE_Q6_K,  TYPE_Q4_0, TYPE_Q5_1, TYPE_Q5_K,
    TYPE_Q2_K, TYPE_Q3_K, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_MXFP4, TYPE_F16,  TYPE_BF16, TYPE_F32,
};

int main(int argc, char **argv)
{
    const struct kernels *k;
    struct err e = {0};
    enum isa isa = ISA_AUTO;
    for (int i = 0; i < ISA_COUNT; i++)
        if (argc > 1 && strcmp(argv[1], isa_name((enum isa)i)) == 0)
            isa = (enum isa)i;
    if (kernels_select(isa, &k, &e) != OK) {
        fprintf(stderr, "kernels_bench: %s\n", e.msg);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("kernels: %s, one thread\n", k->name);
    print_peaks();
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if (argc > 2 && strcmp(argv[2], tensor_type_name((uint32_t)types[i])) != 0)
            continue;
        bench_type(k, types[i], 2048, 640);  /* Gemma 3 270M: ffn up */
        bench_type(k, types[i], 576, 1536);  /* SmolLM2 135M: ffn down */
        bench_type(k, types[i], 8192, 2048); /* wider than level 2 */
    }
    for (size_t i = 0; i < 5; i++)
        if (argc <= 2 || strcmp(argv[2], tensor_type_name((uint32_t)types[i])) == 0)
            bench_stream(k, types[i], types[i] < TYPE_Q2_K ? 640 : 768);
    for (int type = KV_F16; type <= KV_F32; type++) {
        bench_attention(k, (enum kv_type)type, 3, 64, 16);
        bench_attention(k, (enum kv_type)type, 3, 64, 1);
        bench_attention(k, (enum kv_type)type, 4, 256, 16);
        bench_attention(k, (enum kv_type)type, 4, 256, 1);
        bench_attention(k, (enum kv_type)type, 8, 128, 1);
    }
    bench_rows(k);
    return 0;
}
