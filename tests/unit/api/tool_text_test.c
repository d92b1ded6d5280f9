/* SPDX-License-Identifier: MIT
 * tool_text_test.c — goal: calls are found, everything else is content byte for byte, and how the
 * text is cut into pieces changes nothing.  Method: a table of texts, each fed whole, byte by byte,
 * and in pieces of 2, 3, 5, 7 and 13 bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/tool_text.h"

/* Feeds in pieces of n bytes; content as it is, calls as [name|arguments]. */
static void run(struct slice text, size_t n, struct buf *out)
{
    struct tool_text t;
    tool_text_init(&t);
    for (size_t at = 0; at <= text.len; at += n) {
        bool is_end = at + n > text.len;
        size_t len = is_end ? text.len - at : n;
        tool_text_feed(&t, (struct slice){text.ptr + at, len});
        for (;;) {
            struct tool_text_item item = tool_text_next(&t, is_end);
            if (item.kind == TOOL_TEXT_NOTHING)
                break;
            if (item.kind == TOOL_TEXT_CONTENT) {
                buf_add_slice(out, item.content);
            } else {
                buf_add_char(out, '[');
                buf_add_slice(out, item.name);
                buf_add_char(out, '|');
                buf_add_slice(out, item.arguments);
                buf_add_char(out, ']');
            }
        }
    }
    tool_text_release(&t);
}

static void expect(const char *text, const char *expected)
{
    static const size_t pieces[] = {1, 2, 3, 5, 7, 13, 100000};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct buf b;
        buf_init(&b, 1 << 24);
        run(slice_of(text), pieces[i], &b);
        if (!slice_is(buf_slice(&b), expected))
            fail_msg("pieces of %zu: %s\ngave     %.*s\nexpected %s", pieces[i], text,
                     SLICE_ARG(buf_slice(&b)), expected);
        buf_release(&b);
    }
}

#define CALL(inner) "<tool_call>" inner "</tool_call>"

static void finds_calls(void **state)
{
    (void)state;
    expect("", "");
    expect("plain text", "plain text");
    expect(CALL("{\"name\": \"f\", \"arguments\": {\"a\": 1}}"), "[f|{\"a\": 1}]");
    expect(CALL("\n{\"name\": \"f\", \"arguments\": {}}\n"), "[f|{}]");
    expect("Let me look.\n" CALL("{\"name\":\"f\",\"arguments\":{\"k\":\"v\"}}"),
           "Let me look.[f|{\"k\":\"v\"}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":{}}") "\n" CALL(
               "{\"name\":\"g\",\"arguments\":{\"x\":[]}}") "\n",
           "[f|{}][g|{\"x\":[]}]");
    expect(CALL("{\"name\":\"f\"}"), "[f|{}]");
    expect(CALL("{\"name\":\"f\",\"parameters\":{\"a\":1}}"), "[f|{\"a\":1}]");
    expect(CALL("{\"arguments\":{\"name\":\"x\"},\"name\":\"f\"}"), "[f|{\"name\":\"x\"}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}"), "[f|{\"a\":1}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":null}"), "[f|{}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":{\"q\":\"a}\\\"{b\"}  }"),
           "[f|{\"q\":\"a}\\\"{b\"}]");
}

static void keeps_the_spelling_of_arguments(void **state)
{
    (void)state;
    expect(CALL("{\"name\": \"f\", \"arguments\": {\"n\": 1.50, \"b\" : [1,  2], \"u\": "
                "\"\\u00e9é\"}}"),
           "[f|{\"n\": 1.50, \"b\" : [1,  2], \"u\": \"\\u00e9é\"}]");
}

static void takes_a_call_that_lacks_its_end(void **state)
{
    (void)state;
    expect("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}", "[f|{\"a\": 1}]");
    expect("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_cal",
           "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_cal");
}

static void finds_the_end_behind_a_tag_in_a_string(void **state)
{
    (void)state;
    expect(CALL("{\"name\":\"f\",\"arguments\":{\"t\":\"</tool_call>\"}}"),
           "[f|{\"t\":\"</tool_call>\"}]");
}

static void leaves_the_rest_alone(void **state)
{
    (void)state;
    static const char *const same[] = {
        "a < b",
        "<tool",
        "<tool_cal",
        "text  \n ",
        "  lead",
        "<tool_call>",
        "<tool_call></tool_call>",
        " <tool_call>nonsense</tool_call> after",
        "<tool_call>[1]</tool_call>",
        "<tool_call>{\"name\":1}</tool_call>",
        "<tool_call>{\"name\":\"\"}</tool_call>",
        "<tool_call>{\"name\":\"f\",\"arguments\":[1]}</tool_call>",
        "</tool_call>",
        "<<tool_call",
        "<tool_call>{\"name\":\"f\",\"name\":\"g\"}</tool_call>",
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        expect(same[i], same[i]);
    expect(CALL("{\"name\":\"f\"}") " and then", "[f|{}] and then");
}

static void bounds_what_it_holds(void **state)
{
    (void)state;
    size_t n = 3u << 20;
    char *text = malloc(n + 1);
    memset(text, 'x', n);
    memcpy(text, "<tool_call>", 11);
    text[n] = '\0';
    struct tool_text t;
    size_t shown = 0, held_max = 0;
    tool_text_init(&t);
    for (size_t at = 0; at < n; at += 4096) {
        tool_text_feed(&t, (struct slice){text + at, n - at < 4096 ? n - at : 4096});
        struct tool_text_item item;
        while ((item = tool_text_next(&t, false)).kind == TOOL_TEXT_CONTENT)
            shown += item.content.len;
        if (t.held.len > held_max)
            held_max = t.held.len;
    }
    assert_true(shown > 2u << 20);
    assert_true(held_max < TOOL_TEXT_CALL_BYTES_MAX + 8192);
    tool_text_release(&t);
    memset(text, ' ', n); /* blanks are held by the handful only */
    struct buf b;
    buf_init(&b, n);
    run((struct slice){text, n}, 4096, &b);
    assert_int_equal(b.len, n);
    buf_release(&b);
    free(text);
}

static void gives_the_source_of_a_member(void **state)
{
    (void)state;
    static const char object[] =
        " { \"a\" : [1, {\"b\": \"},\"}] , \"b\":\"x\\\"y\" ,\"c\": -1.5e3 }";
    assert_true(slice_is(tool_text_member(slice_of(object), "a"), "[1, {\"b\": \"},\"}]"));
    assert_true(slice_is(tool_text_member(slice_of(object), "b"), "\"x\\\"y\""));
    assert_true(slice_is(tool_text_member(slice_of(object), "c"), "-1.5e3"));
    assert_int_equal(tool_text_member(slice_of(object), "d").len, 0);
    assert_int_equal(tool_text_member(slice_of("{}"), "d").len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_calls),
        cmocka_unit_test(keeps_the_spelling_of_arguments),
        cmocka_unit_test(takes_a_call_that_lacks_its_end),
        cmocka_unit_test(finds_the_end_behind_a_tag_in_a_string),
        cmocka_unit_test(leaves_the_rest_alone),
        cmocka_unit_test(bounds_what_it_holds),
        cmocka_unit_test(gives_the_source_of_a_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
