/* SPDX-License-Identifier: MIT
 * unicode_test.c — goal: case, classes and strips are Python's.  Method: examples whose results
 * were printed by Python 3.11; malformed bytes stay what they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "template/unicode.h"

static void expect_mapped(void (*map)(struct buf *, struct slice), const char *text,
                          const char *expected)
{
    struct buf b;
    buf_init(&b, 1000);
    buf_add_text(&b, "");
    map(&b, slice_of(text));
    assert_string_equal(b.ptr, expected);
    buf_release(&b);
}

static void upper(struct buf *b, struct slice s)
{
    unicode_map(b, s, CASE_UPPER);
}

static void lower(struct buf *b, struct slice s)
{
    unicode_map(b, s, CASE_LOWER);
}

static void fold(struct buf *b, struct slice s)
{
    unicode_map(b, s, CASE_FOLD);
}

static void case_mappings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *upper, *lower, *title, *capitalized, *swapped, *folded;
    } rows[] = {
        {"hello World", "HELLO WORLD", "hello world", "Hello World", "Hello world", "HELLO wORLD",
         "hello world"},
        {"straße", "STRASSE", "straße", "Straße", "Straße", "STRASSE", "strasse"},
        {"ΑΣ ΑΣΑ Σ.", "ΑΣ ΑΣΑ Σ.", "ας ασα σ.", "Ας Ασα Σ.", "Ας ασα σ.", "ας ασα σ.", "ασ ασα σ."},
        {"İ", "İ", "i̇", "İ", "İ", "i̇", "i̇"},
        {"ǆab", "ǄAB", "ǆab", "ǅab", "ǅab", "ǄAB", "ǆab"},
        {"ﬁx", "FIX", "ﬁx", "Fix", "Fix", "FIX", "fix"},
        {"they're x1y", "THEY'RE X1Y", "they're x1y", "They'Re X1Y", "They're x1y", "THEY'RE X1Y",
         "they're x1y"},
        {"a\xFFZ", "A\xFFZ", "a\xFFz", "A\xFFZ", "A\xFFz", "A\xFFz", "a\xFFz"},
        {"", "", "", "", "", "", ""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        expect_mapped(upper, rows[i].text, rows[i].upper);
        expect_mapped(lower, rows[i].text, rows[i].lower);
        expect_mapped(unicode_title, rows[i].text, rows[i].title);
        expect_mapped(unicode_capitalize, rows[i].text, rows[i].capitalized);
        expect_mapped(unicode_swapcase, rows[i].text, rows[i].swapped);
        expect_mapped(fold, rows[i].text, rows[i].folded);
    }
}

static void strips(void **state)
{
    (void)state;
    struct slice s = SLICE_LIT("\xE3\x80\x80 \x1f x y\xC2\xA0\n");
    assert_true(slice_is(unicode_strip(s, true, true), "x y"));
    assert_true(slice_is(unicode_strip(s, true, false), "x y\xC2\xA0\n"));
    assert_true(
        slice_is(unicode_strip(SLICE_LIT(" \xA0 "), true, true), "\xA0")); /* no character */
    assert_int_equal(unicode_strip(SLICE_LIT(" \n\t"), true, true).len, 0);
    s = SLICE_LIT("éaxbé日");
    assert_true(slice_is(unicode_strip_set(s, SLICE_LIT("ab日é"), true, true), "x"));
    assert_true(slice_is(unicode_strip_set(s, SLICE_LIT("\xC3"), true, true), "éaxbé日"));
}

static void positions(void **state)
{
    (void)state;
    struct slice s = SLICE_LIT("aé日\xFF😀");
    assert_int_equal(unicode_count(s), 5);
    assert_int_equal(unicode_offset(s, 3), 6);
    assert_int_equal(unicode_offset(s, 4), 7);
    assert_int_equal(unicode_offset(s, 99), s.len);
}

static void classes(void **state)
{
    (void)state;
    assert_true(unicode_class(0xE9) & UNI_ALPHA);
    assert_true(unicode_class(0x663) & UNI_DECIMAL);
    assert_true((unicode_class(0xB2) & (UNI_DIGIT | UNI_DECIMAL)) == UNI_DIGIT);
    assert_true((unicode_class(0xBD) & (UNI_DIGIT | UNI_NUMERIC)) == UNI_NUMERIC);
    assert_true(unicode_class(0x24B6) & UNI_UPPER);
    assert_true(unicode_class(' ') & UNI_PRINTABLE);
    assert_false(unicode_class(0xA0) & UNI_PRINTABLE);
    assert_false(unicode_class(0x200B) & (UNI_PRINTABLE | UNI_SPACE));
    assert_true(unicode_class(0x1F600) & UNI_PRINTABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_mappings),
        cmocka_unit_test(strips),
        cmocka_unit_test(positions),
        cmocka_unit_test(classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
