/* SPDX-License-Identifier: MIT
 * base64_test.c — goal: RFC 4648.  Method: its test vectors (§10), and bytes that use the last
 * letters of the alphabet. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "text/base64.h"

static void letters_are_those_of_the_rfc(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"},
                 {"\xfb\xff\xbf\xff", "+/+//w=="}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b;
        buf_init(&b, 64);
        base64_write(&b, cases[i].bytes, strlen(cases[i].bytes));
        assert_true(slice_is(buf_slice(&b), cases[i].text));
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(letters_are_those_of_the_rfc)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
