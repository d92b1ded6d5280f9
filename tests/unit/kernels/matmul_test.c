/* SPDX-License-Identifier: MIT
 * Goal:   products and 8-bit activations of every instruction set equal ref bit for bit, and a
 * row's result does not depend on what is computed with it. Method: random and extreme matrices of
 * all types × odd shapes, memcmp. */
#include "kernel_test.h"

/* ---- activations ---- */
static void special_rows(float *x, uint32_t n_in)
{
    static const float special[] = {0.0f,    -0.0f,  1e-40f, 0x1p-101f, 0x1p-100f, 1e30f,
                                    3.4e38f, 1e-30f, 127.0f, 0.5f,      -1.5f,     2.5f};
    for (uint32_t i = 0; i < n_in; i++)
        x[i] = special[(i / 32 + i % 5) % 12] * (i % 3 == 0 ? -1.0f : 1.0f);
    x[n_in - 40] = INFINITY;
    x[n_in - 3] = NAN;
}

static void quantized_rows(void **state)
{
    (void)state;
    struct prng p = {SEED, 0};
    const uint32_t n_rows = 20, n_in = 320;
    float *x = random_floats(&p, (size_t)n_rows * n_in, 3.0f);
    special_rows(x, n_in);
    for (uint32_t i = 0; i < 32; i++)
        x[n_in + i] = (float)i * 0.5f - 8.0f; /* ties to round */
    struct act_rows want = act_rows_new(x, n_rows, n_in), got = act_rows_new(x, n_rows, n_in);
    const struct kernels *k;
    for (uint32_t r = 0; r < n_rows; r++)
        reference()->quantize_row(&want, r);
    for (int at = 0; (k = other_kernels(&at)) != NULL;) {
        for (uint32_t r = 0; r < n_rows; r++)
            k->quantize_row(&got, r);
        assert_memory_equal(want.q, got.q, n_rows * n_in);
        assert_memory_equal(want.sum16, got.sum16, n_rows * n_in / 16 * sizeof(int16_t));
        assert_same_floats(got.scale, want.scale, n_rows * n_in / 32, "scale");
        assert_same_floats(got.scaled_sum, want.scaled_sum, n_rows * n_in / 32, "scaled_sum");
    }
    for (uint32_t i = 0; i < n_rows * n_in; i++)
        assert_in_range(want.q[i] + 127, 0, 254);
    assert_true(want.scale[0] == 0.0f || want.scale[0] > 0.0f);
    assert_true(want.scale[n_in / 32 - 1] != want.scale[n_in / 32 - 1]); /* NaN shows */
    act_rows_release(&want);
    act_rows_release(&got);
    mem_free(x);
}

/* ---- products ---- */
struct shape {
    uint32_t n_out, n_in, n_rows;
};

static void *packed_new(enum tensor_type type, enum activations a, const void *raw, struct shape s)
{
    const uint64_t bytes = packed_bytes(type, a, s.n_out, s.n_in);
    assert_true(bytes > 0);
    void *data = mem_try_aligned(64, bytes);
    assert_non_null(data);
    packed_fill(data, raw, type, a, s.n_out, s.n_in, 0, packed_tiles(s.n_out));
    return data;
}

#define GUARD 123.25f
/* y with a stride that is no multiple of a vector, and a guard behind every row. */
static void product(float *y, const struct kernels *k, const struct act_rows *x,
                    const struct packed *w)
{
    const size_t stride = w->n_out + 3;
    for (size_t i = 0; i < stride * x->n_rows; i++)
        y[i] = GUARD;
    k->matmul(y, stride, x, 0, x->n_rows, w, 0, packed_tiles(w->n_out));
    for (uint32_t r = 0; r < x->n_rows; r++)
        for (uint32_t i = w->n_out; i < stride; i++)
            assert_true(y[r * stride + i] == GUARD);
}

static void check_product(enum tensor_type type, enum activations activations, struct shape s,
                          int fill, const float *x)
{
    struct prng p = {SEED + (uint64_t)type, s.n_out};
    uint8_t *raw = random_matrix(&p, type, s.n_out, s.n_in, fill);
    void *data = packed_new(type, activations, raw, s);
    struct act_rows a = act_rows_new(x, s.n_rows, s.n_in);
    if (packed_needs_q8(type, activations))
        for (uint32_t r = 0; r < s.n_rows; r++)
            reference()->quantize_row(&a, r);
    const struct packed w = {type, activations, s.n_out, s.n_in, data};
    const size_t n = (size_t)s.n_rows * (s.n_out + 3);
    float *want = mem_new(n, sizeof(float)), *got = mem_new(n, sizeof(float));
    product(want, reference(), &a, &w);
    const struct kernels *k;
    for (int at = 0; (k = other_kernels(&at)) != NULL;) {
        char what[96];
        snprintf(what, sizeof what, "%s %s out %u in %u rows %u", k->name,
                 tensor_type_name((uint32_t)type), s.n_out, s.n_in, s.n_rows);
        product(got, k, &a, &w);
        assert_same_floats(got, want, n, what);
        /* Row by row and tile by tile: the same bits. */
        for (uint32_t r = 0; r < s.n_rows; r++)
            for (uint32_t t = 0; t < packed_tiles(s.n_out); t++)
                k->matmul(got, s.n_out + 3, &a, r, r + 1, &w, t, t + 1);
        assert_same_floats(got, want, n, what);
    }
    mem_free(want);
    mem_free(got);
    act_rows_release(&a);
    mem_free(data);
    mem_free(raw);
}

static void all_shapes(void **state)
{
    (void)state;
    static const struct shape shapes[] = {{1, 256, 1},   {16, 256, 17}, {31, 512, 3}, {50, 256, 2},
                                          {17, 768, 13}, {7, 2048, 5},  {33, 256, 4}, {48, 512, 7}};
    struct prng p = {SEED, 7};
    print_message("seed %u\n", SEED);
    float *x = random_floats(&p, 2048 * 17, 1.0f);
    for (size_t t = 0; t < N_TYPES; t++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            check_product(all_types[t], ACTIVATIONS_Q8, shapes[i], -1, x);
            if (i % 3 == 0)
                check_product(all_types[t], ACTIVATIONS_F32, shapes[i], -1, x);
        }
    mem_free(x);
}

/* Blocks of 32 alone, and rows of floats that are no multiple of anything. */
static void narrow_shapes(void **state)
{
    (void)state;
    struct prng p = {SEED, 8};
    float *x = random_floats(&p, 200 * 9, 1.0f);
    for (size_t t = 0; t < N_TYPES; t++) {
        const uint32_t block = tensor_type_info((uint32_t)all_types[t])->block_elements;
        if (block == 32)
            for (uint32_t n_in = 32; n_in <= 192; n_in += 32)
                check_product(all_types[t], ACTIVATIONS_Q8, (struct shape){19, n_in, 9}, -1, x);
        if (block == 1)
            for (uint32_t n_in = 1; n_in < 70; n_in += 17)
                check_product(all_types[t], ACTIVATIONS_Q8, (struct shape){19, n_in, 9}, -1, x);
        else
            assert_int_equal(packed_bytes(all_types[t], ACTIVATIONS_Q8, 16, block + 8), 0);
    }
    mem_free(x);
}

/* The largest codes against the largest activations, of either sign: nothing saturates. */
static void extreme_codes(void **state)
{
    (void)state;
    static const int fills[] = {0x00, 0xff, 0x7f, 0x80, 0xf0, 0x0f, 0x81, 0x55, 0xaa};
    float *x = mem_new(512 * 4, sizeof(float));
    for (uint32_t i = 0; i < 512 * 4; i++)
        x[i] = i / 512 == 0                     ? 1.0f
               : i / 512 == 1                   ? -1.0f
               : (i / 512 == 2) == (i % 2 == 0) ? 1.0f
                                                : -1.0f;
    for (size_t t = 3; t < N_TYPES; t++)
        for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++)
            check_product(all_types[t], ACTIVATIONS_Q8, (struct shape){16, 512, 4}, fills[i], x);
    mem_free(x);
}

/* More rows than one cache block holds. */
static void many_rows(void **state)
{
    (void)state;
    struct prng p = {SEED, 9};
    float *x = random_floats(&p, 8192 * 30, 1.0f);
    check_product(TYPE_Q4_0, ACTIVATIONS_Q8, (struct shape){17, 8192, 30}, -1, x);
    check_product(TYPE_F16, ACTIVATIONS_F32, (struct shape){17, 4096, 30}, -1, x);
    mem_free(x);
}

/* A matrix packed tile by tile, in any order, has the bytes of one packed at once. */
static void packed_in_parts(void **state)
{
    (void)state;
    struct prng p = {SEED, 10};
    const struct shape s = {70, 512, 1};
    for (size_t t = 0; t < N_TYPES; t++) {
        uint8_t *raw = random_matrix(&p, all_types[t], s.n_out, s.n_in, -1);
        const uint64_t bytes = packed_bytes(all_types[t], ACTIVATIONS_Q8, s.n_out, s.n_in);
        void *whole = packed_new(all_types[t], ACTIVATIONS_Q8, raw, s);
        void *parts = mem_try_aligned(64, bytes);
        assert_non_null(parts);
        memset(parts, 0xee, bytes);
        for (uint32_t tile = packed_tiles(s.n_out); tile-- > 0;)
            packed_fill(parts, raw, all_types[t], ACTIVATIONS_Q8, s.n_out, s.n_in, tile, tile + 1);
        assert_memory_equal(whole, parts, bytes);
        mem_free(parts);
        mem_free(whole);
        mem_free(raw);
    }
}

int main(void)
{
    print_sets();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantized_rows), cmocka_unit_test(all_shapes),
        cmocka_unit_test(narrow_shapes),  cmocka_unit_test(extreme_codes),
        cmocka_unit_test(many_rows),      cmocka_unit_test(packed_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
