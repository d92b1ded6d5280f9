/* SPDX-License-Identifier: MIT
 * json_test.c — goal: what json_parse takes is RFC 8259 and nothing else, and nothing it takes is
 * changed on the way out.  Method: tables of texts with the expected outcome; the expected output
 * of json_write is what Python's json.dumps(json.loads(text), ensure_ascii=False, …) prints. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "text/json.h"

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 256u << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

static struct json *parse(struct slice text)
{
    struct err e = {0};
    struct json *v = NULL;
    enum status st = json_parse(text, &arena, &v, &e);
    if (st != OK)
        fail_msg("%.*s: %s", (int)text.len, text.ptr, e.msg);
    return v;
}

static void expect_written(struct slice text, struct json_style style, const char *expected)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    json_write(&b, parse(text), style);
    assert_false(b.failed);
    assert_string_equal(b.ptr, expected);
    buf_release(&b);
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "  ",
        "nul",
        "NULL",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
        "-NaN",
        "[NaN]",
        "01",
        "-01",
        "-",
        "1.",
        ".5",
        "+1",
        "1e",
        "1e+",
        "1.5e",
        "--1",
        "1-2",
        "0x10",
        "1_000",
        "[",
        "]",
        "[1",
        "[1]]",
        "[1,]",
        "[,1]",
        "[1,,2]",
        "[1 2]",
        "{",
        "}",
        "{}}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "{1:1}",
        "{\"a\":1 \"b\":2}",
        "[1}",
        "{\"a\":1]",
        "'a'",
        "\"a",
        "\"\\",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\tb\"",
        "\"a\nb\"",
        "1 2",
        "\"a\" \"b\"",
        "1x",
        "/*c*/1",
        "1//c",
        "\v1",
        "\f1",
        "\xEF\xBB\xBF"
        "1",
        "\"\xFF\"",
        "\"\xC0\x80\"",
        "\"\xED\xA0\x80\"",
        "\"\xE2\x82\"",
        "\x80",
        "{\"a\\u0000b\":1}",
        "{\"\\u0000\" :1}",
        ":",
        ",",
        "[:]",
        "{\"a\"::1}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        struct json *v = NULL;
        enum status st = json_parse(slice_of(bad[i]), &arena, &v, &e);
        if (st != E_SYNTAX || e.pos > strlen(bad[i]) || !e.msg[0])
            fail_msg("%s: status %s, pos %llu", bad[i], status_name(st), (unsigned long long)e.pos);
    }
}

static void refuses_nul_bytes(void **state)
{
    (void)state;
    static const struct slice bad[] = {
        {"1\0", 2}, {"\0001", 2}, {"[1\0]", 4}, {"\"a\0b\"", 5}, {"[1]\0x", 5},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        struct json *v = NULL;
        assert_int_equal(json_parse(bad[i], &arena, &v, &e), E_SYNTAX);
    }
}

static void says_where(void **state)
{
    (void)state;
    struct err e = {0};
    struct json *v = NULL;
    assert_int_equal(json_parse(SLICE_LIT("[1, 2, x]"), &arena, &v, &e), E_SYNTAX);
    assert_int_equal(e.pos, 7);
    assert_int_equal(json_parse(SLICE_LIT("{\"a\": 1, \"b\" 2}"), &arena, &v, &e), E_SYNTAX);
    assert_int_equal(e.pos, 13);
    assert_int_equal(json_parse(SLICE_LIT("[1, 2"), &arena, &v, &e), E_SYNTAX);
    assert_int_equal(e.pos, 5);
}

static void refuses_a_key_that_comes_twice(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":[1,2]}",
        "[{\"x\":{\"b\":[1.5],\"c\":2,\"b\":3}}, 4]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        struct json *v = NULL;
        assert_int_equal(json_parse(slice_of(bad[i]), &arena, &v, &e), E_SYNTAX);
        assert_non_null(strstr(e.msg, "twice"));
    }
    parse(SLICE_LIT("[{\"a\":1},{\"a\":2},{\"b\":{\"a\":3},\"a\":4}]"));
}

static void keeps_numbers_as_written(void **state)
{
    (void)state;
    struct json *v = parse(SLICE_LIT(
        "[0, -0, 9007199254740993, -9223372036854775808, 9223372036854775807,"
        " 9223372036854775808, 123456789012345678901234567890, 1.0, 1e2, 1E400, \"7\", 0.1]"));
    static const struct {
        enum json_kind kind;
        const char *text;
    } expected[] = {
        {JSON_INT, "0"},
        {JSON_INT, "-0"},
        {JSON_INT, "9007199254740993"},
        {JSON_INT, "-9223372036854775808"},
        {JSON_INT, "9223372036854775807"},
        {JSON_REAL, "9223372036854775808"},
        {JSON_REAL, "123456789012345678901234567890"},
        {JSON_REAL, "1.0"},
        {JSON_REAL, "1e2"},
        {JSON_REAL, "1E400"},
        {JSON_STRING, "7"},
        {JSON_REAL, "0.1"},
    };
    assert_int_equal(v->count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < v->count; i++) {
        assert_int_equal(v->items[i].kind, expected[i].kind);
        assert_string_equal(v->items[i].text.ptr, expected[i].text);
    }
    assert_true(v->items[2].integer == 9007199254740993);
    assert_true(v->items[2].real == 9007199254740992.0);
    assert_true(v->items[3].integer == INT64_MIN);
    assert_true(v->items[5].real == 9223372036854775808.0);
    assert_true(isinf(v->items[9].real));
}

static void numbers_stay_in_step_with_strings(void **state)
{
    (void)state;
    struct json *v = parse(SLICE_LIT("{\"1\": \"2\\\"3\", \"-4\\\\\": 5, \"x\": [\"6\", 7, true, "
                                     "\"\\\\\", -8.25], \"9\": {}, \"z\": 1e1}"));
    assert_int_equal(json_get(v, "-4\\")->integer, 5);
    assert_int_equal(json_get(v, "x")->items[1].integer, 7);
    assert_string_equal(json_get(v, "x")->items[4].text.ptr, "-8.25");
    assert_string_equal(json_get(v, "z")->text.ptr, "1e1");
}

static void keeps_strings(void **state)
{
    (void)state;
    struct json *v =
        parse(SLICE_LIT("[\"a\\u0000b\", \"\\ud83d\\ude00\", \"\\ud83d\", \"\\ud83dA\","
                        " \"\\ude00x\", \"\\ud83d\\ud83d\\ude00\", \"\\/\\b\\f\\n\\r\\t\","
                        " \"\\u00e9\xC3\xA9\"]"));
    static const struct slice expected[] = {
        {"a\0b", 3},
        {"\xF0\x9F\x98\x80", 4},
        {"\xEF\xBF\xBD", 3},
        {"\xEF\xBF\xBD"
         "A",
         4},
        {"\xEF\xBF\xBDx", 4},
        {"\xEF\xBF\xBD\xF0\x9F\x98\x80", 7},
        {"/\b\f\n\r\t", 6},
        {"\xC3\xA9\xC3\xA9", 4},
    };
    for (size_t i = 0; i < v->count; i++)
        assert_true(slice_equal(v->items[i].text, expected[i]));
}

static void holds_its_ceilings(void **state)
{
    (void)state;
    char deep[2 * JSON_DEPTH_MAX + 4];
    memset(deep, '[', JSON_DEPTH_MAX);
    memset(deep + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    parse((struct slice){deep, 2 * JSON_DEPTH_MAX});
    memset(deep, '[', JSON_DEPTH_MAX + 1);
    memset(deep + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    struct err e = {0};
    struct json *v = NULL;
    struct slice text = {deep, 2 * JSON_DEPTH_MAX + 2};
    assert_int_equal(json_parse(text, &arena, &v, &e), E_LIMIT);
    assert_int_equal(e.pos, JSON_DEPTH_MAX + 1);

    size_t len = 3 * (size_t)JSON_CONTAINERS_MAX + 2;
    char *wide = mem_new(len, 1);
    for (size_t i = 0; i < JSON_CONTAINERS_MAX; i++)
        memcpy(wide + 1 + 3 * i, "[],", 3);
    wide[0] = '[';
    wide[len - 2] = ']';
    assert_int_equal(json_parse((struct slice){wide, len - 1}, &arena, &v, &e), E_LIMIT);
    mem_free(wide);

    text = (struct slice){"", (size_t)JSON_BYTES_MAX + 1}; /* refused before it is read */
    assert_int_equal(json_parse(text, &arena, &v, &e), E_LIMIT);

    struct arena small;
    arena_init(&small, 200);
    assert_int_equal(json_parse(SLICE_LIT("[1,2,3,4]"), &small, &v, &e), E_NOMEM);
    arena_release(&small);
}

static void writes_as_python_does(void **state)
{
    (void)state;
    struct json_style plain = {0}, compact = {.is_compact = true}, sorted = {.sort_keys = true};
    struct json_style indented = {.indent = 2}, both = {.indent = 4, .sort_keys = true};
    struct slice nested = SLICE_LIT(
        "{\"b\":[1,{\"z\":null,\"a\":[]},\"x\"],\"a\":{\"k\":true,\"e\":{}},\"\xC3\xA9\":1.50}");
    expect_written(nested, plain,
                   "{\"b\": [1, {\"z\": null, \"a\": []}, \"x\"], \"a\": {\"k\": true, \"e\": {}}, "
                   "\"\xC3\xA9\": 1.5}");
    expect_written(
        nested, compact,
        "{\"b\":[1,{\"z\":null,\"a\":[]},\"x\"],\"a\":{\"k\":true,\"e\":{}},\"\xC3\xA9\":1.5}");
    expect_written(nested, sorted,
                   "{\"a\": {\"e\": {}, \"k\": true}, \"b\": [1, {\"a\": [], \"z\": null}, \"x\"], "
                   "\"\xC3\xA9\": 1.5}");
    expect_written(SLICE_LIT("{\"b\":[1,{}],\"a\":[]}"), indented,
                   "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": []\n}");
    expect_written(SLICE_LIT("{\"b\":[1],\"a\":2}"), both,
                   "{\n    \"a\": 2,\n    \"b\": [\n        1\n    ]\n}");
    expect_written(SLICE_LIT("[-0, 12345678901234567890, 1e2, -0.0, 1e16, 1E400]"), plain,
                   "[0, 12345678901234567890, 100.0, -0.0, 1e+16, 1E400]");
    expect_written(SLICE_LIT("\"\\u0001\\u001f\\u007f\\b\\f\\n\\r\\t\\\"\\\\/<&>\""), plain,
                   "\"\\u0001\\u001f\x7f\\b\\f\\n\\r\\t\\\"\\\\/<&>\"");
}

static void writes_shortest_doubles(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0.1, "0.1"},
        {1.0, "1.0"},
        {-2.5, "-2.5"},
        {100.0, "100.0"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {123456789.123, "123456789.123"},
        {1e-4, "0.0001"},
        {1e-5, "1e-05"},
        {1.5e-7, "1.5e-07"},
        {1.0 / 3, "0.3333333333333333"},
        {2.0 / 3, "0.6666666666666666"},
        {5e-324, "5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {9007199254740993.0, "9007199254740992.0"},
        {5.684341886080802e-14, "5.684341886080802e-14"},
        {1e22, "1e+22"},
        {1e23, "1e+23"},
        {0.30000000000000004, "0.30000000000000004"},
        {-0.0, "-0.0"},
        {1e100, "1e+100"},
        {HUGE_VAL, "null"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf b;
        buf_init(&b, 100);
        json_write_double(&b, rows[i].value);
        assert_string_equal(b.ptr, rows[i].text);
        buf_release(&b);
    }
}

static void repairs_utf8_when_writing(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    json_write_string(&b, SLICE_LIT("a\xFF\xE2\x82z\xEF\xBF\xBD\xF0\x9F\x98\x80"));
    assert_string_equal(b.ptr, "\"a\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD\xF0\x9F\x98\x80\"");
    buf_release(&b);
}

static void writer_puts_the_commas(void **state)
{
    (void)state;
    struct buf b;
    struct json_writer w;
    buf_init(&b, 1000);
    jw_init(&w, &b);
    jw_begin_object(&w);
    jw_key(&w, "a");
    jw_int(&w, -1);
    jw_key_slice(&w, SLICE_LIT("b\""));
    jw_begin_array(&w);
    jw_text(&w, "x");
    jw_text(&w, NULL);
    jw_bool(&w, true);
    jw_double(&w, 0.5);
    jw_double(&w, NAN);
    jw_begin_object(&w);
    jw_end_object(&w);
    jw_raw(&w, SLICE_LIT("{\"r\":1}"));
    jw_end_array(&w);
    jw_key(&w, "v");
    jw_value(&w, parse(SLICE_LIT("[1, {\"k\": \"\"}]")));
    jw_key(&w, "n");
    jw_null(&w);
    jw_end_object(&w);
    assert_string_equal(b.ptr, "{\"a\":-1,\"b\\\"\":[\"x\",null,true,0.5,null,{},{\"r\":1}],"
                               "\"v\":[1,{\"k\":\"\"}],\"n\":null}");
    buf_release(&b);
}

static void values_by_hand(void **state)
{
    (void)state;
    struct json *o = json_new_object(&arena, 2);
    o->members[0].key = SLICE_LIT("s");
    o->members[0].value = *json_new_string(&arena, SLICE_LIT("t"));
    o->members[1].key = SLICE_LIT("l");
    o->members[1].value = *json_new_array(&arena, 2);
    struct buf b;
    buf_init(&b, 100);
    json_write(&b, o, (struct json_style){0});
    assert_string_equal(b.ptr, "{\"s\": \"t\", \"l\": [null, null]}");
    assert_null(json_get(o, "q"));
    assert_null(json_get(NULL, "q"));
    assert_null(json_get(&o->members[0].value, "q"));
    assert_string_equal(json_get(o, "s")->text.ptr, "t");
    buf_release(&b);
}

/* The short way takes what our writer makes, and the same out of it; what it is not sure of, and
 * what is wrong, it leaves alone. */
static void test_flat(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{\"a\":\"\"}", "{\"v\":1,\"name\":\"x-y_z\",\"follows\":true,\"is\":false,\"n\":-17}",
        "{\"n\":999999999999999999,\"m\":0,\"\":\"empty key\"}"};
    static const char *const left[] = {
        "",
        "{",
        "{}",
        "[1]",
        "{\"a\":1",
        "{\"a\":1}x",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":-0}",
        "{\"a\":1.5}",
        "{\"a\":1e3}",
        "{\"a\":null}",
        "{\"a\":{}}",
        "{\"a\":\"\\n\"}",
        "{\"a\":\"\xc3\xa4\"}",
        "{\"a\":1,\"a\":2}",
        "{ \"a\":1}",
        "{\"a\":1000000000000000000}",
        "{\"a\":truefalse}",
        "{\"a\":\"b}",
        "{\"a\":-}",
        "{\"a\":\"\x7f\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6}"}; /* more than there is room for */
    struct json_member members[5];
    struct json flat, *v;
    struct err e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct arena a;
        struct buf first, second;
        arena_init(&a, 1u << 16);
        buf_init(&first, 4096);
        buf_init(&second, 4096);
        assert_true(json_read_flat(slice_of(good[i]), members, 5, &flat));
        assert_int_equal(json_parse(slice_of(good[i]), &a, &v, &e), OK);
        json_write(&first, v, (struct json_style){.is_compact = true});
        json_write(&second, &flat, (struct json_style){.is_compact = true});
        assert_true(slice_equal(buf_slice(&first), buf_slice(&second)));
        assert_true(slice_equal(buf_slice(&first), slice_of(good[i])));
        buf_release(&first);
        buf_release(&second);
        arena_release(&a);
    }
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        if (json_read_flat(slice_of(left[i]), members, 5, &flat))
            fail_msg("%s", left[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flat),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(refuses_nul_bytes),
        cmocka_unit_test(says_where),
        cmocka_unit_test(refuses_a_key_that_comes_twice),
        cmocka_unit_test(keeps_numbers_as_written),
        cmocka_unit_test(numbers_stay_in_step_with_strings),
        cmocka_unit_test(keeps_strings),
        cmocka_unit_test(holds_its_ceilings),
        cmocka_unit_test(writes_as_python_does),
        cmocka_unit_test(writes_shortest_doubles),
        cmocka_unit_test(repairs_utf8_when_writing),
        cmocka_unit_test(writer_puts_the_commas),
        cmocka_unit_test(values_by_hand),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
