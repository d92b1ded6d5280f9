/* SPDX-License-Identifier: MIT
 * kernels_bench.c — what each kernel does on this machine, beside what the machine can do (peak.h),
 * in one run: weight type × instruction set × shape × 1, 8, 64, 512 rows in GOP/s (a multiply and
 * an add are two) and % of the peak of the same instruction mix; one row out of memory in GB/s and
 * % of bare reading, with one and two threads; attention; row operations.  Products run on one
 * thread, and the best of several runs in CPU time counts, since other jobs may share the cores.
 * Bar (printed at the end, per set and type): 8-bit matrix × matrix, the least of all shapes from
 * 64 rows on, at 75 % or more of its mix: products and what joins them into one int32 (peak.h), not
 * what turns that into the output (printed where the bar is missed).
 * Use: micro_kernels [--isa NAME]… [--type NAME | --type attention | --all]     --all: every weight
 * type, not only what the two models of the README hold; --type: its products alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "bench/peak.h"
#include "kernels/kernels.h"

#define BAR_PERCENT 75.0
#define ROWS_MAX    512u
static const uint32_t row_counts[] = {1, 8, 64, 512};

static void *bytes_new(size_t n)
{
    void *p = mem_try_aligned(64, n);
    CHECK(p != NULL);
    return p;
}

/* ---- which peak a product is held against ---- */
static enum peak_mix mix_of(enum isa isa, enum tensor_type type)
{
    if (!packed_needs_q8(type, ACTIVATIONS_Q8))
        return PEAK_FMA;
    const bool has_sixteens = type == TYPE_Q6_K || type == TYPE_Q3_K || type == TYPE_Q2_K;
    if (isa == ISA_AVX2_VNNI || isa == ISA_AVX512_VNNI)
        return has_sixteens ? PEAK_HALVES : PEAK_DOT;
    switch (type) { /* docs/numerics.md §4: how many products an int16 holds */
    case TYPE_Q8_0:
    case TYPE_IQ4_NL:
    case TYPE_IQ4_XS:
        return PEAK_SIGN;
    case TYPE_Q6_K:
        return PEAK_PAIRS;
    default:
        return PEAK_ADDW;
    }
}

static enum peak_width width_of(enum isa isa)
{
    return isa == ISA_AVX512 || isa == ISA_AVX512_VNNI ? PEAK_512 : PEAK_256;
}

/* What the product's own instructions share the core with: why 100 % is out of reach. */
static void print_reckoning(enum isa isa, enum peak_mix mix, const struct peaks *p)
{
    const enum peak_width width = width_of(isa);
    if (mix == PEAK_DOT && p->gops[PEAK_BLOCK][width] > 0)
        printf(
            "  exactness asks 1 vcvtdq2ps, 1 vmulps, 1 vfmadd (2 with a minimum) a block of 8 "
            "vpdpbusd, partly on the same\n  ports: that loop in registers does %.0f GOP/s, %.0f "
            "%% of its vpdpbusd alone\n",
            p->gops[PEAK_BLOCK][width],
            100 * p->gops[PEAK_BLOCK][width] / p->gops[PEAK_DOT][width]);
    else
        printf("  a block of 32 also asks 8 broadcasts, 1 to 8 vpmaddwd where the mix has none, 1 "
               "vmulps, 1 vcvtdq2ps, 1 vfmadd\n  (2 with a minimum)\n");
}

/* ---- products ---- */
struct product {
    const struct kernels *k;
    struct act_rows x;
    struct packed w;
    float *y;
    uint32_t n_threads;
};

static void run_product(void *arg)
{
    struct product *p = arg;
    p->k->matmul(p->y, p->w.n_out, &p->x, 0, p->x.n_rows, &p->w, 0, packed_tiles(p->w.n_out));
}

/* Thread i's part of the tiles. */
static void run_share(void *arg, unsigned i)
{
    struct product *p = arg;
    const uint32_t n = packed_tiles(p->w.n_out);
    p->k->matmul(p->y, p->w.n_out, &p->x, 0, p->x.n_rows, &p->w, n * i / p->n_threads,
                 n * (i + 1) / p->n_threads);
}

static struct product product_new(const struct kernels *k, enum tensor_type type, uint32_t n_out,
                                  uint32_t n_in, uint32_t n_rows)
{
    const size_t n_blocks = (size_t)n_rows * (n_in / ACT_BLOCK + 1);
    float *f = bytes_new((size_t)n_rows * n_in * sizeof(float));
    for (size_t i = 0; i < (size_t)n_rows * n_in; i++)
        f[i] = (float)prng_uniform(2, 0, i, 0) - 0.5f;
    struct product p = {.k = k,
                        .x = {n_rows, n_in, f, bytes_new(n_blocks * 32), bytes_new(n_blocks * 4),
                              bytes_new(n_blocks * 4), bytes_new(n_blocks * 4)},
                        .w = {type, ACTIVATIONS_Q8, n_out, n_in, NULL},
                        .y = bytes_new((size_t)n_rows * n_out * sizeof(float))};
    for (uint32_t r = 0; r < n_rows && n_in % ACT_BLOCK == 0; r++)
        k->quantize_row(&p.x, r);
    return p;
}

static void product_release(struct product *p)
{
    mem_free((void *)(uintptr_t)p->x.f32);
    mem_free(p->x.q);
    mem_free(p->x.scale);
    mem_free(p->x.scaled_sum);
    mem_free(p->x.sum16);
    mem_free(p->y);
}

/* Random codes; every scale is finite and normal. */
static void *packed_random(enum tensor_type type, uint32_t n_out, uint32_t n_in)
{
    const uint64_t raw_bytes = tensor_row_bytes(type, n_in) * n_out;
    struct prng rng = {1, 0};
    uint8_t *raw = bytes_new(raw_bytes);
    for (uint64_t i = 0; i < raw_bytes; i++)
        raw[i] = (uint8_t)(prng_next(&rng) & 0x3f) | (type == TYPE_MXFP4 ? 0x40 : 0);
    void *data = bytes_new(packed_bytes(type, ACTIVATIONS_Q8, n_out, n_in));
    packed_fill(data, raw, type, ACTIVATIONS_Q8, n_out, n_in, 0, packed_tiles(n_out));
    mem_free(raw);
    return data;
}

/* Returns the smallest share of the peak, in %, over the row counts from 64 on; 1000: no such
 * shape. */
static double bench_type(const struct kernels *k, enum tensor_type type, uint32_t n_out,
                         uint32_t n_in, const struct peaks *peaks)
{
    if (packed_bytes(type, ACTIVATIONS_Q8, n_out, n_in) == 0)
        return 1000;
    const double peak = peaks->gops[mix_of(k->isa, type)][width_of(k->isa)];
    double least = 1000;
    void *data = packed_random(type, n_out, n_in);
    printf("%-11s %-6s %5u x %-4u", k->name, tensor_type_name((uint32_t)type), n_out, n_in);
    for (size_t i = 0; i < ARRAY_COUNT(row_counts); i++) {
        struct product p = product_new(k, type, n_out, n_in, row_counts[i]);
        p.w.data = data;
        const double gops = 2e-9 * n_out * n_in * row_counts[i] / peak_time(run_product, &p);
        printf("  M=%u %6.1f", row_counts[i], gops);
        if (peak > 0)
            printf(" %3.0f%%", 100 * gops / peak);
        if (row_counts[i] >= 64 && peak > 0 && 100 * gops / peak < least)
            least = 100 * gops / peak;
        product_release(&p);
    }
    printf("\n");
    mem_free(data);
    return least;
}

/* Matrix × vector out of memory: as many outputs as make the packed weights STREAM_BYTES. */
#define STREAM_BYTES ((uint64_t)256 << 20)
#define STREAM_RUNS  7

static void bench_stream(const struct kernels *k, enum tensor_type type, uint32_t n_in,
                         const struct peaks *peaks)
{
    const uint64_t tile_bytes = packed_bytes(type, ACTIVATIONS_Q8, TILE_ROWS, n_in);
    const uint32_t n_out = (uint32_t)(STREAM_BYTES / tile_bytes) * TILE_ROWS;
    const uint64_t size = tile_bytes * (n_out / TILE_ROWS);
    uint8_t *data = mem_try_large(size);
    if (data == NULL) {
        printf("%-11s %-6s M=1 from memory: no %llu MiB of memory\n", k->name,
               tensor_type_name((uint32_t)type), (unsigned long long)size >> 20);
        return;
    }
    memset(data, 1, size);
    struct product p = product_new(k, type, n_out, n_in, 1);
    p.w.data = data;
    printf("%-11s %-6s %6u x %-4u M=1 from memory:", k->name, tensor_type_name((uint32_t)type),
           n_out, n_in);
    for (p.n_threads = 1; p.n_threads <= 2; p.n_threads++) {
        const double read = peaks->read_gbs[p.n_threads];
        if (read == 0)
            continue;
        const double gbs =
            1e-9 * (double)size / peak_together(run_share, &p, p.n_threads, STREAM_RUNS);
        printf("  %u thread%s %5.1f GB/s %3.0f%% of reading", p.n_threads,
               p.n_threads == 1 ? "" : "s", gbs, 100 * gbs / read);
    }
    printf("\n");
    product_release(&p);
    mem_free_large(data, size);
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
    const size_t k_bytes = kv_head_bytes(type, false, head_dim);
    const size_t v_bytes = kv_head_bytes(type, true, head_dim);
    const void *ks[8], *vs[8];
    for (int i = 0; i < 8; i++) {
        ks[i] = bytes_new(k_bytes);
        vs[i] = bytes_new(v_bytes);
        memset((void *)(uintptr_t)ks[i], 0x12, k_bytes); /* a small normal number in all types */
        memset((void *)(uintptr_t)vs[i], 0x12, v_bytes);
    }
    const size_t row = (size_t)group * head_dim;
    float *q = bytes_new(row * n_tokens * sizeof(float));
    for (size_t i = 0; i < row * n_tokens; i++)
        q[i] = (float)prng_uniform(3, 0, i, 0);
    struct attend a = {k,
                       {q, row, group, 2000, 0},
                       {type, 1, head_dim, ks, vs, 8},
                       {0, 0, n_tokens},
                       bytes_new(attention_state_floats(n_tokens, group, head_dim) * sizeof(float)),
                       bytes_new(attention_scratch_floats(head_dim) * sizeof(float))};
    const double s = peak_time(run_attention, &a);
    printf("attention %-4s  %u heads a group, dim %3u, %2u tokens: %6.1f GFLOP/s, "
           "KV %5.1f GB/s\n",
           kv_type_name(type), group, head_dim, n_tokens, 4e-9 * (double)row * n_tokens * 512 / s,
           8e-9 * (double)(k_bytes + v_bytes) / s);
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
           1e9 * peak_time(run_norm, &r) / WIDTH, 1e9 * peak_time(run_silu, &r) / WIDTH,
           1e9 * peak_time(run_quantize, &r) / WIDTH, 1e9 * peak_time(run_sum_exp, &r) / WIDTH);
    mem_free(r.x);
    mem_free(r.y);
    mem_free(r.w);
    mem_free(r.act.q);
    mem_free(r.act.scale);
    mem_free(r.act.scaled_sum);
    mem_free(r.act.sum16);
}

static const enum tensor_type types[] = {
    TYPE_Q4_1, TYPE_Q5_0, TYPE_Q8_0, TYPE_Q4_K,   TYPE_Q6_K,   TYPE_F16,   TYPE_Q4_0, TYPE_Q5_1,
    TYPE_Q5_K, TYPE_Q2_K, TYPE_Q3_K, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_MXFP4, TYPE_BF16, TYPE_F32,
};
#define TYPES_OF_THE_MODELS 6 /* SmolLM2 Q4_1, Gemma 3 Q4_K_M, and halves */

static bool is_asked(enum tensor_type type, const char *only)
{
    return only == NULL || strcmp(only, tensor_type_name((uint32_t)type)) == 0;
}

static void print_bar(enum isa isa, enum tensor_type type, double percent, const struct peaks *p)
{
    const enum peak_mix mix = mix_of(isa, type);
    printf("bar %s %s: matrix x matrix at %.0f %% or more of the peak of %s; bar %.0f %%: %s\n",
           isa_name(isa), tensor_type_name((uint32_t)type), percent,
           peak_mix_name(mix, width_of(isa)), BAR_PERCENT,
           percent >= BAR_PERCENT ? "met" : "NOT met");
    if (percent < BAR_PERCENT)
        print_reckoning(isa, mix, p);
}

/* only: products of this type, or "attention", alone; NULL: of n_types types, attention and row
 * operations. */
static void bench_set(const struct kernels *k, const struct peaks *peaks, size_t n_types,
                      const char *only)
{
    static const struct {
        uint32_t n_out, n_in;
    } shapes[] = {
        {2048, 640},  /* Gemma 3 270M: ffn up */
        {640, 2048},  /* ffn down */
        {1536, 576},  /* SmolLM2 135M: ffn up */
        {576, 1536},  /* ffn down */
        {8192, 2048}, /* wider than level 2 */
    };
    double least[ARRAY_COUNT(types)];
    for (size_t i = 0; i < n_types; i++) {
        least[i] = 1000;
        for (size_t j = 0; is_asked(types[i], only) && j < ARRAY_COUNT(shapes); j++) {
            const double share = bench_type(k, types[i], shapes[j].n_out, shapes[j].n_in, peaks);
            least[i] = share < least[i] ? share : least[i];
        }
    }
    for (size_t i = 0; i < n_types; i++)
        if (is_asked(types[i], only))
            bench_stream(k, types[i],
                         tensor_type_info((uint32_t)types[i])->block_elements == 256 ? 2048 : 640,
                         peaks);
    const bool has_attention = only == NULL || strcmp(only, "attention") == 0;
    for (int type = KV_F16; has_attention && type <= KV_Q4; type++) {
        bench_attention(k, (enum kv_type)type, 3, 64, 16); /* SmolLM2: prefill, decode */
        bench_attention(k, (enum kv_type)type, 3, 64, 1);
        bench_attention(k, (enum kv_type)type, 4, 256, 16); /* Gemma 3 */
        bench_attention(k, (enum kv_type)type, 4, 256, 1);
    }
    if (only == NULL)
        bench_rows(k);
    for (size_t i = 0; i < n_types; i++)
        if (least[i] < 1000 && packed_needs_q8(types[i], ACTIVATIONS_Q8))
            print_bar(k->isa, types[i], least[i], peaks);
}

static void print_peaks(const struct peaks *p)
{
    printf("peaks of one core, GOP/s:");
    for (int mix = 0; mix < PEAK_MIXES; mix++)
        for (int width = 0; width < PEAK_WIDTHS; width++)
            if (p->gops[mix][width] > 0)
                printf("%s %s %.0f", mix + width == 0 ? "" : ",",
                       peak_mix_name((enum peak_mix)mix, (enum peak_width)width),
                       p->gops[mix][width]);
    printf("\nreading 1 GiB: one thread %.1f, two %.1f GB/s\n", p->read_gbs[1], p->read_gbs[2]);
}

int main(int argc, char **argv)
{
    bool is_wanted[ISA_COUNT] = {false};
    size_t n_wanted = 0, n_types = TYPES_OF_THE_MODELS;
    const char *only = NULL;
    for (int a = 1; a < argc; a++) {
        int isa = 0;
        if (strcmp(argv[a], "--all") == 0) {
            n_types = ARRAY_COUNT(types);
            continue;
        }
        if (strcmp(argv[a], "--type") == 0 && a + 1 < argc) {
            n_types = ARRAY_COUNT(types);
            only = argv[++a];
            continue;
        }
        while (a + 1 < argc && isa < ISA_COUNT && strcmp(argv[a + 1], isa_name((enum isa)isa)) != 0)
            isa++;
        if (strcmp(argv[a], "--isa") != 0 || a + 1 == argc || isa == ISA_COUNT) {
            fprintf(
                stderr,
                "usage: micro_kernels [--isa NAME]... [--type NAME | --type attention | --all]\n");
            return 2;
        }
        is_wanted[isa] = true;
        n_wanted++;
        a++;
    }
    struct peaks peaks;
    setvbuf(stdout, NULL, _IOLBF, 0);
    peaks_measure(&peaks);
    print_peaks(&peaks);
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        const struct kernels *k;
        struct err e = {0};
        if (n_wanted == 0 ? isa <= ISA_REF : !is_wanted[isa])
            continue;
        if (kernels_select((enum isa)isa, &k, &e) == OK)
            bench_set(k, &peaks, n_types, only);
        else
            printf("skipped: %s\n", e.msg);
    }
    return 0;
}
