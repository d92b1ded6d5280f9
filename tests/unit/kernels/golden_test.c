/* SPDX-License-Identifier: MIT
 * Goal:   products with every weight type stay within the golden bars of the float64 dot.
 * Method: tests/golden/quant has 8 rows of 256 weights per type, raw, with activations, Σ w x and
 *         Σ |w x| in float64; packed and multiplied with f32 activations the error must be below
 *         1e-5 × Σ |w x|, with 8-bit activations below 1e-2 × Σ |w x|.  Every instruction set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"

#define N_ROWS 8u
#define N_IN   256u

static const enum tensor_type types[] = {
    TYPE_F16,  TYPE_BF16, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q5_0,   TYPE_Q5_1,   TYPE_Q8_0,  TYPE_Q2_K,
    TYPE_Q3_K, TYPE_Q4_K, TYPE_Q5_K, TYPE_Q6_K, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_MXFP4,
};

static void *read_whole(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *bytes = mem_new(1, 1 << 20);
    *size = fread(bytes, 1, (1 << 20) - 1, f);
    fclose(f);
    return bytes;
}

/* The numbers of the list `key` in the manifest's entry of `type`. */
static void manifest_numbers(const char *manifest, const char *type, const char *key, double *out)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"type\": \"%s\"", type);
    const char *at = strstr(manifest, wanted);
    assert_non_null(at);
    snprintf(wanted, sizeof wanted, "\"%s\"", key);
    at = strstr(at, wanted);
    assert_non_null(at);
    at = strchr(at, '[') + 1;
    for (uint32_t i = 0; i < N_ROWS; i++) {
        char *end;
        out[i] = strtod(at, &end);
        assert_ptr_not_equal(at, end);
        at = end + strspn(end, ", \n\r\t");
    }
}

/* y[r] = row r of W · row r of x. */
static void diagonal(float *y, const struct kernels *k, enum tensor_type type,
                     enum activations activations, const void *raw, const float *x)
{
    const uint64_t bytes = packed_bytes(type, activations, N_ROWS, N_IN);
    assert_true(bytes > 0);
    void *packed = mem_try_aligned(64, bytes);
    assert_non_null(packed);
    packed_fill(packed, raw, type, activations, N_ROWS, N_IN, 0, 1);
    int8_t q[N_ROWS * N_IN];
    float scale[N_ROWS * N_IN / 32], scaled_sum[N_ROWS * N_IN / 32], out[N_ROWS][N_ROWS];
    int16_t sum16[N_ROWS * N_IN / 16];
    const struct act_rows act = {N_ROWS, N_IN, x, q, scale, scaled_sum, sum16};
    for (uint32_t r = 0; r < N_ROWS; r++)
        k->quantize_row(&act, r);
    const struct packed w = {type, activations, N_ROWS, N_IN, packed};
    k->matmul(&out[0][0], N_ROWS, &act, 0, N_ROWS, &w, 0, 1);
    for (uint32_t r = 0; r < N_ROWS; r++)
        y[r] = out[r][r];
    mem_free(packed);
}

static void check_type(const char *manifest, const float *x, const struct kernels *k,
                       enum tensor_type type)
{
    char path[96];
    const char *name = tensor_type_name((uint32_t)type);
    size_t size;
    snprintf(path, sizeof path, "tests/golden/quant/%s.raw.bin", name);
    void *raw = read_whole(path, &size);
    assert_int_equal(size, N_ROWS * tensor_row_bytes(type, N_IN));
    double dot[N_ROWS], absdot[N_ROWS];
    manifest_numbers(manifest, name, "dot_f64", dot);
    manifest_numbers(manifest, name, "absdot_f64", absdot);
    for (int a = 0; a < 2; a++) {
        const enum activations activations = a == 0 ? ACTIVATIONS_F32 : ACTIVATIONS_Q8;
        const double bar = packed_needs_q8(type, activations) ? 1e-2 : 1e-5;
        float y[N_ROWS];
        diagonal(y, k, type, activations, raw, x);
        for (uint32_t r = 0; r < N_ROWS; r++) {
            /* Scales near the largest bfloat16 give products beyond f32. */
            if (absdot[r] > 1e38)
                continue;
            const double error = fabs((double)y[r] - dot[r]);
            if (!(error <= bar * absdot[r]))
                fail_msg("%s %s row %u: %.9g, golden %.9g, error %.3g of Σ|wx| %.3g", k->name, name,
                         r, (double)y[r], dot[r], error, absdot[r]);
        }
    }
    mem_free(raw);
}

static void golden_dots(void **state)
{
    (void)state;
    size_t size;
    char *manifest = read_whole("tests/golden/quant/manifest.json", &size);
    char *npy = read_whole("tests/golden/quant/activations.f32.npy", &size);
    assert_int_equal(size, 128 + N_ROWS * N_IN * sizeof(float));
    static float x[N_ROWS * N_IN];
    memcpy(x, npy + 128, sizeof x);
    for (enum isa isa = ISA_REF; isa < ISA_COUNT; isa++) {
        const struct kernels *k;
        if (kernels_select(isa, &k, NULL) != OK)
            continue;
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
            check_type(manifest, x, k, types[i]);
    }
    mem_free(manifest);
    mem_free(npy);
}

/* One weight at a time: activations of 127 at k and 0 elsewhere give 127 × the dequantized weight,
 * so that no code, sub-scale or minimum sits in a wrong place. */
static void every_weight(void **state)
{
    (void)state;
    static float x[N_IN * N_IN], y[N_IN * N_ROWS], w[N_ROWS * N_IN];
    static int8_t q[N_IN * N_IN];
    static float scale[N_IN * N_IN / 32], scaled_sum[N_IN * N_IN / 32];
    static int16_t sum16[N_IN * N_IN / 16];
    const struct act_rows act = {N_IN, N_IN, x, q, scale, scaled_sum, sum16};
    const struct kernels *k;
    assert_int_equal(kernels_select(ISA_REF, &k, NULL), OK);
    for (uint32_t i = 0; i < N_IN; i++) {
        x[i * N_IN + i] = 127.0f;
        k->quantize_row(&act, i);
    }
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        char path[96];
        size_t size;
        snprintf(path, sizeof path, "tests/golden/quant/%s.raw.bin",
                 tensor_type_name((uint32_t)types[t]));
        void *raw = read_whole(path, &size);
        void *packed = mem_try_aligned(64, packed_bytes(types[t], ACTIVATIONS_Q8, N_ROWS, N_IN));
        assert_non_null(packed);
        packed_fill(packed, raw, types[t], ACTIVATIONS_Q8, N_ROWS, N_IN, 0, 1);
        const struct packed m = {types[t], ACTIVATIONS_Q8, N_ROWS, N_IN, packed};
        k->matmul(y, N_ROWS, &act, 0, N_IN, &m, 0, 1);
        tensor_dequantize(types[t], raw, w, N_ROWS * N_IN);
        for (uint32_t r = 0; r < N_ROWS; r++) {
            float largest = 0;
            for (uint32_t i = 0; i < N_IN; i++)
                largest = fmaxf(largest, fabsf(w[r * N_IN + i]));
            if (largest > 1e36f)
                continue;
            for (uint32_t i = 0; i < N_IN; i++) {
                const double want = 127.0 * (double)w[r * N_IN + i];
                if (!(fabs((double)y[i * N_ROWS + r] - want) <= 1e-4 * (double)largest))
                    fail_msg("%s row %u k %u: %g, wanted %g", path, r, i, (double)y[i * N_ROWS + r],
                             want);
            }
        }
        mem_free(packed);
        mem_free(raw);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_dots),
                                       cmocka_unit_test(every_weight)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
