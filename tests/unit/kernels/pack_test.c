/* SPDX-License-Identifier: MIT
 * Goal:   side files of repacked weights stay true: whoever changes what packed_fill writes has to
 *         raise PACKED_VERSION.
 * Method: the packed bytes of the golden rows of every type, under one digest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/digest.h"
#include "base/mem.h"
#include "kernels/kernels.h"

#define N_ROWS 8u
#define N_IN   256u

static const enum tensor_type types[] = {
    TYPE_F16,  TYPE_BF16, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q5_0,   TYPE_Q5_1,   TYPE_Q8_0,  TYPE_Q2_K,
    TYPE_Q3_K, TYPE_Q4_K, TYPE_Q5_K, TYPE_Q6_K, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_MXFP4,
};

static void add_packed(struct digester *d, enum tensor_type type, enum activations activations)
{
    static uint8_t raw[N_ROWS * N_IN * 4];
    char path[96];
    snprintf(path, sizeof path, "tests/golden/quant/%s.raw.bin", tensor_type_name((uint32_t)type));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_true(fread(raw, 1, sizeof raw, f) >= N_ROWS * (size_t)tensor_row_bytes(type, N_IN));
    fclose(f);
    uint64_t bytes = packed_bytes(type, activations, N_ROWS, N_IN);
    void *packed = mem_try_aligned(64, bytes);
    assert_non_null(packed);
    packed_fill(packed, raw, type, activations, N_ROWS, N_IN, 0, 1);
    digest_field(d, tensor_type_name((uint32_t)type), packed, bytes);
    mem_free(packed);
}

static void the_version_names_the_bytes(void **state)
{
    (void)state;
    struct digester d = {0};
    char hex[DIGEST_HEX_BYTES];
    digest_begin(&d);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        add_packed(&d, types[i], ACTIVATIONS_Q8);
        add_packed(&d, types[i], ACTIVATIONS_F32);
    }
    struct digest all = digest_end(&d);
    digester_release(&d);
    digest_hex(&all, hex);
    /* Other bytes than these: raise PACKED_VERSION, then put the new digest here. */
    assert_int_equal(PACKED_VERSION, 1);
    assert_string_equal(hex,
                        "24930fffc122c4dee3c607d9cd66118a0d19b07f771ee272176a3c3ac80fa5a5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_version_names_the_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
