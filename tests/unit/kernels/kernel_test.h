/* SPDX-License-Identifier: MIT
 * kernel_test.h — what the kernel tests share: seeded numbers, matrices of every type, comparison
 * of bits. */
#ifndef KVASIR_TESTS_KERNEL_TEST_H
#define KVASIR_TESTS_KERNEL_TEST_H

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
#include "base/prng.h"
#include "kernels/kernels_int.h"

#define SEED 20260801u

static const enum tensor_type all_types[] = {
    TYPE_F32,  TYPE_F16,  TYPE_BF16, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q5_0,   TYPE_Q5_1,   TYPE_Q8_0,
    TYPE_Q2_K, TYPE_Q3_K, TYPE_Q4_K, TYPE_Q5_K, TYPE_Q6_K, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_MXFP4,
};
#define N_TYPES (sizeof all_types / sizeof all_types[0])

/* The sources of the sets over vectors in plain C (tests/CMakeLists.txt): on every machine. */
extern const struct kernels plain_kernels_avx2, plain_kernels_avx2_vnni, plain_kernels_avx512,
    plain_kernels_avx512_vnni;
static const struct kernels *const plain_kernels[] = {&plain_kernels_avx2, &plain_kernels_avx2_vnni,
                                                      &plain_kernels_avx512,
                                                      &plain_kernels_avx512_vnni};

/* Every table of kernels but ref that this machine can run, native ones first:
 * for (at = 0; (k = other_kernels(&at));) */
static inline const struct kernels *other_kernels(int *at)
{
    const int n_native = ISA_COUNT - (ISA_REF + 1), n_plain = (int)ARRAY_COUNT(plain_kernels);
    while (*at < n_native) {
        const struct kernels *k;
        if (kernels_select((enum isa)(ISA_REF + 1 + (*at)++), &k, NULL) == OK)
            return k;
    }
    return *at < n_native + n_plain ? plain_kernels[(*at)++ - n_native] : NULL;
}

/* Plain C is slow: tests that would take long skip some of their cases there. */
static inline bool is_plain(const struct kernels *k)
{
    for (size_t i = 0; i < ARRAY_COUNT(plain_kernels); i++)
        if (k == plain_kernels[i])
            return true;
    return false;
}

/* First in every main: the log says what ran natively and what did not. */
static inline void print_sets(void)
{
    for (int isa = ISA_REF; isa < ISA_COUNT; isa++) {
        const struct kernels *k;
        struct err e = {0};
        if (kernels_select((enum isa)isa, &k, &e) == OK)
            printf("ran: %s, native\n", k->name);
        else
            printf("skipped: %s\n", e.msg);
    }
    for (size_t i = 0; i < ARRAY_COUNT(plain_kernels); i++)
        printf("ran: %s\n", plain_kernels[i]->name);
    fflush(stdout);
}
static inline const struct kernels *reference(void)
{
    const struct kernels *k;
    assert_int_equal(kernels_select(ISA_REF, &k, NULL), OK);
    return k;
}

/* Roughly normal, mean 0, variance 1. */
static inline float random_float(struct prng *p)
{
    float sum = 0;
    for (int i = 0; i < 6; i++)
        sum += (float)(prng_below(p, 1u << 20)) * 0x1p-20f - 0.5f;
    return sum * 1.41f;
}
static inline float *random_floats(struct prng *p, size_t n, float factor)
{
    float *x = mem_try_aligned(64, (n + 16) * sizeof(float));
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = factor * random_float(p);
    return x;
}

/* Offsets of a block's half-precision fields. */
static inline int half_fields(enum tensor_type type, uint32_t at[2])
{
    at[0] = 0;
    at[1] = 2;
    switch (type) {
    case TYPE_Q4_1:
    case TYPE_Q5_1:
    case TYPE_Q4_K:
    case TYPE_Q5_K:
        return 2;
    case TYPE_Q2_K:
        at[0] = 80;
        at[1] = 82;
        return 2;
    case TYPE_Q3_K:
        at[0] = 108;
        return 1;
    case TYPE_Q6_K:
        at[0] = 208;
        return 1;
    case TYPE_F32:
    case TYPE_F16:
    case TYPE_BF16:
    case TYPE_MXFP4:
        return 0;
    default:
        return 1;
    }
}

/* A matrix in GGUF layout: random codes (or `fill` ≥ 0 in every byte), finite scales of both signs.
 */
static inline uint8_t *random_matrix(struct prng *p, enum tensor_type type, uint32_t n_out,
                                     uint32_t n_in, int fill)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    const size_t n_blocks = (size_t)n_out * n_in / info->block_elements;
    const size_t bytes = n_blocks * info->block_bytes;
    uint8_t *m = mem_try_new(1, bytes + 64);
    assert_non_null(m);
    for (size_t i = 0; i < bytes; i++)
        m[i] = fill >= 0 ? (uint8_t)fill : (uint8_t)prng_below(p, 256);
    for (size_t b = 0; b < n_blocks; b++) {
        uint8_t *block = m + b * info->block_bytes;
        uint32_t at[2];
        const int n = half_fields(type, at);
        for (int i = 0; i < n; i++) {
            const uint16_t h = f16_from_f32(random_float(p) * 0.02f);
            memcpy(block + at[i], &h, 2);
        }
        const float f = random_float(p);
        const uint16_t half = f16_from_f32(f);
        uint32_t bits;
        memcpy(&bits, &f, 4);
        const uint16_t bf = (uint16_t)(bits >> 16);
        if (type == TYPE_MXFP4)
            block[0] = (uint8_t)(110 + prng_below(p, 24));
        else if (type == TYPE_F32)
            memcpy(block, &f, 4);
        else if (type == TYPE_F16)
            memcpy(block, &half, 2);
        else if (type == TYPE_BF16)
            memcpy(block, &bf, 2);
    }
    return m;
}

/* Equal bits, or NaN both: which NaN is not part of the numerics. */
static inline void assert_same_floats(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], 4) != 0 && !(a[i] != a[i] && b[i] != b[i]))
            fail_msg("%s: [%zu] %a, reference %a", what, i, (double)a[i], (double)b[i]);
}

/* Rows of activations with the 8-bit part where n_in allows. */
static inline struct act_rows act_rows_new(const float *x, uint32_t n_rows, uint32_t n_in)
{
    const size_t n = (size_t)n_rows * n_in;
    struct act_rows a = {.n_rows = n_rows, .n_in = n_in, .f32 = x};
    a.q = mem_try_aligned(64, n + 64);
    a.scale = mem_try_aligned(64, (n / 32 + 16) * sizeof(float));
    a.scaled_sum = mem_try_aligned(64, (n / 32 + 16) * sizeof(float));
    a.sum16 = mem_try_aligned(64, (n / 16 + 16) * sizeof(int16_t));
    assert_true(a.q != NULL && a.scale != NULL && a.scaled_sum != NULL && a.sum16 != NULL);
    return a;
}
static inline void act_rows_release(struct act_rows *a)
{
    mem_free(a->q);
    mem_free(a->scale);
    mem_free(a->scaled_sum);
    mem_free(a->sum16);
}

#endif
