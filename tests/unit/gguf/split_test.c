/* SPDX-License-Identifier: MIT
 * split_test.c — goal: a split model gives the tensors and keys of the whole one; parts that are
 * missing, swapped, renamed or of another model are refused, and opening a later part names the
 * first.
 * Method: a small splitter here takes a tiny model apart into a fresh folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gguf/gguf.h"
#include "gguf_make.h"
#include "os/fs.h"
#include "temp_folder.h"

#define WHOLE "tests/golden/tiny/tiny-llama-Q4_0.gguf"

static const char *part_name(uint32_t i, uint32_t count)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/m-%05u-of-%05u.gguf", temp_folder, i + 1, count);
    return path;
}

static void write_part(struct gguf_make *m, const char *path)
{
    struct err e = {0};
    struct slice file = gguf_make_end(m);
    if (fs_write_file(os_fs_real(), path, file.ptr, file.len, &e) != OK)
        fail_msg("%s", e.msg);
    gguf_make_release(m);
}

static struct gguf *open_whole(void)
{
    struct gguf *g = NULL;
    struct err e = {0};
    if (gguf_open(WHOLE, &g, &e) != OK)
        fail_msg("%s", e.msg);
    return g;
}

/* Part i of count: the metadata goes to the first, tensor t to part t × count / n. */
static void make_part(struct gguf_make *m, const struct gguf *whole, uint32_t i, uint32_t count,
                      int32_t n_tensors_said)
{
    char name[GGUF_NAME_MAX + 1];
    uint32_t n = gguf_tensor_count(whole);
    gguf_make_begin(m, 3, i == 1 ? 64 : 0); /* parts may differ in alignment */
    for (uint32_t k = 0; i == 0 && k < gguf_key_count(whole); k++) {
        struct gguf_key key = gguf_key_at(whole, k);
        snprintf(name, sizeof name, SLICE_FMT, SLICE_ARG(key.name));
        gguf_make_key(m, name, key.kind, key.data, key.bytes);
    }
    gguf_make_split_keys(m, (uint16_t)i, (uint16_t)count, n_tensors_said);
    for (uint32_t t = 0; t < n; t++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(whole, t);
        if (t * count / n != i)
            continue;
        snprintf(name, sizeof name, SLICE_FMT, SLICE_ARG(tensor->name));
        gguf_make_tensor(m, name, tensor->type, tensor->dims, tensor->n_dims, tensor->data,
                         tensor->bytes);
    }
}

static void split(const struct gguf *whole, uint32_t count, int32_t n_tensors_said)
{
    for (uint32_t i = 0; i < count; i++) {
        struct gguf_make m;
        make_part(&m, whole, i, count, n_tensors_said);
        write_part(&m, part_name(i, count));
    }
}

static void expect_failure(const char *path, enum status code, const char *text)
{
    struct gguf *g = NULL;
    struct err e = {0};
    enum status st = gguf_open(path, &g, &e);
    if (st != code || !strstr(e.msg, text))
        fail_msg("%s: %s; expected %s: …%s…", status_name(st), e.msg, status_name(code), text);
    assert_null(g);
}

static void parts_equal_the_whole(void **state)
{
    (void)state;
    struct gguf *whole = open_whole(), *g = NULL;
    struct err e = {0};
    uint32_t n = gguf_tensor_count(whole);
    static const uint32_t counts[] = {1, 2, 5, 40}; /* of 40, some hold no tensor */
    for (int c = 0; c < 4; c++) {
        split(whole, counts[c], (int32_t)n);
        if (gguf_open(part_name(0, counts[c]), &g, &e) != OK)
            fail_msg("%s", e.msg);
        assert_int_equal(gguf_part_count(g), counts[c]);
        assert_int_equal(gguf_tensor_count(g), n);
        assert_int_equal(gguf_key_count(g), gguf_key_count(whole) + 3);
        for (uint32_t t = 0; t < n; t++) {
            const struct gguf_tensor *a = gguf_tensor_at(whole, t), *b = gguf_tensor_at(g, t);
            assert_true(slice_equal(a->name, b->name) && a->type == b->type);
            assert_memory_equal(a->dims, b->dims, sizeof a->dims);
            assert_int_equal(a->bytes, b->bytes);
            assert_memory_equal(a->data, b->data, a->bytes);
            gguf_forget(g, b->data, b->bytes);
        }
        for (uint32_t i = 0; i < counts[c]; i++)
            assert_string_equal(gguf_part_at(g, i).path, part_name(i, counts[c]));
        gguf_close(g);
    }
    gguf_close(whole);
}

static void a_later_part_names_the_first(void **state)
{
    (void)state;
    struct gguf *whole = open_whole();
    split(whole, 3, (int32_t)gguf_tensor_count(whole));
    expect_failure(part_name(1, 3), E_INVALID, "part 2 of 3: open m-00001-of-00003.gguf instead");
    gguf_close(whole);
}

static void missing_and_renamed_parts(void **state)
{
    (void)state;
    struct gguf *whole = open_whole();
    char other[512];
    split(whole, 3, (int32_t)gguf_tensor_count(whole));
    assert_int_equal(unlink(part_name(2, 3)), 0);
    expect_failure(part_name(0, 3), E_NOT_FOUND, "m-00003-of-00003.gguf");

    split(whole, 3, (int32_t)gguf_tensor_count(whole));
    snprintf(other, sizeof other, "%s/model.gguf", temp_folder);
    assert_int_equal(rename(part_name(0, 3), other), 0);
    expect_failure(other, E_INVALID, "must be named …-00001-of-00003.gguf");
    /* The name says 4, the file 3. */
    assert_int_equal(rename(other, part_name(0, 4)), 0);
    expect_failure(part_name(0, 4), E_INVALID, "must be named");

    /* Part 3 in the place of part 2. */
    split(whole, 3, (int32_t)gguf_tensor_count(whole));
    snprintf(other, sizeof other, "%s", part_name(2, 3));
    assert_int_equal(rename(other, part_name(1, 3)), 0);
    expect_failure(part_name(0, 3), E_INVALID, "says it is part 3 of 3, not 2 of 3");
    gguf_close(whole);
}

static void wrong_counts(void **state)
{
    (void)state;
    struct gguf *whole = open_whole();
    uint32_t n = gguf_tensor_count(whole);
    split(whole, 2, (int32_t)n + 1);
    expect_failure(part_name(0, 2), E_INVALID,
                   "split.tensors.count is 31, the parts hold 30 tensors");
    split(whole, 2, -1);
    expect_failure(part_name(0, 2), E_INVALID, "split.tensors.count\" is negative");

    /* The same tensors in both parts. */
    struct gguf_make m;
    split(whole, 2, (int32_t)n);
    make_part(&m, whole, 0, 2, (int32_t)n);
    gguf_make_release(&m);
    gguf_make_begin(&m, 3, 0);
    gguf_make_split_keys(&m, 1, 2, (int32_t)n);
    const struct gguf_tensor *t = gguf_tensor_at(whole, 0);
    char name[GGUF_NAME_MAX + 1];
    snprintf(name, sizeof name, SLICE_FMT, SLICE_ARG(t->name));
    gguf_make_tensor(&m, name, t->type, t->dims, t->n_dims, t->data, t->bytes);
    write_part(&m, part_name(1, 2));
    /* The count is wrong as well and is met first; without it the twin is. */
    expect_failure(part_name(0, 2), E_INVALID, "the parts hold");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_u16(&m, "split.no", 0);
    gguf_make_key_u16(&m, "split.count", 2);
    gguf_make_tensor(&m, name, t->type, t->dims, t->n_dims, t->data, t->bytes);
    write_part(&m, part_name(0, 2));
    expect_failure(part_name(0, 2), E_SYNTAX, "is there twice");
    expect_failure(part_name(0, 2), E_SYNTAX, "m-00002-of-00002.gguf: ");
    gguf_close(whole);
}

static void too_many_parts_and_memory(void **state)
{
    (void)state;
    struct gguf_make m;
    struct gguf *g = NULL;
    struct err e = {0};
    gguf_make_begin(&m, 3, 0);
    gguf_make_split_keys(&m, 0, 1025, 1);
    write_part(&m, part_name(0, 1025));
    expect_failure(part_name(0, 1025), E_LIMIT, "split.count 1025 (at most 1024)");
    gguf_make_begin(&m, 3, 0);
    gguf_make_split_keys(&m, 0, 2, 1);
    struct slice file = gguf_make_end(&m);
    assert_int_equal(gguf_open_memory(file.ptr, file.len, "made", &g, &e), E_UNSUPPORTED);
    gguf_make_release(&m);
    gguf_make_begin(&m, 3, 0);
    gguf_make_split_keys(&m, 0, 0, 0); /* a merged model */
    file = gguf_make_end(&m);
    assert_int_equal(gguf_open_memory(file.ptr, file.len, "made", &g, &e), OK);
    gguf_close(g);
    gguf_make_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(parts_equal_the_whole, temp_folder_make,
                                        temp_folder_remove),
        cmocka_unit_test_setup_teardown(a_later_part_names_the_first, temp_folder_make,
                                        temp_folder_remove),
        cmocka_unit_test_setup_teardown(missing_and_renamed_parts, temp_folder_make,
                                        temp_folder_remove),
        cmocka_unit_test_setup_teardown(wrong_counts, temp_folder_make, temp_folder_remove),
        cmocka_unit_test_setup_teardown(too_many_parts_and_memory, temp_folder_make,
                                        temp_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
