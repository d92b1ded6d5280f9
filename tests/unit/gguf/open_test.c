/* SPDX-License-Identifier: MIT
 * open_test.c — goal: right files give all their keys and tensors; wrong ones give the status, the
 * field and the byte position that explains them.
 * Method: files made by tests/lib/gguf_make and the tiny models of tests/golden. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "gguf/gguf.h"
#include "gguf_make.h"
#include "gguf_read_all.h"

static struct gguf *open_sample(struct gguf_make *m)
{
    struct gguf *g = NULL;
    struct err e = {0};
    struct slice file = gguf_make_end(m);
    if (gguf_open_memory(file.ptr, file.len, "made", &g, &e) != OK)
        fail_msg("%s", e.msg);
    return g;
}

/* Opening what was made so far must fail like this; *pos_field: where, UINT64_MAX: don't care. */
static void expect_failure(struct gguf_make *m, enum status code, const char *text)
{
    struct gguf *g = NULL;
    struct err e = {0};
    struct slice file = gguf_make_end(m);
    enum status st = gguf_open_memory(file.ptr, file.len, "made", &g, &e);
    if (st != code || !strstr(e.msg, text))
        fail_msg("%s: %s; expected %s: …%s…", status_name(st), e.msg, status_name(code), text);
    assert_null(g);
    assert_int_equal(e.code, code);
    assert_true(strncmp(e.msg, "made: ", 6) == 0);
    assert_true(e.pos <= file.len);
    char at[40];
    snprintf(at, sizeof at, " at byte %llu", (unsigned long long)e.pos);
    assert_non_null(strstr(e.msg, at));
    gguf_make_release(m);
}

/* ---- right files ---- */

static void integers_of_every_kind(void **state)
{
    (void)state;
    struct gguf_make m;
    gguf_make_sample(&m);
    struct gguf *g = open_sample(&m);
    struct err e = {0};
    uint64_t u;
    bool found;
    assert_int_equal(gguf_get_u64(g, "a.u8", &u, &found, &e), OK);
    assert_true(found && u == 200);
    assert_int_equal(gguf_get_u64(g, "a.u16", &u, &found, &e), OK);
    assert_true(found && u == 60000);
    assert_int_equal(gguf_get_u64(g, "a.u32", &u, &found, &e), OK);
    assert_true(found && u == 4000000000u);
    assert_int_equal(gguf_get_u64(g, "a.u64", &u, &found, &e), OK);
    assert_true(found && u == UINT64_MAX);
    assert_int_equal(gguf_get_u64(g, "a.none", &u, &found, &e), OK);
    assert_false(found);
    static const char *const negative[] = {"a.i8", "a.i16", "a.i32", "a.i64"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(gguf_get_u64(g, negative[i], &u, &found, &e), E_INVALID);
        assert_non_null(strstr(e.msg, negative[i]));
        assert_non_null(strstr(e.msg, "negative"));
    }
    assert_int_equal(gguf_get_u64(g, "a.f32", &u, &found, &e), E_INVALID);
    assert_true(found && strstr(e.msg, "f32") && strstr(e.msg, "integer"));
    gguf_close(g);
    gguf_make_release(&m);
}

static void other_kinds(void **state)
{
    (void)state;
    struct gguf_make m;
    gguf_make_sample(&m);
    struct gguf *g = open_sample(&m);
    struct err e = {0};
    double f;
    bool b, found;
    struct slice s;
    static const struct {
        const char *key;
        double value;
    } numbers[] = {{"a.u8", 200},  {"a.i8", -100}, {"a.i16", -30000},  {"a.i32", -2000000000},
                   {"a.f32", 1.5}, {"a.f64", 2.5}, {"a.i64", -0x1p63}, {"a.u64", 0x1p64}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_int_equal(gguf_get_f64(g, numbers[i].key, &f, &found, &e), OK);
        assert_true(found && f == numbers[i].value);
    }
    assert_int_equal(gguf_get_f64(g, "a.bool", &f, &found, &e), E_INVALID);
    assert_int_equal(gguf_get_bool(g, "a.bool", &b, &found, &e), OK);
    assert_true(found && b);
    assert_int_equal(gguf_get_bool(g, "a.u8", &b, &found, &e), E_INVALID);
    assert_int_equal(gguf_get_string(g, "general.architecture", &s, &found, &e), OK);
    assert_true(found && slice_is(s, "sample"));
    assert_int_equal(gguf_get_string(g, "a.words", &s, &found, &e), E_INVALID);
    assert_string_equal(gguf_name(g), "made");
    assert_int_equal(gguf_part_count(g), 0);
    assert_int_equal(gguf_key_count(g), 15);
    struct gguf_key k = gguf_key_at(g, 1);
    assert_true(slice_is(k.name, "general.architecture") && k.kind == GGUF_STRING && k.bytes == 14);
    gguf_forget(g, gguf_find_tensor(g, "ones")->data, 32); /* not a map: nothing happens */
    assert_true(gguf_read_all(g) > 0);
    gguf_close(g);
    gguf_make_release(&m);
}

static void arrays_and_tensors(void **state)
{
    (void)state;
    struct gguf_make m;
    gguf_make_sample(&m);
    struct gguf *g = open_sample(&m);
    struct err e = {0};
    struct gguf_array a;
    bool found;
    assert_int_equal(gguf_get_array(g, "a.words", &a, &found, &e), OK);
    assert_true(found && a.kind == GGUF_STRING && a.count == 3);
    const uint8_t *at = a.data;
    assert_true(slice_is(gguf_array_string(&at), "one"));
    assert_true(slice_is(gguf_array_string(&at), ""));
    assert_true(slice_is(gguf_array_string(&at), "three"));
    assert_int_equal(gguf_get_array(g, "a.numbers", &a, &found, &e), OK);
    assert_true(found && a.kind == GGUF_I32 && a.count == 3);
    assert_true(gguf_array_u64(&a, 1) == (uint64_t)-2 && gguf_array_f64(&a, 1) == -2.0);
    assert_int_equal(gguf_get_array(g, "a.u8", &a, &found, &e), E_INVALID);

    assert_int_equal(gguf_tensor_count(g), 3);
    const struct gguf_tensor *t = gguf_find_tensor(g, "ones");
    float third;
    memcpy(&third, (const char *)t->data + 8, 4);
    assert_true(t->type == TYPE_F32 && t->n_dims == 1 && t->dims[0] == 8 && t->dims[1] == 1);
    assert_true(t->bytes == 32 && third == 3.0f);
    t = gguf_find_tensor(g, "blocks");
    assert_true(t->type == TYPE_Q4_0 && t->bytes == 36 && t->dims[1] == 2);
    t = gguf_find_tensor(g, "halves");
    assert_true(t->type == TYPE_F16 && t->bytes == 24 && t->n_dims == 3 && t->dims[2] == 2);
    assert_ptr_equal(gguf_tensor_at(g, 2), t);
    assert_null(gguf_find_tensor(g, "half"));
    gguf_close(g);
    gguf_make_release(&m);
}

static void versions_alignments_and_vocabularies(void **state)
{
    (void)state;
    static const uint32_t alignments[] = {0, 1, 2, 8, 64, 4096};
    for (uint32_t version = 2; version <= 3; version++) {
        for (size_t i = 0; i < 6; i++) {
            struct gguf_make m;
            const uint64_t dim = 3;
            gguf_make_begin(&m, version, alignments[i]);
            gguf_make_tensor(&m, "a", TYPE_F16, &dim, 1, "aabbcc", 6);
            gguf_make_tensor(&m, "b", TYPE_F16, &dim, 1, "ddeeff", 6);
            struct gguf *g = open_sample(&m);
            assert_memory_equal(gguf_find_tensor(g, "b")->data, "ddeeff", 6);
            gguf_close(g);
            gguf_make_release(&m);
        }
    }
    /* No tensors: the file may end right after its keys, without padding. */
    struct gguf_make m;
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_u32(&m, "x", 7);
    struct gguf *g = open_sample(&m);
    assert_int_equal(gguf_tensor_count(g), 0);
    gguf_close(g);
    gguf_make_release(&m);
    gguf_make_begin(&m, 3, 0);
    g = open_sample(&m); /* nothing at all but the counts */
    gguf_close(g);
    gguf_make_release(&m);
}

static void tensors_may_lie_in_any_order_with_gaps(void **state)
{
    (void)state;
    struct gguf_make m;
    const uint64_t dim = 8;
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor_at(&m, "last", TYPE_F32, &dim, 1, 256);
    gguf_make_tensor_at(&m, "first", TYPE_F32, &dim, 1, 0);
    gguf_make_tensor_at(&m, "middle", TYPE_F32, &dim, 1, 32);
    char data[288] = {0};
    buf_add(&m.data, data, sizeof data);
    struct gguf *g = open_sample(&m);
    gguf_close(g);
    gguf_make_release(&m);
}

/* The name of the model, the matrices' types and the numbers of tensors that gguf-py wrote. */
static void the_tiny_models_open(void **state)
{
    (void)state;
    static const struct {
        const char *file, *arch, *tensor;
        enum tensor_type type;
    } models[] = {
        {"tiny-gemma3-F32", "gemma3", "blk.0.attn_q.weight", TYPE_F32},
        {"tiny-gemma3-Q8_0", "gemma3", "blk.0.attn_q.weight", TYPE_Q8_0},
        {"tiny-llama-F32", "llama", "blk.0.attn_q.weight", TYPE_F32},
        {"tiny-llama-Q4_0", "llama", "blk.0.attn_q.weight", TYPE_Q4_0},
        {"tiny-llama-KMIX", "llama", "token_embd.weight", TYPE_Q6_K},
        {"tiny-qwen2-Q5_1", "qwen2", "blk.0.attn_q.weight", TYPE_Q5_1},
        {"tiny-qwen3-F16", "qwen3", "blk.0.attn_q.weight", TYPE_F16},
    };
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char path[256];
        struct gguf *g = NULL;
        struct err e = {0};
        struct slice arch;
        struct gguf_array tokens;
        bool found;
        snprintf(path, sizeof path, "tests/golden/tiny/%s.gguf", models[i].file);
        if (gguf_open(path, &g, &e) != OK)
            fail_msg("%s", e.msg);
        assert_int_equal(gguf_get_string(g, "general.architecture", &arch, &found, &e), OK);
        assert_true(found && slice_is(arch, models[i].arch));
        assert_int_equal(gguf_get_array(g, "tokenizer.ggml.tokens", &tokens, &found, &e), OK);
        const struct gguf_tensor *t = gguf_find_tensor(g, models[i].tensor);
        const struct gguf_tensor *embedding = gguf_find_tensor(g, "token_embd.weight");
        assert_non_null(t);
        assert_int_equal(t->type, models[i].type);
        assert_true(found && tokens.count == embedding->dims[1]);
        assert_int_equal(gguf_part_count(g), 1);
        struct gguf_part part = gguf_part_at(g, 0);
        assert_string_equal(part.path, path);
        assert_true(part.size > 0 && part.inode > 0 && part.mtime_ns > 0 && part.ctime_ns > 0);
        uint64_t sum = gguf_read_all(g);
        gguf_forget(g, t->data, t->bytes); /* dropped pages come back with the same bytes */
        assert_true(gguf_read_all(g) == sum);
        gguf_close(g);
    }
}

/* ---- wrong files ---- */

static void the_start_of_the_file(void **state)
{
    (void)state;
    struct gguf_make m;
    struct gguf *g = NULL;
    struct err e = {0};
    assert_int_equal(gguf_open_memory("", 0, "none", &g, &e), E_SYNTAX);
    assert_int_equal(gguf_open_memory("GGML\0\0\0\0", 8, "old", &g, &e), E_SYNTAX);
    assert_non_null(strstr(e.msg, "not a GGUF file"));
    gguf_make_begin(&m, 1, 0);
    expect_failure(&m, E_UNSUPPORTED, "version 1 is not supported (2 and 3 are)");
    gguf_make_begin(&m, 4, 0);
    expect_failure(&m, E_UNSUPPORTED, "version 4");
    gguf_make_begin(&m, 0x03000000, 0);
    expect_failure(&m, E_UNSUPPORTED, "big-endian");
    gguf_make_begin(&m, 3, 0);
    m.n_keys = 3;
    expect_failure(&m, E_SYNTAX, "do not fit");
    gguf_make_begin(&m, 3, 0);
    m.n_keys = UINT64_MAX;
    expect_failure(&m, E_LIMIT, "number of keys 18446744073709551615");
    gguf_make_begin(&m, 3, 0);
    m.n_tensors = GGUF_TENSORS_MAX + 1;
    expect_failure(&m, E_LIMIT, "number of tensors 65537 (at most 65536)");
}

static void keys(void **state)
{
    (void)state;
    struct gguf_make m;
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_u32(&m, "", 1);
    expect_failure(&m, E_SYNTAX, "key 0: name is empty");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_u32(&m, "a", 1);
    gguf_make_key_u32(&m, "b", 1);
    gguf_make_key_u32(&m, "a", 1);
    expect_failure(&m, E_SYNTAX, "key 2 \"a\" is there twice at byte 58");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key(&m, "a", 13, "xxxxxxxx", 8);
    expect_failure(&m, E_SYNTAX, "key 0 \"a\": kind 13 is unknown at byte 33");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key(&m, "flag", GGUF_BOOL, "\2", 1);
    expect_failure(&m, E_SYNTAX, "key 0 \"flag\": bool is 2, not 0 or 1");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key(&m, "a", GGUF_U64, "xxxx", 4);
    expect_failure(&m, E_SYNTAX, "value needs 8 bytes, 4 are left");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key(&m, "text", GGUF_STRING, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    expect_failure(&m, E_SYNTAX, "key 0 \"text\": string of 18446744073709551615 bytes");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_u32(&m, "bad\n\x1b name", 1);
    gguf_make_key_u32(&m, "bad\n\x1b name", 1);
    expect_failure(&m, E_SYNTAX, "\"bad?? name\"");
}

static void strings_and_names_have_ceilings(void **state)
{
    (void)state;
    struct gguf_make m;
    struct buf huge;
    buf_init(&huge, 32u << 20);
    uint64_t len = GGUF_STRING_MAX + 1;
    buf_add(&huge, &len, 8);
    char *room = buf_reserve(&huge, len);
    memset(room, 'x', len);
    gguf_make_begin(&m, 3, 0);
    gguf_make_key(&m, "long", GGUF_STRING, huge.ptr, 8 + len);
    expect_failure(&m, E_LIMIT, "string of 16777217 bytes (at most 16777216)");
    room[8 + GGUF_NAME_MAX + 1] = '\0';
    const uint64_t dim = 1;
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, room + 8, TYPE_F32, &dim, 1, "1234", 4);
    expect_failure(&m, E_LIMIT, "tensor 0: name of 257 bytes (at most 256)");
    room[65536 + 8] = '\0';
    memset(room + 8, 'x', 65536);
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_u32(&m, room + 8, 1);
    expect_failure(&m, E_LIMIT, "key 0: name of 65536 bytes (at most 65535)");
    buf_release(&huge);
}

static void arrays(void **state)
{
    (void)state;
    struct gguf_make m;
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_array(&m, "a", GGUF_ARRAY, 1, "xxxxxxxxxxxxxxxx", 16);
    expect_failure(&m, E_UNSUPPORTED, "an array of arrays is not supported");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_array(&m, "a", GGUF_U32, UINT64_MAX / 4 + 1, "xxxx", 4);
    expect_failure(&m, E_LIMIT, "array length 4611686018427387904");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_array(&m, "a", GGUF_U32, 3, "xxxxxxxx", 8);
    expect_failure(&m, E_SYNTAX, "value needs 12 bytes, 8 are left");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_array(&m, "a", GGUF_BOOL, 3, "\0\1\3", 3);
    expect_failure(&m, E_SYNTAX, "bool is 3");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_array(&m, "a", 99, 3, "\0\1\3", 3);
    expect_failure(&m, E_SYNTAX, "array kind 99 is unknown");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_array(&m, "a", GGUF_STRING, 2, "\1\0\0\0\0\0\0\0x\5\0\0\0\0\0\0\0xx", 19);
    expect_failure(&m, E_SYNTAX, "string of an array of 5 bytes goes beyond the end");
}

static void alignments(void **state)
{
    (void)state;
    struct gguf_make m;
    static const uint32_t bad[] = {3, 48, 0x80000000u};
    for (int i = 0; i < 3; i++) {
        gguf_make_begin(&m, 3, 0);
        gguf_make_key_u32(&m, "general.alignment", bad[i]);
        expect_failure(&m, E_SYNTAX, "is not a power of two");
    }
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_u32(&m, "general.alignment", 0);
    expect_failure(&m, E_SYNTAX, "general.alignment 0 is not");
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_string(&m, "general.alignment", "32");
    expect_failure(&m, E_INVALID, "key \"general.alignment\" is of kind string");
}

static void tensor_shapes_and_types(void **state)
{
    (void)state;
    struct gguf_make m;
    const uint64_t dims[] = {32, 2, 1, 1, 1}, zero[] = {32, 0}, odd[] = {33};
    const uint64_t huge[] = {UINT64_C(1) << 32, UINT64_C(1) << 32}, large[] = {INT64_MAX};
    const uint64_t wide[] = {UINT64_C(1) << 40};
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", TYPE_F32, dims, 5, "", 0);
    expect_failure(&m, E_LIMIT, "tensor 0 \"t\": 5 dimensions");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "tensor", TYPE_F32, dims, 0, "1234", 4);
    expect_failure(&m, E_LIMIT, "0 dimensions");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", TYPE_F32, zero, 2, "", 0);
    expect_failure(&m, E_SYNTAX, "dimension 1 is 0");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", TYPE_F32, huge, 2, "", 0);
    expect_failure(&m, E_LIMIT, "dimension 1: the number of elements overflows");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", TYPE_F32, large, 1, "", 0);
    expect_failure(&m, E_LIMIT, "the size in bytes overflows");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", TYPE_F32, wide, 1, "", 0);
    expect_failure(&m, E_SYNTAX, "goes beyond the 0 of data");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", TYPE_Q4_0, odd, 1, "", 0);
    expect_failure(&m, E_SYNTAX, "rows of 33 elements are no whole blocks of Q4_0 (32)");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", 16, dims, 1, "", 0);
    expect_failure(&m, E_UNSUPPORTED, "tensor 0 \"t\": type IQ2_XXS is not supported");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", 777, dims, 1, "", 0);
    expect_failure(&m, E_UNSUPPORTED, "type 777 is unknown");
}

static void tensor_places(void **state)
{
    (void)state;
    struct gguf_make m;
    const uint64_t dim = 16;
    char data[128] = {0};
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", TYPE_F32, &dim, 1, data, 63);
    expect_failure(&m, E_SYNTAX, "offset 0 + 64 bytes goes beyond the 63 of data");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor_at(&m, "t", TYPE_F32, &dim, 1, UINT64_MAX - 31);
    expect_failure(&m, E_SYNTAX, "goes beyond");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor_at(&m, "t", TYPE_F32, &dim, 1, 16);
    buf_add(&m.data, data, sizeof data);
    expect_failure(&m, E_SYNTAX, "offset 16 is no multiple of 32");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor_at(&m, "t", TYPE_F32, &dim, 1, 32);
    gguf_make_tensor_at(&m, "u", TYPE_F32, &dim, 1, 0);
    buf_add(&m.data, data, sizeof data);
    expect_failure(&m, E_SYNTAX, "tensors \"u\" and \"t\" overlap");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "t", TYPE_F32, &dim, 1, data, 64);
    gguf_make_tensor(&m, "t", TYPE_F32, &dim, 1, data, 64);
    expect_failure(&m, E_SYNTAX, "tensor \"t\" is there twice");
    gguf_make_begin(&m, 3, 0);
    gguf_make_tensor(&m, "", TYPE_F32, &dim, 1, data, 64);
    expect_failure(&m, E_SYNTAX, "tensor 0: name is empty");
}

static void files_that_cannot_be_opened(void **state)
{
    (void)state;
    struct gguf *g = NULL;
    struct err e = {0};
    assert_int_equal(gguf_open("tests/golden/tiny/none.gguf", &g, &e), E_NOT_FOUND);
    assert_non_null(strstr(e.msg, "none.gguf"));
    assert_int_equal(gguf_open("tests", &g, &e), E_INVALID);
    assert_non_null(strstr(e.msg, "not a regular file"));
    assert_int_equal(gguf_open("/dev/null", &g, &e), E_INVALID);
    assert_int_equal(gguf_open("LICENSE", &g, &e), E_SYNTAX);
    assert_non_null(strstr(e.msg, "LICENSE: magic is not \"GGUF\""));
    assert_null(g);
    gguf_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_of_every_kind),
        cmocka_unit_test(other_kinds),
        cmocka_unit_test(arrays_and_tensors),
        cmocka_unit_test(versions_alignments_and_vocabularies),
        cmocka_unit_test(tensors_may_lie_in_any_order_with_gaps),
        cmocka_unit_test(the_tiny_models_open),
        cmocka_unit_test(the_start_of_the_file),
        cmocka_unit_test(keys),
        cmocka_unit_test(strings_and_names_have_ceilings),
        cmocka_unit_test(arrays),
        cmocka_unit_test(alignments),
        cmocka_unit_test(tensor_shapes_and_types),
        cmocka_unit_test(tensor_places),
        cmocka_unit_test(files_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
