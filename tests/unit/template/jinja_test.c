/* SPDX-License-Identifier: MIT
 * jinja_test.c — goal: snippets render as jinja2 3.1.6 renders them in the environment that
 * transformers sets up.  Method: tests/golden/jinja (snippets.jsonl by hand; more.jsonl by hand and
 * by a random grammar), rendered by that environment; exact text, and where it raised, only that
 * rendering or compiling fails. */
#include "golden.h"

#include <cmocka.h>

static void check_file(const char *path, int expected_count)
{
    struct lines snippets = lines_open(path);
    struct lines context = lines_open("tests/golden/jinja/context.json");
    struct json *variables = parse_json(&context, context.text);
    struct slice line;
    int failed = 0, count = 0;
    while (lines_next(&snippets, &line)) {
        struct json *row = parse_json(&snippets, line);
        const struct json *expected = json_get(row, "expected");
        char *text = render_text_of(json_get(row, "template")->text, variables, NULL);
        bool ok = expected ? text && slice_equal(expected->text, (struct slice){text, last_length})
                           : text == NULL;
        if (!ok) {
            print_error("id %lld: %s\n  got      %s\n  expected %s\n",
                        (long long)json_get(row, "id")->integer,
                        json_get(row, "template")->text.ptr, text ? text : last_error.msg,
                        expected ? expected->text.ptr : "an error");
            failed++;
        }
        mem_free(text);
        count++;
    }
    lines_close(&snippets);
    lines_close(&context);
    assert_int_equal(failed, 0);
    assert_int_equal(count, expected_count);
}

static void snippets(void **state)
{
    (void)state;
    check_file("tests/golden/jinja/snippets.jsonl", 81);
}

static void more_snippets(void **state)
{
    (void)state;
    check_file("tests/golden/jinja/more.jsonl", 886);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(snippets), cmocka_unit_test(more_snippets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
