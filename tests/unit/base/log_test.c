/* SPDX-License-Identifier: MIT
 * log_test.c — goal: one event, one line, whatever its arguments hold; levels are obeyed.
 * Method: stderr is a file while a line is logged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

static char text[8192];

static int saved_stderr = -1;
static FILE *capture;

static void begin(void)
{
    capture = tmpfile();
    assert_non_null(capture);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(capture), STDERR_FILENO);
}

static void end(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    rewind(capture);
    size_t n = fread(text, 1, sizeof text - 1, capture);
    text[n] = '\0';
    fclose(capture);
}

static void a_line_an_event(void **state)
{
    (void)state;
    begin();
    log_info("store", "open pages=%d", 3);
    log_warn("os", "file=%s", "a\nb\x1b[31m\x7f");
    log_error("x", "ä %s", "");
    end();
    assert_string_equal(text, "info store: open pages=3\n"
                              "warn os: file=a?b?[31m?\n"
                              "error x: ä \n");
}

static void levels(void **state)
{
    (void)state;
    begin();
    log_debug("a", "hidden by default");
    log_set_level(LOG_ERROR);
    log_warn("a", "hidden");
    log_error("a", "shown");
    log_set_level(LOG_DEBUG);
    log_debug("a", "shown too");
    log_set_level(LOG_INFO);
    end();
    assert_string_equal(text, "error a: shown\ndebug a: shown too\n");
}

static void long_lines_are_cut(void **state)
{
    (void)state;
    char large[3000];
    memset(large, 'q', sizeof large);
    large[sizeof large - 1] = '\0';
    begin();
    log_info("a", "%s", large);
    log_info("a", "next");
    end();
    char *newline = strchr(text, '\n');
    assert_true(newline - text > 900 && newline - text < 1024);
    assert_string_equal(newline, "\ninfo a: next\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_an_event),
        cmocka_unit_test(levels),
        cmocka_unit_test(long_lines_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
