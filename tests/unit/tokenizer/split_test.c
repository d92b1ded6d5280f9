/* SPDX-License-Identifier: MIT
 * Goal: words and NFC as the models' own tokenizers have them; linear time on long runs.
 * Method: tests/golden/tokenizer/split.jsonl (ends of words by Hugging Face's Rust tokenizers with the
 * expressions named in split.c; random text over the characters that the expressions tell apart) and
 * nfc.jsonl (CPython's unicodedata).  Both were also compared once over all code points. */
#include "json_lines.h"
#include "tokenizer/classes.h"
#include "tokenizer/nfc.h"
#include "tokenizer/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define DATA "tests/golden/tokenizer/"

static bool splits_as(enum split_kind kind, struct slice text, const struct json *ends)
{
    size_t at = 0, n = 0;
    while (at < text.len) {
        size_t end = split_next(kind, class_table(), text, at);
        assert_true(end > at && end <= text.len);
        if (n == ends->count || end != (size_t)ends->items[n].integer)
            return false;
        at = end;
        n++;
    }
    return n == ends->count;
}

static void test_words(void **state)
{
    (void)state;
    struct json_lines lines;
    size_t wrong = 0;
    json_lines_open(&lines, DATA "split.jsonl");
    for (size_t i = 0; i < lines.count; i++) {
        enum split_kind kind;
        struct slice text = json_get(lines.line[i], "text")->text;
        assert_true(split_named(json_get(lines.line[i], "pre")->text, &kind));
        if (!splits_as(kind, text, json_get(lines.line[i], "ends"))) {
            print_message("line %zu, %s: %.*s\n", i, split_name(kind), SLICE_ARG(text));
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
    assert_true(lines.count > 700);
    json_lines_close(&lines);
}

static void test_names(void **state)
{
    (void)state;
    enum split_kind kind;
    assert_true(split_named(SLICE_LIT("llama3"), &kind));
    assert_string_equal(split_name(kind), "llama-bpe");
    assert_true(split_named(SLICE_LIT("deepseek-r1-qwen"), &kind));
    assert_string_equal(split_name(kind), "qwen2");
    assert_false(split_named(SLICE_LIT("default"), &kind));
    assert_false(split_named(SLICE_LIT("deepseek-llm"), &kind));
    assert_false(split_named(SLICE_LIT(""), &kind));
}

static struct buf nfc_of(struct slice text)
{
    struct buf out;
    struct err e = {0};
    buf_init(&out, 3 * text.len + 64);
    assert_int_equal(nfc_append(class_table(), text, &out, &e), OK);
    return out;
}

static void test_nfc(void **state)
{
    (void)state;
    struct json_lines lines;
    json_lines_open(&lines, DATA "nfc.jsonl");
    for (size_t i = 0; i < lines.count; i++) {
        struct slice want = json_get(lines.line[i], "nfc")->text;
        struct buf got = nfc_of(json_get(lines.line[i], "text")->text);
        if (!slice_equal(buf_slice(&got), want))
            fail_msg("line %zu", i);
        struct buf again = nfc_of(want);
        assert_true(slice_equal(buf_slice(&again), want));
        buf_release(&got);
        buf_release(&again);
    }
    assert_true(lines.count > 100);
    json_lines_close(&lines);
}

/* What is not UTF-8 stays, and nothing is joined across it. */
static void test_nfc_of_malformed(void **state)
{
    (void)state;
    const struct {
        struct slice text, want;
    } cases[] = {
        {SLICE_LIT("e\xCC\x81"), SLICE_LIT("\xC3\xA9")},
        {SLICE_LIT("\xFF\xCC\x81"), SLICE_LIT("\xFF\xCC\x81")},
        {SLICE_LIT("e\xCC\xCC\x81"), SLICE_LIT("e\xCC\xCC\x81")},
        {SLICE_LIT("\xE2\x82" "e\xCC\x81\xF0"), SLICE_LIT("\xE2\x82\xC3\xA9\xF0")},
        {SLICE_LIT("\xEF\xBF\xBD\xCC\x81"), SLICE_LIT("\xEF\xBF\xBD\xCC\x81")},
        {SLICE_LIT("\xED\xA0\x80"), SLICE_LIT("\xED\xA0\x80")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf got = nfc_of(cases[i].text);
        if (!slice_equal(buf_slice(&got), cases[i].want))
            fail_msg("case %zu", i);
        buf_release(&got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_nfc_of_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
