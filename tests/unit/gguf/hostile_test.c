/* SPDX-License-Identifier: MIT
 * hostile_test.c — goal: damage never crashes the reader.  Whatever still opens can be read to the
 * end; whatever does not gives a status with a message.
 * Method: of a small file, every prefix; every byte replaced by every value; pairs of random words
 * replaced by awkward numbers (seed printed).  Of a tiny model, prefixes and random damage in the
 * header.  Each input is a copy of just its size, so that ASan sees one byte too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/prng.h"
#include "gguf/gguf.h"
#include "gguf_make.h"
#include "gguf_read_all.h"
#include "os/fs.h"

static volatile uint64_t total;

static enum status open_and_read(const void *bytes, size_t len)
{
    struct gguf *g = NULL;
    struct err e = {0};
    char *copy = mem_new(len + 1, 1);
    char *exact = copy + 1; /* also: nothing may rely on alignment */
    if (len)
        memcpy(exact, bytes, len);
    enum status st = gguf_open_memory(exact, len, "hostile", &g, &e);
    if (st == OK)
        total += gguf_read_all(g);
    else
        assert_true(!g && e.code == st && strncmp(e.msg, "hostile: ", 9) == 0);
    gguf_close(g);
    mem_free(copy);
    return st;
}

static void every_prefix(void **state)
{
    (void)state;
    struct gguf_make m;
    gguf_make_sample(&m);
    struct slice file = gguf_make_end(&m);
    for (size_t len = 0; len < file.len; len++)
        assert_int_equal(open_and_read(file.ptr, len), E_SYNTAX);
    assert_int_equal(open_and_read(file.ptr, file.len), OK);
    gguf_make_release(&m);
}

static void every_value_of_every_byte(void **state)
{
    (void)state;
    struct gguf_make m;
    gguf_make_sample(&m);
    struct slice file = gguf_make_end(&m);
    char *bytes = mem_text(file.ptr, file.len);
    uint32_t n_opened = 0, n_refused = 0;
    for (size_t i = 0; i < file.len - m.data.len; i++) {
        for (int v = 0; v < 256; v++) {
            bytes[i] = (char)v;
            if (open_and_read(bytes, file.len) == OK)
                n_opened++;
            else
                n_refused++;
        }
        bytes[i] = file.ptr[i];
    }
    /* Values and names may change freely; lengths, kinds and counts may not. */
    assert_true(n_opened > 1000 && n_refused > 1000);
    mem_free(bytes);
    gguf_make_release(&m);
}

static void damage(char *bytes, size_t header_len, struct prng *p)
{
    static const uint64_t awkward[] = {0,
                                       1,
                                       0xff,
                                       0xffff,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       0x100000000,
                                       INT64_MAX,
                                       (uint64_t)INT64_MAX + 1,
                                       UINT64_MAX,
                                       UINT64_MAX - 31,
                                       UINT64_MAX / 2 + 32};
    size_t count = sizeof awkward / sizeof awkward[0];
    for (uint64_t n = 1 + prng_below(p, 3); n > 0; n--) {
        size_t at = prng_below(p, header_len - 8);
        if (prng_below(p, 2))
            put_le64(bytes + at, awkward[prng_below(p, count)]);
        else
            put_le32(bytes + at, (uint32_t)prng_next(p));
    }
}

static void random_words(void **state)
{
    (void)state;
    struct prng p = {.seed = 7};
    print_message("seed %llu\n", (unsigned long long)p.seed);
    struct gguf_make m;
    gguf_make_sample(&m);
    struct slice file = gguf_make_end(&m);
    char *bytes = mem_new(file.len, 1);
    for (int i = 0; i < 20000; i++) {
        memcpy(bytes, file.ptr, file.len);
        damage(bytes, file.len - m.data.len, &p);
        (void)open_and_read(bytes, file.len);
    }
    mem_free(bytes);
    gguf_make_release(&m);
}

static void a_tiny_model(void **state)
{
    (void)state;
    struct prng p = {.seed = 11};
    struct err e = {0};
    char *file;
    size_t len;
    assert_int_equal(fs_read_file(os_fs_real(), "tests/golden/tiny/tiny-llama-Q4_0.gguf", 1 << 20,
                                  &file, &len, &e),
                     OK);
    assert_int_equal(open_and_read(file, len), OK);
    char *bytes = mem_new(len, 1);
    for (int i = 0; i < 300; i++) {
        assert_int_not_equal(open_and_read(file, prng_below(&p, len)), OK);
        memcpy(bytes, file, len);
        damage(bytes, 24000, &p);
        (void)open_and_read(bytes, len);
    }
    mem_free(bytes);
    mem_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_prefix),
        cmocka_unit_test(every_value_of_every_byte),
        cmocka_unit_test(random_words),
        cmocka_unit_test(a_tiny_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
