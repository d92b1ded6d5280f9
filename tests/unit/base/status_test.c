/* SPDX-License-Identifier: MIT
 * status_test.c — goal: every status has its texts, and a struct err is filled, cut, prefixed and
 * mapped from errno as status.h says. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"

static void every_status_has_texts(void **state)
{
    (void)state;
    for (int i = 0; i < STATUS_COUNT; i++) {
        assert_true(status_text((enum status)i)[0] != '\0');
        assert_true(i == OK || strncmp(status_name((enum status)i), "E_", 2) == 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(status_text((enum status)i), status_text((enum status)j));
    }
    assert_string_equal(status_name(E_CORRUPT), "E_CORRUPT");
    assert_non_null(status_text(STATUS_COUNT));
    assert_non_null(status_name((enum status) - 1));
}

static void filling(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, E_LIMIT, "%d of %s", 3, "x"), E_LIMIT);
    assert_int_equal(e.code, E_LIMIT);
    assert_string_equal(e.msg, "3 of x");
    assert_true(e.pos == ERR_NO_POS && e.sys == 0);
    assert_int_equal(err_at(&e, E_SYNTAX, 17, "bad %c", 'y'), E_SYNTAX);
    assert_true(e.code == E_SYNTAX && e.pos == 17);
    /* The message may be one of its own arguments. */
    assert_int_equal(err_set(&e, E_IO, "again: %s", e.msg), E_IO);
    assert_string_equal(e.msg, "again: bad y");
    assert_int_equal(err_set(NULL, E_BUSY, "nobody asks"), E_BUSY);
    assert_int_equal(err_at(NULL, E_BUSY, 1, "nobody asks"), E_BUSY);
    assert_int_equal(err_sys(NULL, ENOENT, "nobody asks"), E_NOT_FOUND);
}

static void prefixes(void **state)
{
    (void)state;
    struct err e = {0};
    err_at(&e, E_SYNTAX, 5, "inner");
    assert_int_equal(err_prefix(&e, "outer %d", 1), E_SYNTAX);
    assert_string_equal(e.msg, "outer 1: inner");
    assert_int_equal(e.pos, 5);
    assert_int_not_equal(err_prefix(NULL, "x"), OK);
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    char text[1000];
    struct err e = {0};
    memset(text, 'z', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    err_set(&e, E_IO, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    err_prefix(&e, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    err_prefix(&e, "short");
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_int_equal(strncmp(e.msg, "short: zzz", 10), 0);
    err_sys(&e, EIO, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
}

static void errno_becomes_a_status(void **state)
{
    (void)state;
    static const struct {
        int sys;
        enum status st;
    } map[] = {{ENOSPC, E_FULL},  {EDQUOT, E_FULL},      {EACCES, E_DENIED}, {EROFS, E_DENIED},
               {EPERM, E_DENIED}, {ENOENT, E_NOT_FOUND}, {EEXIST, E_EXISTS}, {ENOMEM, E_NOMEM},
               {EAGAIN, E_BUSY},  {EIO, E_IO},           {12345, E_IO}};
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++) {
        struct err e = {0};
        assert_int_equal(err_sys(&e, map[i].sys, "file %s", "f"), map[i].st);
        assert_int_equal(e.sys, map[i].sys);
        assert_int_equal(strncmp(e.msg, "file f: ", 8), 0);
        assert_non_null(strstr(e.msg, strerror(map[i].sys)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_texts),
        cmocka_unit_test(filling),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(errno_becomes_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
