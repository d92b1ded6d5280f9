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

static void as_json(void **state)
{
    (void)state;
    begin();
    log_set_format(LOG_JSON);
    log_info("server", "done request=%s id=%s ms=%.1f", "a\"b", "x", 1.5);
    log_info("server", "failed status=%d: no %s", 500, "room");
    log_warn("os", "two words");
    log_warn("os", "path=%s", "c:\\d");
    log_set_format(LOG_TEXT);
    end();
    static const char *const tails[] = {
        "\"level\":\"info\",\"room\":\"server\",\"event\":\"done\",\"request\":\"a\\\"b\",\"id\":"
        "\"x\",\"ms\":\"1.5\"}\n",
        "\"level\":\"info\",\"room\":\"server\",\"event\":\"failed\",\"status\":\"500\",\"text\":"
        "\"no "
        "room\"}\n",
        "\"level\":\"warn\",\"room\":\"os\",\"event\":\"two words\"}\n",
        "\"level\":\"warn\",\"room\":\"os\",\"path\":\"c:\\\\d\"}\n"};
    const char *at = text;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        assert_int_equal(strncmp(at, "{\"time\":\"20", 11), 0);
        assert_int_equal(strncmp(at + 9 + 23, "Z\",", 3), 0); /* 2026-01-02T03:04:05.678Z */
        at += 9 + 23 + 3;
        assert_int_equal(strncmp(at, tails[i], strlen(tails[i])), 0);
        at += strlen(tails[i]);
    }
    assert_int_equal(*at, '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_an_event),
        cmocka_unit_test(levels),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(as_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
