/* SPDX-License-Identifier: MIT
 * dequantize_test.c — goal: every accepted type dequantizes bit for bit as gguf-py and ggml's C
 * code do, at any alignment; the type table is whole; halves convert exactly.
 * Method: tests/golden/quant (8 rows of 256 a type: quantized, random and edge rows); all 65536
 * halves; float → half against a search for the nearest. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"
#include "os/fs.h"
#include "tensor/blocks.h"
#include "tensor/tensor.h"

enum { ROWS = 8, ROW_ELEMENTS = 256 };

static const enum tensor_type types[] = {
    TYPE_F16,  TYPE_BF16, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q5_0,   TYPE_Q5_1,   TYPE_Q8_0,  TYPE_Q2_K,
    TYPE_Q3_K, TYPE_Q4_K, TYPE_Q5_K, TYPE_Q6_K, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_MXFP4,
};

static char *read_golden(const char *type, const char *what, size_t *len)
{
    char path[256];
    struct err e = {0};
    char *bytes = NULL;
    snprintf(path, sizeof path, "tests/golden/quant/%s.%s.bin", type, what);
    if (fs_read_file(os_fs_real(), path, 1 << 20, &bytes, len, &e) != OK)
        fail_msg("%s", e.msg);
    return bytes;
}

static void equals_the_golden_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const struct tensor_type_info *info = tensor_type_info(types[i]);
        assert_non_null(info);
        size_t raw_len, expected_len;
        char *raw = read_golden(info->name, "raw", &raw_len);
        char *expected = read_golden(info->name, "f32", &expected_len);
        assert_int_equal(raw_len, ROWS * tensor_row_bytes(info->type, ROW_ELEMENTS));
        assert_int_equal(expected_len, ROWS * ROW_ELEMENTS * sizeof(float));
        float *got = mem_new(ROWS * ROW_ELEMENTS, sizeof *got);
        /* Rows lie one after the other, so all of them are one long row as well. */
        char *odd = mem_new(raw_len + 1, 1);
        memcpy(odd + 1, raw, raw_len);
        tensor_dequantize(info->type, odd + 1, got, ROWS * ROW_ELEMENTS);
        for (uint32_t k = 0; k < ROWS * ROW_ELEMENTS; k++) {
            uint32_t a, b;
            memcpy(&a, &got[k], 4);
            memcpy(&b, expected + 4 * k, 4);
            if (a != b)
                fail_msg("%s row %u element %u: %08x, golden %08x", info->name, k / ROW_ELEMENTS,
                         k % ROW_ELEMENTS, a, b);
        }
        mem_free(odd);
        mem_free(got);
        mem_free(expected);
        mem_free(raw);
    }
}

static void f32_rows_are_copied(void **state)
{
    (void)state;
    float in[3] = {1.5f, -0.0f, 0x1p-140f}, out[3];
    tensor_dequantize(TYPE_F32, in, out, 3);
    assert_memory_equal(in, out, sizeof in);
    tensor_dequantize(TYPE_Q8_0, in, out, 0); /* no elements: nothing is touched */
}

static void the_table_names_every_type(void **state)
{
    (void)state;
    uint32_t accepted = 0;
    for (uint32_t type = 0; type < 42; type++) {
        const struct tensor_type_info *info = tensor_type_info(type);
        assert_non_null(tensor_type_name(type));
        if (!info)
            continue;
        accepted++;
        assert_int_equal(info->type, type);
        assert_string_equal(info->name, tensor_type_name(type));
        assert_true(info->block_elements > 0 && info->block_bytes > 0);
        assert_int_equal(tensor_row_bytes(info->type, 3 * info->block_elements),
                         3 * info->block_bytes);
    }
    assert_int_equal(accepted, 16);
    assert_string_equal(tensor_type_name(16), "IQ2_XXS");
    assert_string_equal(tensor_type_name(29), "IQ1_M");
    assert_string_equal(tensor_type_name(34), "TQ1_0");
    assert_string_equal(tensor_type_name(39), "MXFP4");
    assert_null(tensor_type_info(16));
    assert_null(tensor_type_info(42));
    assert_null(tensor_type_info(UINT32_MAX));
    assert_null(tensor_type_name(42));
    assert_null(tensor_type_name(UINT32_MAX));
}

static void halves_go_there_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        uint32_t exponent = h >> 10 & 31, mantissa = h & 0x3ff;
        if (exponent == 31) {
            assert_true(mantissa ? isnan(f) : isinf(f));
            uint16_t back = f16_from_f32(f);
            if (mantissa)
                assert_int_equal(back, h | 0x200); /* quiet */
            else
                assert_int_equal(back, (h & 0x8000) | 0x7bff); /* saturated */
            continue;
        }
        double value = exponent ? ldexp(1024 + mantissa, (int)exponent - 25) : ldexp(mantissa, -24);
        assert_true((double)f == (h & 0x8000 ? -value : value));
        assert_int_equal(signbit(f) != 0, h >> 15);
        assert_int_equal(f16_from_f32(f), h);
    }
}

/* The float `ulps` above a positive one. */
static float step(float f, int ulps)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits += (uint32_t)ulps;
    memcpy(&f, &bits, 4);
    return f;
}

/* Between two neighbouring halves the nearer one wins, the even one in the middle. */
static void floats_round_to_the_nearest_half(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = f16_to_f32((uint16_t)h), high = f16_to_f32((uint16_t)(h + 1));
        float middle = (low + high) / 2; /* exact: a float has 13 more bits */
        assert_int_equal(f16_from_f32(middle), h & 1 ? h + 1 : h);
        assert_int_equal(f16_from_f32(step(middle, -1)), h);
        assert_int_equal(f16_from_f32(step(middle, 1)), h + 1);
        assert_int_equal(f16_from_f32(-step(middle, 1)), (h + 1) | 0x8000);
    }
    assert_int_equal(f16_from_f32(65519.99f), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7bff);
    assert_int_equal(f16_from_f32(1e30f), 0x7bff);
    assert_int_equal(f16_from_f32(-INFINITY), 0xfbff);
    assert_int_equal(f16_from_f32(0x1p-149f), 0);
    assert_int_equal(f16_from_f32(-0x1p-26f), 0x8000);
}

static void mxfp4_scales_are_powers_of_two(void **state)
{
    (void)state;
    for (int e = 0; e < 256; e++)
        assert_true((double)block_mxfp4_scale((uint8_t)e) == ldexp(1, e - 128));
}

/* Any bytes are a row: nothing traps, whatever the scales are. */
static void random_bytes_are_rows(void **state)
{
    (void)state;
    struct prng p = {.seed = 20240611};
    uint8_t raw[ROW_ELEMENTS * 4];
    float out[ROW_ELEMENTS];
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof raw; i++)
            raw[i] = (uint8_t)prng_next(&p);
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
            out[ROW_ELEMENTS - 1] = 12345.0f;
            tensor_dequantize(types[i], raw, out, ROW_ELEMENTS);
            assert_true(out[ROW_ELEMENTS - 1] != 12345.0f);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_golden_rows),
        cmocka_unit_test(f32_rows_are_copied),
        cmocka_unit_test(the_table_names_every_type),
        cmocka_unit_test(halves_go_there_and_back),
        cmocka_unit_test(floats_round_to_the_nearest_half),
        cmocka_unit_test(mxfp4_scales_are_powers_of_two),
        cmocka_unit_test(random_bytes_are_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
