/* SPDX-License-Identifier: MIT
 * limits_test.c — goal: a hostile template ends in an error, within its ceilings and in little
 * time. Method: templates that ask for endless time, memory, output or depth; each must give
 * E_LIMIT (or E_INVALID where Python refuses too) and leave the output as it was. */
#include "golden.h"

#include <time.h>

#include <cmocka.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Ten times below the real ceilings, so that the tests are quick. */
static const struct template_limits limits = {2000000, 4 << 20, 32 << 20};

static void expect(const char *source, enum status expected)
{
    struct template *t = NULL;
    struct buf out;
    double start = seconds();
    buf_init(&out, 64u << 20);
    buf_add_text(&out, "before");
    enum status st = template_compile(slice_of(source), &t, &last_error);
    if (st == OK)
        st = template_render_within(t, NULL, golden_now, limits, &out, &last_error);
    if (st != expected)
        fail_msg("%.80s: %s (%s), expected %s", source, status_name(st), last_error.msg,
                 status_name(expected));
    assert_string_equal(out.ptr, "before");
    if (seconds() - start > 20)
        fail_msg("%.80s: took %.1f s", source, seconds() - start);
    template_free(t);
    buf_release(&out);
}

static void endless_work(void **state)
{
    (void)state;
    expect("{% for i in range(10**9) %}x{% endfor %}", E_INVALID); /* Range too big, as in jinja2 */
    expect("{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}",
           E_LIMIT);
    expect(
        "{% for i in range(10**5) %}{% for j in range(10**5) if false %}{% endfor %}{% endfor %}",
        E_LIMIT);
    expect("{% set l = range(10**5) | list %}{% for i in l %}{{ -1 in l }}{% endfor %}", E_LIMIT);
    expect("{% set l = range(9**5) | list %}{% for i in l %}{% set q = l | sort %}{% endfor %}",
           E_LIMIT);
    expect("{{ range(10**5) | map('string') | unique | list }}", E_LIMIT);
    expect("{% set s = 'ab' * 10**6 %}{% for i in range(10**5) %}{{ s.count('c') }}{% endfor %}",
           E_LIMIT);
    expect("{% set s = 'ab' * 10**6 %}{% for i in range(10**5) %}{{ 'c' in s }}{% endfor %}",
           E_LIMIT);
    expect("{% set s = 'a' * 10**6 %}{% for i in range(10**5) %}{{ s.rfind('ab') }}{% endfor %}",
           E_LIMIT);
    expect("{% set s = 'a' * 10**6 %}{% for i in range(10**5) %}{{ s | length }}{% endfor %}",
           E_LIMIT);
    expect("{% for i in range(10**5) %}{% set q = 3**9000 // 7**4000 %}{% endfor %}", E_LIMIT);
    expect("{% set q = 3**9000 %}{% for i in range(10**5) %}{% set t = q | string %}{% endfor %}",
           E_LIMIT);
}

static void endless_memory(void **state)
{
    (void)state;
    expect("{{ 'a' * 10**10 }}", E_LIMIT);
    expect("{{ 'a' * 10**30 }}", E_LIMIT);
    expect("{{ [0] * 10**9 }}", E_LIMIT);
    expect("{% set ns = namespace(s='ab') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% "
           "endfor %}",
           E_LIMIT);
    expect("{% set ns = namespace(s='ab') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% "
           "endfor %}",
           E_LIMIT);
    expect("{% set ns = namespace(s='ab') %}{% for i in range(64) %}{% set ns.s = "
           "ns.s.replace('a', ns.s) %}"
           "{% endfor %}",
           E_LIMIT);
    expect("{% set ns = namespace(l=[0]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}{% "
           "endfor %}",
           E_LIMIT);
    expect("{{ 'x'.ljust(10**12) }}", E_LIMIT);
    expect("{{ 'x' | center(10**12) }}", E_LIMIT);
    expect("{{ '%1000000000d' % 5 }}", E_LIMIT);
    expect("{{ '{:>999999999}'.format(1) }}", E_LIMIT);
    expect("{{ '%.1000000f' % 5 }}", E_LIMIT);
    expect("{{ [1] | batch(10**12, 0) | list }}", E_LIMIT);
    expect("{{ [1] | slice(10**12) | list }}", E_LIMIT);
    expect("{{ 'a\\tb'.expandtabs(10**12) }}", E_LIMIT);
    expect("{{ 'a' | indent(10**12, true) }}", E_LIMIT);
    expect("{{ [[1]] | tojson(indent=10**9) }}", E_LIMIT);
    expect("{{ 10**(10**10) }}", E_LIMIT);
    expect("{{ 9**(9**9) }}", E_LIMIT);
    expect("{{ (-1)**(10**30) - 2**(10**30) }}", E_LIMIT);
}

static void endless_output(void **state)
{
    (void)state;
    expect("{% set s = 'a' * 10**6 %}{% for i in range(100) %}{{ s }}{% endfor %}", E_LIMIT);
    expect("{% for i in range(10**5) %}{% for j in range(100) %}aaaaaaaaaaaaaaaa{% endfor %}{% "
           "endfor %}",
           E_LIMIT);
    expect("{% set s = 'a' * 10**6 %}{% macro m() %}{{ s }}{% endmacro %}"
           "{% for i in range(100) %}{% set q = m() %}{% endfor %}",
           E_LIMIT);
    /* a list that holds itself many times over: small, but its text is not */
    expect("{% set ns = namespace(l=[0]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% "
           "endfor %}"
           "{{ ns.l }}",
           E_LIMIT);
    expect("{% set ns = namespace(l=[0]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% "
           "endfor %}"
           "{{ ns.l | tojson }}",
           E_LIMIT);
    expect("{% set ns = namespace(l=[0], k=[0]) %}{% for i in range(60) %}{% set ns.l = [ns.l, "
           "ns.l] %}"
           "{% set ns.k = [ns.k, ns.k] %}{% endfor %}{{ ns.l == ns.k }}",
           E_LIMIT);
    expect("{% set ns = namespace(l=(0,)) %}{% for i in range(60) %}{% set ns.l = (ns.l, ns.l) "
           "%}{% endfor %}"
           "{{ {ns.l: 1} }}",
           E_LIMIT);
}

static void endless_depth(void **state)
{
    (void)state;
    expect("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", E_LIMIT);
    expect("{% macro m() %}{% call m() %}{% endcall %}{{ caller }}{% endmacro %}{{ m(caller=1) }}",
           E_LIMIT);
    expect("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", E_LIMIT);
    expect("{% set ns = namespace(l=[]) %}{% for i in range(10**4) %}{% set ns.l = [ns.l] %}{% "
           "endfor %}"
           "{{ ns.l }}",
           E_LIMIT);
    expect("{% set ns = namespace(l=[], k=[]) %}{% for i in range(10**4) %}{% set ns.l = [ns.l] %}"
           "{% set ns.k = [ns.k] %}{% endfor %}{{ ns.l == ns.k }}",
           E_LIMIT);
    expect("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", E_LIMIT);
}

/* `open` n times, `middle`, `close` n times. */
static void expect_nested(const char *open, const char *middle, const char *close, int n,
                          enum status expected)
{
    struct buf b;
    struct template *t = NULL;
    buf_init(&b, 16u << 20);
    for (int i = 0; i < n; i++)
        buf_add_text(&b, open);
    buf_add_text(&b, middle);
    for (int i = 0; i < n; i++)
        buf_add_text(&b, close);
    enum status st = template_compile(buf_slice(&b), &t, &last_error);
    if (st != expected)
        fail_msg("%d × %s: %s (%s), expected %s", n, open, status_name(st), last_error.msg,
                 status_name(expected));
    template_free(t);
    buf_release(&b);
}

static void deep_source(void **state)
{
    (void)state;
    static const char *const shapes[][3] = {
        {"{% if true %}", "x", "{% endif %}"},
        {"{% for i in [1] %}", "x", "{% endfor %}"},
        {"{% macro m() %}", "x", "{% endmacro %}"},
        {"{% set q %}", "x", "{% endset %}"},
    };
    for (size_t i = 0; i < 4; i++) {
        expect_nested(shapes[i][0], shapes[i][1], shapes[i][2], 50, OK);
        expect_nested(shapes[i][0], shapes[i][1], shapes[i][2], 500, E_LIMIT);
    }
    struct buf b;
    static const char *const expressions[][3] = {
        {"(", "1", ")"},    {"[", "1", "]"},   {"{1:", "1", "}"},         {"-", "1", ""},
        {"not ", "1", ""},  {"1 + ", "1", ""}, {"x.y[", "1", "]"},        {"", "x", ".y"},
        {"", "x", "|e"},    {"f(", "1", ")"},  {"1 if 1 else ", "1", ""}, {"1 and ", "1", ""},
        {"", "x", "[1:2]"},
    };
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++) {
        for (int n = 40; n <= 100000; n *= 50) { /* 40, 2000, 100000 */
            struct template *t = NULL;
            buf_init(&b, 16u << 20);
            buf_add_text(&b, "{% macro f(x) %}{% endmacro %}{{ ");
            for (int k = 0; k < n; k++)
                buf_add_text(&b, expressions[i][0]);
            buf_add_text(&b, expressions[i][1]);
            for (int k = 0; k < n; k++)
                buf_add_text(&b, expressions[i][2]);
            buf_add_text(&b, " }}");
            enum status st = template_compile(buf_slice(&b), &t, &last_error);
            if (st != (n == 40 ? OK : E_LIMIT))
                fail_msg("%d × %s: %s (%s)", n, expressions[i][0], status_name(st), last_error.msg);
            template_free(t);
            buf_release(&b);
        }
    }
}

static void large_source(void **state)
{
    (void)state;
    expect_nested("a", "", "", TEMPLATE_SOURCE_MAX, OK);
    expect_nested("a", "b", "", TEMPLATE_SOURCE_MAX, E_LIMIT);
    expect_nested("{{a}}", "", "", TEMPLATE_SOURCE_MAX / 5, OK);
    expect_nested("{% if 1 %}{% endif %}", "", "", TEMPLATE_SOURCE_MAX / 21, OK);
    expect_nested("{#", "", "#}", 1000, OK); /* comments do not nest: the rest is text */
}

/* Adding to a string in a loop copies it once, not once a turn: 64 KiB of memory would not hold the
 * 2000 copies of a quadratic way. */
static void growing_a_string_is_linear(void **state)
{
    (void)state;
    struct template *t = NULL;
    struct buf out;
    struct template_limits tight = {1000000, 1 << 20, 3 << 20};
    buf_init(&out, 1 << 20);
    assert_int_equal(
        template_compile(SLICE_LIT("{% set ns = namespace(s='') %}{% for i in range(2000) %}"
                                   "{% set ns.s = ns.s + '0123456789' + 'abcdef' %}{% endfor %}"
                                   "{{ ns.s | length }}"),
                         &t, &last_error),
        OK);
    enum status st = template_render_within(t, NULL, golden_now, tight, &out, &last_error);
    if (st != OK)
        fail_msg("%s", last_error.msg);
    assert_string_equal(out.ptr, "32000");
    template_free(t);
    buf_release(&out);
}

static void a_grown_string_leaves_the_old_value_alone(void **state)
{
    (void)state;
    char *text = render_text_of(
        SLICE_LIT(
            "{% set a = 'x' * 300 %}{% set b = a + 'y' %}{% set c = b + 'c' %}{% set d = b + 'd' %}"
            "{{ a | length }}{{ b[-1] }}{{ b | length }}{{ c[-1] }}{{ d[-1] }}{{ c | length }}"),
        NULL, NULL);
    assert_string_equal(text, "300y301cd302");
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_work),
        cmocka_unit_test(endless_memory),
        cmocka_unit_test(endless_output),
        cmocka_unit_test(endless_depth),
        cmocka_unit_test(deep_source),
        cmocka_unit_test(large_source),
        cmocka_unit_test(growing_a_string_is_linear),
        cmocka_unit_test(a_grown_string_leaves_the_old_value_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
