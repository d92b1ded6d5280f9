/* SPDX-License-Identifier: MIT
 * Goal:   row operations of every instruction set equal ref bit for bit, special values included,
 *         and ref is as accurate as docs/numerics.md says.
 * Method: memcmp over lengths 1..100 and special values; silu, gelu, sums and angles against long
 *         double libm. */
#include "kernel_test.h"

#include <float.h>

static const float specials[] = {0.0f,      -0.0f,     1e-45f,   -1e-45f,  1e-38f,   88.722831f,
                                 88.72284f, -87.3365f, -87.337f, -88.8f,   89.0f,    -104.0f,
                                 1e10f,     -1e10f,    3.4e38f,  -3.4e38f, INFINITY, -INFINITY,
                                 NAN,       0.5f,      -0.5f};
#define N_SPECIALS (sizeof specials / sizeof specials[0])

static float *numbers(struct prng *p, uint32_t n, float factor, bool is_special)
{
    float *x = random_floats(p, n, factor);
    for (uint32_t i = 0; is_special && i < n; i++)
        if (i % 3 == 0)
            x[i] = specials[prng_below(p, N_SPECIALS)];
    return x;
}

static void check_rows(const struct kernels *k, struct prng *p, uint32_t n, float factor,
                       bool is_special)
{
    const struct kernels *ref = reference();
    float *x = numbers(p, n, factor, is_special), *w = numbers(p, n, 1.0f, false);
    float *a = mem_new(n + 1, sizeof(float)), *b = mem_new(n + 1, sizeof(float));
    a[n] = b[n] = 77.0f;
    ref->rms_norm(a, x, w, n, 1e-6f);
    k->rms_norm(b, x, w, n, 1e-6f);
    assert_same_floats(b, a, n + 1, "rms_norm");
    ref->silu_mul(a, x, w, n);
    k->silu_mul(b, x, w, n);
    assert_same_floats(b, a, n + 1, "silu_mul");
    ref->gelu_mul(a, x, w, n);
    k->gelu_mul(b, x, w, n);
    assert_same_floats(b, a, n + 1, "gelu_mul");
    ref->add(a, x, n);
    k->add(b, x, n);
    assert_same_floats(b, a, n + 1, "add");
    ref->scale(a, 0.3f, n);
    k->scale(b, 0.3f, n);
    assert_same_floats(b, a, n + 1, "scale");
    float ms[2][2];
    ref->max_sum_exp(x, n, &ms[0][0], &ms[0][1]);
    k->max_sum_exp(x, n, &ms[1][0], &ms[1][1]);
    assert_same_floats(ms[1], ms[0], 2, "max_sum_exp");
    assert_int_equal(k->argmax(x, n), ref->argmax(x, n));
    mem_free(a);
    mem_free(b);
    mem_free(x);
    mem_free(w);
}

static void rows_equal(void **state)
{
    (void)state;
    struct prng p = {SEED, 0};
    print_message("seed %u\n", SEED);
    const struct kernels *k;
    for (int at = 0; (k = other_kernels(&at)) != NULL;)
        for (uint32_t n = 1; n <= 100; n++) {
            check_rows(k, &p, n, 1.0f, false);
            check_rows(k, &p, n, 40.0f, false);
            check_rows(k, &p, n, 1.0f, true);
        }
}

static void argmax_first(void **state)
{
    (void)state;
    const float x[] = {NAN, -INFINITY, 3, 1, 3, 2, NAN, 3, 3, 3, 2};
    for (enum isa isa = ISA_REF; isa < ISA_COUNT; isa++) {
        const struct kernels *k;
        if (kernels_select(isa, &k, NULL) != OK)
            continue;
        assert_int_equal(k->argmax(x, 11), 2);
        assert_int_equal(k->argmax(x, 2), 1);
        assert_int_equal(k->argmax(x, 1), 0);
        assert_int_equal(k->argmax(x + 3, 8), 1);
    }
}

static void ropes_equal(void **state)
{
    (void)state;
    struct prng p = {SEED, 1};
    static const uint32_t rots[] = {2, 16, 20, 32, 64, 128, 256};
    const struct kernels *k;
    for (int at = 0; (k = other_kernels(&at)) != NULL;)
        for (int i = 0; i < 7; i++)
            for (int style = ROPE_PAIRS; style <= ROPE_HALVES; style++) {
                double freqs[128];
                float cos_sin[256];
                const uint32_t dim = rots[i] + (i % 2 == 0 ? 0 : 8);
                kernels_rope_freqs(freqs, rots[i], 10000.0, NULL, 1.0);
                kernels_rope_angles(cos_sin, freqs, rots[i], 1234);
                float *a = random_floats(&p, 3 * (size_t)dim, 1.0f);
                float *b = mem_new(3 * (size_t)dim, sizeof(float));
                memcpy(b, a, 3 * (size_t)dim * sizeof(float));
                reference()->rope(a, 3, dim, rots[i], cos_sin, (enum rope_style)style);
                k->rope(b, 3, dim, rots[i], cos_sin, (enum rope_style)style);
                assert_same_floats(b, a, 3 * (size_t)dim, "rope");
                mem_free(a);
                mem_free(b);
            }
}

/* Units in the last place of the float nearest to `want`. */
static double ulps(float got, long double want)
{
    const float near = fabsf((float)want);
    const float next = nextafterf(near, INFINITY) - near;
    return (double)(fabsl((long double)got - want) / (long double)next);
}

/* silu(x) = x / (1 + exp(−x)): for negative x it shows the relative error of exp. */
static void functions_accurate(void **state)
{
    (void)state;
    double worst_silu = 0, worst_gelu = 0;
    for (float x = -80.0f; x < 80.0f; x += 0.00371f) {
        const float one = 1.0f;
        float y;
        reference()->silu_mul(&y, &x, &one, 1);
        const double e = ulps(y, (long double)x / (1 + expl(-(long double)x)));
        worst_silu = e > worst_silu ? e : worst_silu;
        if (fabsf(x) > 5.0f)
            continue; /* beyond, the rounding of u is amplified by its size */
        reference()->gelu_mul(&y, &x, &one, 1);
        const long double l = x, u = sqrtl(2 / acosl(-1)) * (l + 0.044715L * l * l * l);
        const double g = ulps(y, l / (1 + expl(-2 * u)));
        worst_gelu = g > worst_gelu ? g : worst_gelu;
    }
    print_message("largest error: silu %.2f ulp, gelu %.2f ulp (|x| <= 5)\n", worst_silu,
                  worst_gelu);
    assert_true(worst_silu < 2.5);
    assert_true(worst_gelu < 40);
}

static void sums_accurate(void **state)
{
    (void)state;
    struct prng p = {SEED, 2};
    const uint32_t n = 50000;
    float *x = random_floats(&p, n, 8.0f), max, sum;
    reference()->max_sum_exp(x, n, &max, &sum);
    long double want = 0;
    for (uint32_t i = 0; i < n; i++)
        want += expl((long double)x[i] - (long double)max);
    assert_true(fabsl((long double)sum / want - 1) < 2e-6L);
    mem_free(x);
}

static void angles_accurate(void **state)
{
    (void)state;
    double worst = 0, freqs[64];
    kernels_rope_freqs(freqs, 128, 1e6, NULL, 1.0);
    for (uint32_t i = 0; i < 64; i++) {
        const long double want = powl(1e6L, -2.0L * i / 128);
        assert_true(fabsl((long double)freqs[i] / want - 1) < 4e-15L);
    }
    struct prng p = {SEED, 3};
    for (int n = 0; n < 200000; n++) {
        const uint32_t position = (uint32_t)prng_below(&p, 1000001);
        const double freq = n % 3 == 0 ? 1.0 : prng_uniform(SEED, 0, (uint64_t)n, 0);
        float cs[2];
        kernels_rope_angles(cs, &freq, 2, position);
        const long double angle = (long double)((double)position * freq);
        /* as rounded to f32: half a ulp of it, plus 1e-12 */
        const long double dc = fabsl((long double)cs[0] - cosl(angle));
        const long double ds = fabsl((long double)cs[1] - sinl(angle));
        const long double hc = ldexpl(1, ilogbl(fabsl(cosl(angle)) + 1e-30L) - 24);
        const long double hs = ldexpl(1, ilogbl(fabsl(sinl(angle)) + 1e-30L) - 24);
        const double over = (double)fmaxl(dc - hc, ds - hs);
        worst = over > worst ? over : worst;
    }
    print_message("angles: beyond the rounding to f32 by %.2g\n", worst);
    assert_true(worst < 1e-12);
    const float factors[2] = {1.0f, 4.0f};
    double scaled[2];
    kernels_rope_freqs(scaled, 4, 10000.0, factors, 0.5);
    assert_true(fabs(scaled[0] - 0.5) < 1e-15 && fabs(scaled[1] - 0.01 / 8) < 1e-17);
}

static void selection(void **state)
{
    (void)state;
    const struct kernels *k = NULL;
    struct err e = {0};
    assert_int_equal(kernels_select(ISA_AUTO, &k, &e), OK);
    assert_non_null(k);
    assert_int_equal(kernels_select(ISA_REF, &k, &e), OK);
    assert_string_equal(k->name, "ref");
    if (kernels_select(ISA_AVX512, &k, &e) != OK)
        assert_int_equal(e.code, E_UNSUPPORTED);
}

int main(void)
{
    print_sets();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_equal),    cmocka_unit_test(argmax_first),
        cmocka_unit_test(ropes_equal),   cmocka_unit_test(functions_accurate),
        cmocka_unit_test(sums_accurate), cmocka_unit_test(angles_accurate),
        cmocka_unit_test(selection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
