/* SPDX-License-Identifier: MIT
 * compile_test.c — goal: what is not there is refused when a template is compiled, by name and
 * place; what goes wrong later names its line.  Method: tables of sources and messages. */
#include "golden.h"

#include <cmocka.h>

struct row {
    const char *source;
    enum status status;
    const char *message; /* whole */
};

static void check(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        enum status st;
        char *text = render_text_of(slice_of(rows[i].source), NULL, &st);
        if (st != rows[i].status || strcmp(last_error.msg, rows[i].message) != 0)
            fail_msg("%s\n  got      %s: %s\n  expected %s: %s", rows[i].source, status_name(st),
                     last_error.msg, status_name(rows[i].status), rows[i].message);
        mem_free(text);
    }
}

static void unsupported_constructs(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"a\n {% include 'x' %}", E_UNSUPPORTED, "line 2, column 5: unsupported tag 'include'"},
        {"{% extends 'x' %}", E_UNSUPPORTED, "line 1, column 4: unsupported tag 'extends'"},
        {"{% block x %}{% endblock %}", E_UNSUPPORTED, "line 1, column 4: unsupported tag 'block'"},
        {"{% import 'x' as y %}", E_UNSUPPORTED, "line 1, column 4: unsupported tag 'import'"},
        {"{% do x.append(1) %}", E_UNSUPPORTED, "line 1, column 4: unsupported tag 'do'"},
        {"{% trans %}{% endtrans %}", E_UNSUPPORTED, "line 1, column 4: unsupported tag 'trans'"},
        {"{{ x | nosuch }}", E_UNSUPPORTED, "line 1, column 8: unknown filter 'nosuch'"},
        {"{{ x | urlize }}", E_UNSUPPORTED, "line 1, column 8: unknown filter 'urlize'"},
        {"{{ x | map('nosuch') }}", E_UNSUPPORTED, "line 1, column 12: unknown filter 'nosuch'"},
        {"{{ x | select('nosuch') }}", E_UNSUPPORTED, "line 1, column 15: unknown test 'nosuch'"},
        {"{{ x | rejectattr('a', 'nosuch') }}", E_UNSUPPORTED,
         "line 1, column 24: unknown test 'nosuch'"},
        {"{{ x is nosuch }}", E_UNSUPPORTED, "line 1, column 9: unknown test 'nosuch'"},
        {"{% if false %}{{ nosuch() }}{% endif %}", E_UNSUPPORTED,
         "line 1, column 18: unknown function 'nosuch'"},
        {"{{ lipsum() }}", E_UNSUPPORTED, "line 1, column 4: unknown function 'lipsum'"},
        {"{{ 'a'.encode() }}", E_UNSUPPORTED, "line 1, column 7: unknown method 'encode'"},
        {"{{ '\\N{DASH}' }}", E_UNSUPPORTED, "line 1, column 4: \\N{…} in a string"},
    };
    check(rows, sizeof rows / sizeof *rows);
}

static void malformed_sources(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"a\nb{{ x", E_SYNTAX, "line 2, column 6: expected '}}', got 'end of template'"},
        {"{% if x %}\n\ny", E_SYNTAX,
         "line 3, column 2: unexpected end of template, expected elif"},
        {"{% endif %}", E_SYNTAX, "line 1, column 4: unexpected tag 'endif'"},
        {"{% for x of y %}", E_SYNTAX, "line 1, column 10: expected in, got 'of'"},
        {"{{ (1] }}", E_SYNTAX, "line 1, column 6: unexpected ']', expected ')'"},
        {"{{ 1 } }}", E_SYNTAX, "line 1, column 6: unexpected '}'"},
        {"{{ 'abc }}", E_SYNTAX, "line 1, column 4: string without end"},
        {"{# abc", E_SYNTAX, "line 1, column 1: comment without end"},
        {"{{ ? }}", E_SYNTAX, "line 1, column 4: unexpected character '?'"},
        {"{{ '\\xZ' }}", E_SYNTAX, "line 1, column 4: malformed \\x escape in a string"},
        {"{% break %}", E_SYNTAX, "line 1, column 4: break outside of a loop"},
        {"{% set 'a' = 1 %}", E_SYNTAX, "line 1, column 8: can't assign to this expression"},
        {"{% macro f(a, a) %}{% endmacro %}", E_SYNTAX, "line 1, column 15: parameter 'a' twice"},
        {"{{ dict(a=1, a=2) }}", E_SYNTAX, "line 1, column 14: keyword argument repeated: a"},
    };
    check(rows, sizeof rows / sizeof *rows);
}

static void errors_while_rendering(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"a\n\n{{ raise_exception('boom') }}", E_INVALID, "line 3: boom"},
        {"{{ nope.x }}", E_INVALID, "line 1: 'nope' is undefined"},
        {"\n{{ {}.a.b }}", E_INVALID, "line 2: 'dict object' has no attribute 'a'"},
        {"{{ 'a' + 1 }}", E_INVALID, "line 1: can only concatenate str (not \"int\") to str"},
        {"{{ 1 / 0 }}", E_INVALID, "line 1: division by zero"},
        {"{{ [].append(1) }}", E_INVALID,
         "line 1: access to attribute 'append' of 'list' object is unsafe."},
        {"{{ ''.__class__.x }}", E_INVALID,
         "line 1: access to attribute '__class__' of 'str' object is unsafe."},
        {"{% macro f(a) %}\n{{ a.b }}{% endmacro %}\n{{ f() }}", E_INVALID,
         "line 2: parameter 'a' was not provided"},
        {"{{ range(10**6) }}", E_INVALID,
         "line 1: Range too big. The sandbox blocks ranges larger than 100000."},
    };
    check(rows, sizeof rows / sizeof *rows);
}

static void long_messages_end_between_characters(void **state)
{
    (void)state;
    enum status st;
    char *text = render_text_of(SLICE_LIT("{{ raise_exception('é日' * 1000) }}"), NULL, &st);
    assert_null(text);
    assert_int_equal(st, E_INVALID);
    size_t len = strlen(last_error.msg);
    assert_true(len > 200);
    assert_true((unsigned char)last_error.msg[len - 1] != 0xE6 &&
                (unsigned char)last_error.msg[len - 1] != 0xC3);
}

static void what_a_template_may_call(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{% if f is defined %}{{ f() }}{% endif %}",
        "{{ later() if later is callable }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}x{% endmacro %}{{ a() }}",
        "{% macro m() %}{% endmacro %}{% set ns = namespace(f=m) %}{{ ns.f() }}",
        "{% set ns = namespace() %}{% macro m() %}{% endmacro %}{% set ns.g = m %}{{ ns.g() }}",
        "{% macro m() %}{% endmacro %}{{ {'k': m}.k() }}",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        enum status st;
        char *text = render_text_of(slice_of(good[i]), NULL, &st);
        if (!text && strstr(good[i], "later") == NULL)
            fail_msg("%s: %s", good[i], last_error.msg);
        if (st == E_UNSUPPORTED)
            fail_msg("%s: %s", good[i], last_error.msg);
        mem_free(text);
    }
}

/* Bytes that are no UTF-8 pass through text, strings and variables as they are. */
static void any_bytes(void **state)
{
    (void)state;
    struct json_member m = {SLICE_LIT("v"), {.kind = JSON_STRING, .text = {"a\xFF\0z", 4}}};
    struct json variables = {.kind = JSON_OBJECT, .count = 1, .members = &m};
    struct template *t = NULL;
    struct buf out;
    buf_init(&out, 1000);
    static const char source[] =
        "\x80\0{{ v }}{{ 'q\xC3' }}{{ v | length }}{{ v[1] }}{{ v | upper }}{{ v | tojson }}";
    assert_int_equal(template_compile((struct slice){source, sizeof source - 1}, &t, &last_error),
                     OK);
    assert_int_equal(template_render(t, &variables, golden_now, &out, &last_error), OK);
    static const char expected[] = "\x80\0a\xFF\0zq\xC3"
                                   "4\xFF"
                                   "A\xFF\0Z\"a\xEF\xBF\xBD\\u0000z\"";
    assert_int_equal(out.len, sizeof expected - 1);
    assert_memory_equal(out.ptr, expected, sizeof expected - 1);
    template_free(t);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsupported_constructs),
        cmocka_unit_test(malformed_sources),
        cmocka_unit_test(errors_while_rendering),
        cmocka_unit_test(long_messages_end_between_characters),
        cmocka_unit_test(what_a_template_may_call),
        cmocka_unit_test(any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
