/* SPDX-License-Identifier: MIT
 * turn_test.c — goal: reasoning and calls of each family of models are found, arguments are JSON
 * whatever the model does, everything else is text byte for byte, and how it is cut into pieces
 * changes nothing.  Method: tables of turns, each fed whole, byte by byte, and in pieces of 2, 3,
 * 5, 7 and 13 bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/turn.h"

static struct turn_options options;
static struct arena arena;

static bool is_object(struct slice text)
{
    struct json *v = NULL;
    struct err e;
    return json_parse(text, &arena, &v, &e) == OK && v->kind == JSON_OBJECT;
}

/* Text as it is, reasoning as (…), calls as [name|arguments]. */
static void take(struct turn *t, bool is_end, struct buf *out, struct buf *arguments)
{
    for (;;) {
        struct turn_item i = turn_next(t, is_end);
        switch (i.kind) {
        case TURN_NOTHING:
            return;
        case TURN_TEXT:
            buf_add_slice(out, i.text);
            break;
        case TURN_REASONING:
            if (out->len && out->ptr[out->len - 1] == ')')
                out->len--;
            else
                buf_add_char(out, '(');
            buf_add_slice(out, i.text);
            buf_add_char(out, ')');
            break;
        case TURN_CALL:
            buf_printf(out, "[%.*s|", SLICE_ARG(i.text));
            buf_clear(arguments);
            break;
        case TURN_ARGUMENTS:
            buf_add_slice(out, i.text);
            buf_add_slice(arguments, i.text);
            break;
        case TURN_CALL_END:
            buf_add_char(out, ']');
            if (!is_object(buf_slice(arguments)))
                fail_msg("no JSON: %.*s", SLICE_ARG(buf_slice(arguments)));
            break;
        }
    }
}

static void run(struct slice text, size_t n, struct buf *out)
{
    struct turn t;
    struct buf arguments;
    buf_init(&arguments, 1 << 24);
    turn_init(&t, &options);
    for (size_t at = 0; at <= text.len; at += n) {
        bool is_end = at + n > text.len;
        turn_feed(&t, (struct slice){text.ptr + at, is_end ? text.len - at : n});
        take(&t, is_end, out, &arguments);
    }
    turn_release(&t);
    buf_release(&arguments);
}

static void expect(const char *text, const char *expected)
{
    static const size_t pieces[] = {100000, 1, 2, 3, 5, 7, 13};
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

static void expect_same(const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        expect(texts[i], texts[i]);
}
#define EXPECT_SAME(texts) expect_same(texts, sizeof(texts) / sizeof *(texts))

static void as(enum call_format format)
{
    options = (struct turn_options){.format = {.calls = format}, .finds_calls = true};
}

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1u << 28);
    as(CALLS_HERMES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
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
    expect(CALL("{\"arguments\":{\"name\":\"x\"},\"name\":\"f\"}"), "[f|{\"name\": \"x\"}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}"), "[f|{\"a\":1}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":null}"), "[f|{}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":{\"q\":\"a}\\\"{b\"}  }"),
           "[f|{\"q\":\"a}\\\"{b\"}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":{\"a\":1},\"id\":\"}x\"}") " and then",
           "[f|{\"a\":1}] and then");
    expect(CALL("{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {}}}"),
           "[f|{}]");
    expect(CALL("{\"name\":\"f\",\"arguments\":{\"t\":\"</tool_call>\"}}"),
           "[f|{\"t\":\"</tool_call>\"}]");
}

static void keeps_the_spelling_of_arguments(void **state)
{
    (void)state;
    expect(CALL("{\"name\": \"f\", \"arguments\": {\"n\": 1.50, \"b\" : [1,  2], \"u\": "
                "\"\\u00e9é\"}}"),
           "[f|{\"n\": 1.50, \"b\" : [1,  2], \"u\": \"\\u00e9é\"}]");
}

static void arguments_are_json_in_the_end(void **state)
{
    (void)state;
    expect("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}", "[f|{\"a\": 1}]");
    expect("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_cal",
           "[f|{\"a\": 1}]");
    expect("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1, {\"b\": \"c",
           "[f|{\"a\": [1, {\"b\": \"c\"}]}]");
    expect("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": tru", "[f|{\"a\": true}]");
    expect("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 'x'}}</tool_call>",
           "[f|{\"a\": null}]'x'}}</tool_call>");
    expect(CALL("{\"name\": \"f\", \"arguments\": {\"a\": \"two\nlines\"}}"),
           "[f|{\"a\": \"two\\u000alines\"}]");
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
        "<tool_call>{\"name\":\"f\", \"arg",
        "<think>not split here</think>",
    };
    EXPECT_SAME(same);
    options.finds_calls = false;
    expect(CALL("{\"name\":\"f\"}"), CALL("{\"name\":\"f\"}"));
}

static void bounds_what_it_holds(void **state)
{
    (void)state;
    size_t n = 3u << 20;
    const char *const fronts[] = {"<tool_call>", "<tool_call>{\"x\":\"", "<tool_call>{\"name\":\""};
    char *text = malloc(n + 1);
    for (size_t i = 0; i < 3; i++) {
        struct turn t;
        size_t shown = 0, held_max = 0;
        memset(text, 'x', n);
        memcpy(text, fronts[i], strlen(fronts[i]));
        text[n] = '\0';
        turn_init(&t, &options);
        for (size_t at = 0; at < n; at += 4096) {
            turn_feed(&t, (struct slice){text + at, n - at < 4096 ? n - at : 4096});
            struct turn_item piece;
            while ((piece = turn_next(&t, false)).kind == TURN_TEXT)
                shown += piece.text.len;
            assert_int_equal(piece.kind, TURN_NOTHING);
            held_max = t.held.len > held_max ? t.held.len : held_max;
        }
        assert_true(held_max <= TURN_CALL_BYTES_MAX + 8192);
        assert_true(shown > n / 2);
        turn_release(&t);
    }
    free(text);
}

static void splits_reasoning(void **state)
{
    (void)state;
    options.splits_reasoning = true;
    expect("<think>\nhm, well\n</think>\n\nYes.", "(hm, well)Yes.");
    expect("\n<think>a</think>" CALL("{\"name\":\"f\"}"), "(a)[f|{}]");
    expect("<think></think>b", "b");
    expect("<think>\n\n</think>\n\nb", "b");
    expect("<think>never ends", "(never ends)");
    expect("<think>a </thin", "(a </thin)");
    expect("<thin", "<thin");
    expect("  no", "  no");
    expect("x <think>y</think>", "x <think>y</think>"); /* at the front only */
    options.starts_in_reasoning = true;
    expect("hm\n</think>\nYes", "(hm)Yes");
    expect("hm <tool_call>{\"name\":\"f\"}</tool_call></think>Yes",
           "(hm <tool_call>{\"name\":\"f\"}</tool_call>)Yes");
}

static void reads_tagged_arguments(void **state)
{
    (void)state;
    struct json *tools = NULL;
    struct err e;
    assert_int_equal(
        json_parse(SLICE_LIT("[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{"
                             "\"id\":{\"type\":\"string\"}}}}}]"),
                   &arena, &tools, &e),
        OK);
    options.tools = tools;
    expect("On it.\n<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\ntwo "
           "\"words\"\n</parameter>\n<parameter=id>\n7\n</parameter>\n</function>\n</tool_call>",
           "On it.[f|{\"a\": 1, \"b\": \"two \\\"words\\\"\", \"id\": \"7\"}]");
    expect("<tool_call><function=f></function></tool_call>", "[f|{}]");
    expect("<tool_call><function=f><parameter=a</function></tool_call>",
           "<tool_call><function=f><parameter=a</function></tool_call>");
}

static void reads_llama(void **state)
{
    (void)state;
    struct json *tools = NULL;
    struct err e;
    as(CALLS_LLAMA);
    assert_int_equal(json_parse(SLICE_LIT("[{\"function\":{\"name\":\"f\"}},"
                                          "{\"function\":{\"name\":\"g\"}}]"),
                                &arena, &tools, &e),
                     OK);
    options.tools = tools;
    expect("{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}", "[f|{\"a\": \"b\"}]");
    expect("<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "[f|{}]");
    expect("{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}}",
           "[f|{\"a\": 1}]");
    expect("{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"x\": 2}}",
           "[f|{}][g|{\"x\": 2}]");
    expect("```json\n{\"name\": \"f\", \"parameters\": {}}\n```", "[f|{}]");
    expect("```tool_code\n{\"name\": \"g\", \"arguments\": {\"q\": 1}}\n```\n", "[g|{\"q\": 1}]");
    static const char *const same[] = {
        "{\"name\": \"other\", \"parameters\": {}}",
        "{\"answer\": 42}",
        "Sure: {\"name\": \"f\", \"parameters\": {}}",
        "```python\nprint(1)\n```",
        "```json\n{\"a\": 1}\n```",
        "{ not json",
    };
    EXPECT_SAME(same);
}

static void reads_mistral(void **state)
{
    (void)state;
    as(CALLS_MISTRAL);
    expect("[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abcdefghi\"}]",
           "[f|{\"a\": 1}]");
    expect("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": "
           "{\"b\": [2]}}]",
           "[f|{}][g|{\"b\": [2]}]");
    expect("Wait.[TOOL_CALLS]f[ARGS]{\"a\": 1}", "Wait.[f|{\"a\": 1}]");
    expect("[TOOL_CALLS]f[CALL_ID]123[ARGS]{}[TOOL_CALLS]g[ARGS]{\"x\": 0}",
           "[f|{}][g|{\"x\": 0}]");
    static const char *const same[] = {"[TOOL_CALLS]", "[TOOL", "[1] is a reference",
                                       "[TOOL_CALLS][]"};
    EXPECT_SAME(same);
}

static void reads_deepseek(void **state)
{
    (void)state;
    as(CALLS_DEEPSEEK);
    options.splits_reasoning = true;
    expect("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": "
           "1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}"
           "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
           "[f|{\"a\": 1}][g|{}]");
    expect("<think>so</think>I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{"
           "\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
           "(so)I look.[f|{\"a\": 1}]");
    static const char *const same[] = {"<｜tool▁calls▁begin｜>", "<｜tool", "｜"};
    EXPECT_SAME(same);
}

static void reads_gemma(void **state)
{
    (void)state;
    as(CALLS_GEMMA);
    expect("<start_function_call>call:get_weather{city:<escape>Paris, "
           "\"FR\"<escape>,days:3}<end_function_call>",
           "[get_weather|{\"city\":\"Paris, \\\"FR\\\"\",\"days\":3}]");
    expect("<start_function_call>call:f{}<end_function_call><start_function_call>call:g{o:{k:[1,2,"
           "<escape>x<escape>],b:true}}<end_function_call>",
           "[f|{}][g|{\"o\":{\"k\":[1,2,\"x\"],\"b\":true}}]");
    static const char *const same[] = {"<start_function_call>call:f{a:}<end_function_call>",
                                       "<start_function_call>f()<end_function_call>",
                                       "<start_function"};
    EXPECT_SAME(same);
    as(CALLS_GEMMA4);
    expect("I look.<|tool_call>call:f{a:<|\"|>b<|\"|>,l:[true,false]}<tool_call|>",
           "I look.[f|{\"a\":\"b\",\"l\":[true,false]}]");
}

static void reads_harmony(void **state)
{
    (void)state;
    as(CALLS_HARMONY);
    expect("<|channel|>analysis<|message|>The user greets.<|end|><|start|>assistant<|channel|>"
           "final<|message|>Hello!",
           "(The user greets.)Hello!");
    expect("<|channel|>analysis<|message|>Call.<|end|><|start|>assistant<|channel|>commentary "
           "to=functions.f <|constrain|>json<|message|>{\"a\": 1}<|call|>",
           "(Call.)[f|{\"a\": 1}]");
    expect("<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{\"a\":1}",
           "[f|{\"a\":1}]");
    expect("<|channel|>commentary<|message|>First I look.<|end|>", "First I look.");
    expect("just text", "just text");
    options.finds_calls = false;
    expect("<|channel|>commentary to=functions.f<|message|>{}", "{}");
}

static void formats_come_from_templates(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        enum call_format calls;
        bool has_reasoning, has_tools;
    } rows[] = {{"qwen3", CALLS_HERMES, true, true},
                {"llama3", CALLS_LLAMA, false, false},
                {"deepseek_v3", CALLS_DEEPSEEK, false, false},
                {"gemma3", CALLS_LLAMA, false, false},
                {"smollm2_gguf", CALLS_HERMES, false, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[128];
        static char text[1 << 16];
        snprintf(path, sizeof path, "tests/golden/templates/jinja/%s.jinja", rows[i].file);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        size_t n = fread(text, 1, sizeof text, f);
        fclose(f);
        struct turn_format format = turn_format_of((struct slice){text, n});
        if (format.calls != rows[i].calls || format.has_tools != rows[i].has_tools)
            fail_msg("%s: %d %d", rows[i].file, format.calls, format.has_tools);
        if (rows[i].has_reasoning != format.has_reasoning)
            fail_msg("%s: reasoning %d", rows[i].file, format.has_reasoning);
    }
    assert_int_equal(turn_format_of(SLICE_LIT("<|channel|>")).calls, CALLS_HARMONY);
    assert_int_equal(turn_format_of(SLICE_LIT("[TOOL_CALLS]")).calls, CALLS_MISTRAL);
    assert_int_equal(turn_format_of(SLICE_LIT("<start_function_call>")).calls, CALLS_GEMMA);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(finds_calls),
        T(keeps_the_spelling_of_arguments),
        T(arguments_are_json_in_the_end),
        T(leaves_the_rest_alone),
        T(bounds_what_it_holds),
        T(splits_reasoning),
        T(reads_tagged_arguments),
        T(reads_llama),
        T(reads_mistral),
        T(reads_deepseek),
        T(reads_gemma),
        T(reads_harmony),
        T(formats_come_from_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
