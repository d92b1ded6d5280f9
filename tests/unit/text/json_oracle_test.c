/* SPDX-License-Identifier: MIT
 * json_oracle_test.c — goal: json_parse takes what json-c takes and means the same by it, except
 * for what json.h says is refused.  Method: texts made from a seed (values of all kinds, escapes,
 * white space), whole and with a byte changed, removed or doubled; both trees written by
 * json_write. */
#include <json-c/json.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/prng.h"
#include "text/json.h"

#define N_TEXTS   3000u
#define N_CHANGES 12u
#define DEPTH_MAX 6u

static uint64_t draws;

static uint32_t draw(uint32_t below)
{
    return (uint32_t)(prng_uniform(7, 0, draws++, 0) * below);
}

static void add_space(struct buf *b)
{
    static const char *const spaces[] = {"", "", "", " ", "\n", "\t \r"};
    buf_add_text(b, spaces[draw(6)]);
}

static void add_string(struct buf *b)
{
    static const char *const pieces[] = {"a",       "long enough for eight at a time",
                                         "\\n",     "\\\\",
                                         "\\\"",    "\\/",
                                         "\\u00e9", "\\ud83d\\ude00",
                                         "\\ud83d", "\xC3\xA9",
                                         "\\t\\b",  "\xF0\x9F\x98\x80",
                                         "[{,:}]",  "\x7f"};
    buf_add_char(b, '"');
    for (uint32_t n = draw(6); n > 0; n--)
        buf_add_text(b, pieces[draw(sizeof pieces / sizeof *pieces)]);
    buf_add_char(b, '"');
}

static void add_value(struct buf *b, uint32_t depth)
{
    static const char *const scalars[] = {"true",
                                          "false",
                                          "null",
                                          "0",
                                          "-0",
                                          "17",
                                          "-3.25",
                                          "1e-3",
                                          "1E5",
                                          "2.5e+7",
                                          "9223372036854775807",
                                          "1e400",
                                          "123456789012345678901"};
    uint32_t kind = draw(depth < DEPTH_MAX ? 6 : 3), n = draw(5);
    add_space(b);
    if (kind < 2) {
        buf_add_text(b, scalars[draw(sizeof scalars / sizeof *scalars)]);
    } else if (kind == 2) {
        add_string(b);
    } else {
        bool is_object = kind == 3;
        buf_add_char(b, is_object ? '{' : '[');
        n = draw(40) == 0 ? 30 : n; /* keys that are sorted */
        for (uint32_t i = 0; i < n; i++) {
            buf_add_text(b, i ? "," : "");
            add_space(b);
            if (is_object)
                buf_printf(b, "\"k%u\"", draw(20) == 0 ? 0 : i);
            if (is_object)
                add_space(b);
            buf_add_text(b, is_object ? ":" : "");
            add_value(b, depth + 1);
        }
        add_space(b);
        buf_add_char(b, is_object ? '}' : ']');
    }
    add_space(b);
}

/* json-c's tree against ours; numbers by value (it keeps the text of reals only). */
static bool is_same(struct json_object *c, const struct json *v)
{
    switch (json_object_get_type(c)) {
    case json_type_null:
        return v->kind == JSON_NULL;
    case json_type_boolean:
        return v->kind == JSON_BOOL && v->boolean == (json_object_get_boolean(c) != 0);
    case json_type_int: /* clamped beyond int64 */
        return v->kind == JSON_REAL ||
               (v->kind == JSON_INT && v->integer == json_object_get_int64(c));
    case json_type_double:
        return v->kind == JSON_REAL && v->real == json_object_get_double(c);
    case json_type_string:
        return v->kind == JSON_STRING &&
               slice_equal(v->text, (struct slice){json_object_get_string(c),
                                                   (size_t)json_object_get_string_len(c)});
    case json_type_array:
        if (v->kind != JSON_ARRAY || v->count != json_object_array_length(c))
            return false;
        for (size_t i = 0; i < v->count; i++)
            if (!is_same(json_object_array_get_idx(c, i), &v->items[i]))
                return false;
        return true;
    case json_type_object:
        if (v->kind != JSON_OBJECT || v->count != (size_t)json_object_object_length(c))
            return false;
        for (size_t i = 0; i < v->count; i++) {
            struct json_object *item;
            if (!json_object_object_get_ex(c, v->members[i].key.ptr, &item) ||
                !is_same(item, &v->members[i].value))
                return false;
        }
        return true;
    }
    return false;
}

static uint32_t n_taken, n_refused;

static void compare(struct slice text)
{
    struct arena a;
    struct json *v = NULL;
    struct err e = {0};
    arena_init(&a, 16u << 20);
    struct json_tokener *k = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
    json_tokener_set_flags(k, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *c = json_tokener_parse_ex(k, text.ptr, (int)text.len);
    if (json_tokener_get_error(k) == json_tokener_continue)
        c = json_tokener_parse_ex(k, "", 1);
    bool c_takes = json_tokener_get_error(k) == json_tokener_success;
    bool we_take = json_parse(text, &a, &v, &e) == OK;
    if (we_take && !c_takes)
        fail_msg("json-c refuses %.*s", (int)text.len, text.ptr);
    if (we_take && !is_same(c, v))
        fail_msg("another value: %.*s", (int)text.len, text.ptr);
    n_taken += we_take;
    n_refused += !we_take;
    json_object_put(c);
    json_tokener_free(k);
    arena_release(&a);
}

static void takes_and_means_what_json_c_does(void **state)
{
    (void)state;
    struct buf text, changed;
    buf_init(&text, 1u << 20);
    buf_init(&changed, 1u << 20);
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        buf_clear(&text);
        add_value(&text, 0);
        compare(buf_slice(&text));
        for (uint32_t n = 0; n < N_CHANGES; n++) {
            static const char bytes[] = "[]{}:,\"\\ 0-.eEntf\x01\xff";
            size_t at = draw((uint32_t)text.len), skip = draw(3);
            buf_clear(&changed);
            buf_add(&changed, text.ptr, at);
            if (draw(3))
                buf_add_char(&changed, bytes[draw(sizeof bytes - 1)]);
            if (at + skip < text.len)
                buf_add(&changed, text.ptr + at + skip, text.len - at - skip);
            if (changed.len)
                compare(buf_slice(&changed));
        }
    }
    print_message("%u texts taken, %u refused\n", n_taken, n_refused);
    assert_true(n_taken > N_TEXTS && n_refused > N_TEXTS);
    buf_release(&text);
    buf_release(&changed);
}

/* Whole texts are never refused but for a key that comes twice. */
static void takes_all_that_is_json(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 1u << 20);
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        struct arena a;
        struct json *v = NULL;
        struct err e = {0};
        arena_init(&a, 16u << 20);
        buf_clear(&text);
        add_value(&text, 0);
        if (json_parse(buf_slice(&text), &a, &v, &e) != OK && !strstr(e.msg, "twice"))
            fail_msg("%s: %s", e.msg, text.ptr);
        arena_release(&a);
    }
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_and_means_what_json_c_does),
        cmocka_unit_test(takes_all_that_is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
