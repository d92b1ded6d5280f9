/* SPDX-License-Identifier: MIT
 * utf8_test.c — goal: the decoder knows exactly the well-formed sequences of Unicode 15, table 3-7.
 * Method: every code point there and back; every two-byte start against the table; examples of
 * maximal subparts from the standard (§3.9). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "text/utf8.h"

static bool is_scalar(uint32_t cp)
{
    return cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF);
}

static void every_code_point_there_and_back(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char text[4];
        uint32_t back = 0;
        size_t n = utf8_encode(cp, text);
        size_t used = utf8_decode(text, n, &back);
        if (used != n || back != (is_scalar(cp) ? cp : 0xFFFD))
            fail_msg("U+%04X", cp);
        if (utf8_valid_prefix(text, n) != n || utf8_incomplete_tail(text, n) != 0)
            fail_msg("U+%04X: not valid", cp);
        for (size_t cut = 1; cut < n; cut++)
            if (utf8_valid_prefix(text, cut) != 0 || utf8_incomplete_tail(text, cut) != cut)
                fail_msg("U+%04X cut to %zu bytes", cp, cut);
    }
}

static void encoding_what_is_no_character(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0xD800, 0xDFFF, 0x110000, 0xFFFFFFFF};
    for (size_t i = 0; i < 4; i++) {
        char text[4];
        assert_int_equal(utf8_encode(bad[i], text), 3);
        assert_memory_equal(text, "\xEF\xBF\xBD", 3);
    }
}

/* Overlong forms, surrogates and code points beyond U+10FFFF all fail by their second byte. */
static void second_bytes(void **state)
{
    (void)state;
    for (int lead = 0xC0; lead <= 0xFF; lead++) {
        for (int second = 0; second <= 0xFF; second++) {
            char text[4] = {(char)lead, (char)second, (char)0x80, (char)0x80};
            uint32_t cp;
            size_t n = utf8_decode(text, 4, &cp);
            bool is_cont = second >= 0x80 && second <= 0xBF;
            size_t expected = 1;
            if (lead >= 0xC2 && lead <= 0xDF)
                expected = is_cont ? 2 : 1;
            else if (lead == 0xE0)
                expected = second >= 0xA0 && is_cont ? 3 : 1;
            else if (lead == 0xED)
                expected = second <= 0x9F && is_cont ? 3 : 1;
            else if (lead >= 0xE0 && lead <= 0xEF)
                expected = is_cont ? 3 : 1;
            else if (lead == 0xF0)
                expected = second >= 0x90 && is_cont ? 4 : 1;
            else if (lead == 0xF4)
                expected = second <= 0x8F && is_cont ? 4 : 1;
            else if (lead >= 0xF1 && lead <= 0xF3)
                expected = is_cont ? 4 : 1;
            if (n != expected || (n == 1 && cp != 0xFFFD))
                fail_msg("%02x %02x: %zu bytes, U+%04X", lead, second, n, cp);
        }
    }
}

static void maximal_subparts(void **state)
{
    (void)state;
    /* Unicode 15, table 3-8: 61 F1 80 80 E1 80 C2 62 80 63 80 BF 64 */
    static const char text[] = "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64";
    static const size_t lengths[] = {1, 3, 2, 1, 1, 1, 1, 1, 1, 1};
    static const uint32_t cps[] = {0x61,   0xFFFD, 0xFFFD, 0xFFFD, 0x62,
                                   0xFFFD, 0x63,   0xFFFD, 0xFFFD, 0x64};
    size_t at = 0;
    for (size_t i = 0; i < 10; i++) {
        uint32_t cp;
        assert_int_equal(utf8_decode(text + at, sizeof text - 1 - at, &cp), lengths[i]);
        assert_int_equal(cp, cps[i]);
        at += lengths[i];
    }
    assert_int_equal(at, sizeof text - 1);
    assert_int_equal(utf8_valid_prefix(text, sizeof text - 1), 1);
}

static void tails(void **state)
{
    (void)state;
    assert_int_equal(utf8_incomplete_tail("", 0), 0);
    assert_int_equal(utf8_incomplete_tail("ab", 2), 0);
    assert_int_equal(utf8_incomplete_tail("a\x80", 2), 0); /* no start */
    assert_int_equal(utf8_incomplete_tail("a\xF0\x9F\x98", 4), 3);
    assert_int_equal(utf8_incomplete_tail("a\xF0\x80", 3), 0); /* overlong: never completed */
    assert_int_equal(utf8_incomplete_tail("\xE2\x82\xAC\xE2", 4), 1);
    assert_int_equal(utf8_incomplete_tail("\x80\x80\x80\x80", 4), 0);
    assert_int_equal(utf8_valid_prefix("ok\xE2\x82", 4), 2);
    assert_int_equal(utf8_valid_prefix("\0x", 2), 2); /* NUL is a character */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_there_and_back),
        cmocka_unit_test(encoding_what_is_no_character),
        cmocka_unit_test(second_bytes),
        cmocka_unit_test(maximal_subparts),
        cmocka_unit_test(tails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
