/* SPDX-License-Identifier: MIT
 * compare_test.c — `kvasir bench` against stubs (stub.c).
 * Goal:   each driver speaks its dialect; each lie, error, hang and slow start is caught and named;
 *         a time to first token is right within 0.2 ms; a thousand streams are measured without
 *         coordinated omission.
 * Method: the program is run as a user runs it, results.json is read, and the stub's own log says
 *         what was true.
 * Usage:  compare_test KVASIR STUB drivers|vices|timing|timing-quiet */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "os/clock.h"
#include "tests/bench/bench_run.h"

static bool is_quiet; /* nobody else uses this machine */

/* ---- drivers ---- */
static void check_driver(const char *dialect, const char *system, bool tells_cached)
{
    struct stub s = {0};
    struct outcome o;
    start_stub(&s, (const char *[]){"--dialect", dialect, "--token-us", "60", NULL});
    bench(&o, system, s.port, "--scenario", "chat", "--turns", "4", "--repeat", "1", "--answer",
          "8", NULL);
    for (size_t i = 0; i < 4; i++) {
        const struct json *turn = must_have(&o, "chat", "turn", i);
        assert_true(text_is(turn, "outcome", "done"));
        assert_true(number(turn, "first_ms") > 0);
        assert_true(number(turn, "output_tokens") >= 8 && number(turn, "output_tokens") <= 8);
        assert_true(number(turn, "prompt_tokens") > 350);
        assert_true((number(turn, "cached_tokens") >= 0) == tells_cached);
        if (i) /* what came before is cached: less than half is computed again */
            assert_true(number(turn, "first_ms") <
                        number(must_have(&o, "chat", "turn", 0), "first_ms") / 2);
    }
    assert_null(sample(&o, "chat", "turn", 4));
    release(&o);
    child_release(&s.child);
}

static void speaks_openai(void **state)
{
    (void)state;
    check_driver("openai", "openai=http://127.0.0.1:PORT", true);
}

static void speaks_llama(void **state)
{
    (void)state;
    check_driver("llama", "llama-server=http://127.0.0.1:PORT", true);
}

static void speaks_ollama(void **state)
{
    (void)state;
    check_driver("ollama", "ollama=http://127.0.0.1:PORT,model=stub", false);
}

static void speaks_lmstudio(void **state)
{
    (void)state;
    check_driver("lmstudio", "lmstudio=http://127.0.0.1:PORT,model=stub-gguf", false);
    check_driver("lmstudio", "lmstudio=http://127.0.0.1:PORT,model=stub-gguf,api=v1", false);
    check_driver("lmstudio", "lmstudio=http://127.0.0.1:PORT,model=stub-gguf,api=openai", false);
}

/* Its two engines are two systems of one run, each named. */
static void tells_lmstudios_engines_apart(void **state)
{
    struct stub s = {0};
    struct outcome o;
    char other[120];
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "lmstudio", NULL});
    snprintf(other, sizeof other, "lmstudio=http://127.0.0.1:%u,model=stub-mlx", s.port);
    bench(&o, "lmstudio=http://127.0.0.1:PORT,model=stub-gguf", s.port, "--system", other,
          "--scenario", "chat", "--turns", "1", "--repeat", "1", "--answer", "2", NULL);
    const struct json *systems = json_get(o.json, "systems");
    assert_true(text_is(&systems->items[0], "version", "LM Studio, llama.cpp engine, Q4_K_M"));
    assert_true(text_is(&systems->items[1], "version", "LM Studio, MLX engine, 4bit"));
    assert_true(text_is(must_have(&o, "chat", "turn", 1), "outcome", "done"));
    release(&o);
    child_release(&s.child);
}

/* A row that can't be run stands there and says why. */
static void keeps_the_row_of_what_cannot_run(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "openai", NULL});
    bench(&o, "openai=http://127.0.0.1:PORT", s.port, "--system",
          "mlx_lm.server=absent,model=", "--scenario", "chat", "--turns", "1", "--repeat", "1",
          "--answer", "2", NULL);
    assert_non_null(strstr(o.result.out.ptr, "not run: MLX reads folders of its own format"));
    assert_true(text_is(must_have(&o, "chat", "not tried", 0), "outcome", "skipped"));
    release(&o);
    child_release(&s.child);
}

/* Slots are saved and restored, and the reuse shows in the next request. */
static void restores_slots(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "llama", "--token-us", "60", NULL});
    bench(&o, "llama-server=http://127.0.0.1:PORT", s.port, "--scenario", "context,branch",
          "--lengths", "1024", "--prompt", "1024", "--branches", "4", "--repeat", "1", "--answer",
          "8", NULL);
    const struct json *after = must_have(&o, "context", "new turn after restart", 0);
    assert_false(has_flag(after, "not reused"));
    assert_true(number(after, "restore_ms") > 0);
    assert_true(number(after, "cached_tokens") > 650);
    const struct json *branch = must_have(&o, "branch", "branch after restart", 3);
    assert_false(has_flag(branch, "other odds"));
    assert_true(number(branch, "odds_off") >= 0 && number(branch, "odds_off") < 0.01);
    release(&o);
    child_release(&s.child);
}

/* What cannot be done is "no", and stands so in the table. */
static void says_no(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "openai", "--token-us", "20", NULL});
    bench(&o, "openai=http://127.0.0.1:PORT", s.port, "--scenario", "cold-start,context",
          "--lengths", "256", "--repeat", "1", "--answer", "4", NULL);
    assert_true(text_is(must_have(&o, "cold-start", NULL, 0), "outcome", "no"));
    assert_true(text_is(must_have(&o, "context", "new turn after restart", 0), "outcome", "no"));
    assert_non_null(strstr(o.result.out.ptr, "no: it was there before"));
    release(&o);
    child_release(&s.child);
}

/* ---- vices ---- */
static void catches_a_restore_that_lies(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(
        &s, (const char *[]){"--dialect", "llama", "--token-us", "60", "--lie", "restore", NULL});
    bench(&o, "llama-server=http://127.0.0.1:PORT", s.port, "--scenario", "context", "--lengths",
          "1024", "--repeat", "1", "--answer", "8", NULL);
    const struct json *after = must_have(&o, "context", "new turn after restart", 0);
    assert_true(has_flag(after, "not reused"));
    assert_true(note_has(after, "restored with success, then"));
    assert_non_null(strstr(o.result.out.ptr, "not reused"));
    release(&o);
    child_release(&s.child);
}

static void catches_other_odds_after_a_branch(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s,
               (const char *[]){"--dialect", "llama", "--token-us", "60", "--lie", "odds", NULL});
    bench(&o, "llama-server=http://127.0.0.1:PORT", s.port, "--scenario", "branch", "--prompt",
          "1024", "--branches", "4", "--repeat", "1", "--answer", "8", NULL);
    unsigned n_caught = 0;
    for (size_t i = 0; sample(&o, "branch", "branch after restart", i); i++)
        n_caught += has_flag(sample(&o, "branch", "branch after restart", i), "other odds");
    assert_true(n_caught >= 3);
    assert_non_null(strstr(o.result.out.ptr, "other probabilities"));
    release(&o);
    child_release(&s.child);
}

/* Many requests in one cell, each with words of its own: an answer is compared with the other
 * system's answer to the same words, and to no others. */
static void compares_answers_to_the_same_words(void **state)
{
    struct stub a = {0}, b = {0};
    struct outcome o;
    char second[80];
    unsigned n = 0;
    (void)state;
    start_stub(&a, (const char *[]){"--dialect", "openai", "--echo", NULL});
    start_stub(&b, (const char *[]){"--dialect", "openai", "--echo", NULL});
    snprintf(second, sizeof second, "openai=http://127.0.0.1:%u,name=second", b.port);
    bench(&o, "openai=http://127.0.0.1:PORT,name=first", a.port, "--system", second, "--scenario",
          "agents,concurrency", "--streams", "2", "--agents", "3", "--steps", "6", "--prompt",
          "128", "--repeat", "2", "--answer", "3", NULL);
    const struct json *list = json_get(o.json, "samples");
    for (size_t i = 0; i < list->count; i++) {
        const struct json *s = &list->items[i];
        n += number(s, "system") > 0;
        if (has_flag(s, "other answer") || has_flag(s, "other prompt"))
            fail_msg("sample %zu: %s", i, json_get(s, "note")->text.ptr);
    }
    assert_true(n > 40);
    assert_non_null(strstr(o.result.out.ptr, " answers are first's to the byte"));
    release(&o);
    child_release(&a.child);
    child_release(&b.child);
}

static void names_errors_and_goes_on(void **state)
{
    static const char *const systems[][2] = {
        {"openai", "openai=http://127.0.0.1:PORT"},
        {"ollama", "ollama=http://127.0.0.1:PORT,model=stub"},
        {"lmstudio", "lmstudio=http://127.0.0.1:PORT,model=stub-gguf"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(systems); i++) {
        struct stub s = {0};
        struct outcome o;
        start_stub(&s, (const char *[]){"--dialect", systems[i][0], "--error-every", "5", NULL});
        bench(&o, systems[i][1], s.port, "--scenario", "chat", "--turns", "4", "--repeat", "2",
              "--answer", "4", NULL);
        const struct json *third = must_have(&o, "chat", "turn", 2); /* after two warm-ups */
        assert_true(text_is(third, "outcome", "failed"));
        assert_true(note_has(third, "HTTP 500: the stub was told to fail"));
        assert_non_null(strstr(o.result.out.ptr, "failed"));
        assert_true(text_is(must_have(&o, "chat", "turn", 3), "outcome", "done"));
        release(&o);
        child_release(&s.child);
    }
}

static void cuts_off_what_hangs(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "openai", "--hang-every", "3", NULL});
    uint64_t start = clock_now_ns();
    bench(&o, "openai=http://127.0.0.1:PORT", s.port, "--scenario", "chat", "--turns", "4",
          "--repeat", "3", "--answer", "4", "--cell-seconds", "1", NULL);
    assert_true(clock_ms_since(start) < 20000);
    const struct json *first = must_have(&o, "chat", "turn", 0);
    assert_true(text_is(first, "outcome", "hung"));
    assert_true(note_has(first, "no first token after 1 s"));
    /* After two of them the rest isn't held up. */
    assert_true(text_is(must_have(&o, "chat", NULL, 3), "outcome", "hung"));
    assert_null(sample(&o, "chat", NULL, 4));
    release(&o);
    child_release(&s.child);
}

static void notes_a_stream_that_breaks(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "openai", "--cut-every", "4", NULL});
    bench(&o, "openai=http://127.0.0.1:PORT", s.port, "--scenario", "chat", "--turns", "2",
          "--repeat", "1", "--answer", "4", NULL);
    const struct json *second = must_have(&o, "chat", "turn", 1);
    assert_true(text_is(second, "outcome", "failed"));
    assert_true(note_has(second, "ended before its end"));
    release(&o);
    child_release(&s.child);
}

static void waits_for_a_slow_start(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "lmstudio", "--slow-start-ms", "1200", NULL});
    bench(&o, "lmstudio=http://127.0.0.1:PORT,model=stub-gguf", s.port, "--scenario", "chat",
          "--turns", "1", "--repeat", "1", "--answer", "4", NULL);
    const struct json *first = must_have(&o, "warm-up", "first request", 0);
    assert_true(text_is(first, "outcome", "done"));
    assert_true(number(first, "ready_ms") > 500 && number(first, "ready_ms") < 60000);
    assert_true(text_is(must_have(&o, "chat", "turn", 0), "outcome", "done"));
    release(&o);
    child_release(&s.child);
}

static void names_a_model_that_is_not_there(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "lmstudio", NULL});
    bench(&o, "lmstudio=http://127.0.0.1:PORT,model=absent", s.port, "--scenario", "chat", NULL);
    assert_true(note_has(must_have(&o, "warm-up", NULL, 0), "LM Studio has no model \"absent\""));
    release(&o);
    child_release(&s.child);
}

/* The lesson of the bf16 file: a rival fifty times slower is no figure but a mistake. */
static void refuses_a_misconfigured_rival(void **state)
{
    struct stub fast = {0}, slow = {0};
    struct outcome o;
    char other[100];
    (void)state;
    start_stub(&fast, (const char *[]){"--dialect", "llama", "--token-us", "20", NULL});
    start_stub(&slow, (const char *[]){"--dialect", "openai", "--token-us", "9000", NULL});
    snprintf(other, sizeof other, "openai=http://127.0.0.1:%u", slow.port);
    bench(&o, "llama-server=http://127.0.0.1:PORT", fast.port, "--system", other, "--scenario",
          "chat", "--turns", "1", "--repeat", "1", "--answer", "2", NULL);
    const struct json *second = must_have(&o, "warm-up", "second request", 1);
    if (!has_flag(second, "misconfigured"))
        fail_msg("not flagged: %s", o.result.err.ptr);
    assert_true(note_has(second, "times slower than the fastest; likely"));
    assert_true(text_is(must_have(&o, "chat", "not tried", 0), "outcome", "skipped"));
    release(&o);
    child_release(&fast.child);
    child_release(&slow.child);
}

/* ---- timing ---- */
static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* What the client adds: its time to first token less what the stub knows of its own; the median. */
#define REQUESTS 24
static double overhead_ms(void)
{
    struct stub s = {0};
    struct outcome o;
    struct buf log;
    double off[64];
    size_t n = 0;
    start_stub(&s,
               (const char *[]){"--dialect", "openai", "--delay-ms", "25", "--gap-ms", "1", NULL});
    bench(&o, "openai=http://127.0.0.1:PORT", s.port, "--scenario", "chat", "--turns", "8",
          "--repeat", "3", "--answer", "4", NULL);
    stub_log(&s, &log);
    for (char *line = strchr(log.ptr, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        unsigned long number_of, first_us;
        if (sscanf(line + 1, "request %lu %lu", &number_of, &first_us) != 2 || number_of < 3)
            continue; /* the two warm-ups */
        const struct json *turn = must_have(&o, "chat", "turn", number_of - 3);
        assert_true(n < ARRAY_COUNT(off));
        off[n++] = number(turn, "first_ms") - (double)first_us / 1000;
    }
    assert_int_equal(n, REQUESTS);
    qsort(off, n, sizeof off[0], ascending);
    print_message("client overhead in ms: least %.3f, median %.3f, most %.3f\n", off[0],
                  off[REQUESTS / 2], off[REQUESTS - 1]);
    buf_release(&log);
    release(&o);
    child_release(&s.child);
    return off[REQUESTS / 2];
}

/* Both ends take the kernel's time of receipt, so the median holds beside other work too (a test
 * run builds, and tests in parallel): only what is stopped between two lines of its own is late. */
static void adds_less_than_a_fifth_of_a_millisecond(void **state)
{
    double least = 1e9;
    (void)state;
    for (unsigned i = 0; i < 3 && least >= 0.2; i++)
        least = fmin(least, fabs(overhead_ms()));
    assert_true(least < 0.2);
}

/* A thousand streams, 3,000 requests on a schedule, and a server that stands still for a while in
 * the midst of it: a closed loop would send few requests then, and see few slow ones. */
static void a_stall_hits_all_that_were_due(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "openai", "--delay-ms", "500", "--gap-ms", "125",
                                    "--stall-after", "1500", "--stall-ms", "600", NULL});
    bench(&o, "openai=http://127.0.0.1:PORT", s.port, "--scenario", "concurrency", "--streams",
          "1000", "--repeat", "1", "--answer", "5", NULL);
    double interval_ms = number(must_have(&o, "concurrency", "alone", 0), "total_ms") / 1000;
    unsigned n = 0, n_hit = 0, n_late = 0;
    const struct json *list = json_get(o.json, "samples");
    for (size_t i = 0; i < list->count; i++) {
        const struct json *v = &list->items[i];
        if (!text_is(v, "scenario", "concurrency") || !text_is(v, "case", "request"))
            continue;
        assert_true(text_is(v, "outcome", "done"));
        n++;
        n_late += number(v, "late_ms") > 50;
        n_hit += number(v, "key_ms") > 500 + 150; /* a quarter of the stall, or more */
    }
    unsigned due = (unsigned)(450 / interval_ms); /* in the stall's first three quarters */
    print_message("%u requests, one each %.2f ms; %u were due early in the stall, %u felt it; %u "
                  "were sent more than 50 ms late\n",
                  n, interval_ms, due, n_hit, n_late);
    assert_int_equal(n, 3000);
    assert_true(n_hit > due * 7 / 10);
    if (is_quiet) /* else whoever waits for a processor is late, and says so */
        assert_true(n_late < n / 20);
    release(&o);
    child_release(&s.child);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest driver_tests[] = {
        cmocka_unit_test(speaks_openai),
        cmocka_unit_test(speaks_llama),
        cmocka_unit_test(speaks_ollama),
        cmocka_unit_test(speaks_lmstudio),
        cmocka_unit_test(tells_lmstudios_engines_apart),
        cmocka_unit_test(keeps_the_row_of_what_cannot_run),
        cmocka_unit_test(restores_slots),
        cmocka_unit_test(says_no)};
    static const struct CMUnitTest vice_tests[] = {
        cmocka_unit_test(catches_a_restore_that_lies),
        cmocka_unit_test(catches_other_odds_after_a_branch),
        cmocka_unit_test(compares_answers_to_the_same_words),
        cmocka_unit_test(names_errors_and_goes_on),
        cmocka_unit_test(cuts_off_what_hangs),
        cmocka_unit_test(notes_a_stream_that_breaks),
        cmocka_unit_test(waits_for_a_slow_start),
        cmocka_unit_test(names_a_model_that_is_not_there),
        cmocka_unit_test(refuses_a_misconfigured_rival)};
    static const struct CMUnitTest timing_tests[] = {
        cmocka_unit_test(adds_less_than_a_fifth_of_a_millisecond),
        cmocka_unit_test(a_stall_hits_all_that_were_due)};
    struct err e = {0};
    if (argc != 4 || place_make(NULL, "kvasir-bench-test", place, &e) != OK) {
        fprintf(stderr, "usage: compare_test KVASIR STUB drivers|vices|timing|timing-quiet %s\n",
                e.msg);
        return 2;
    }
    program = argv[1];
    stub_program = argv[2];
    is_quiet = strcmp(argv[3], "timing-quiet") == 0;
    int failed = strcmp(argv[3], "drivers") == 0 ? cmocka_run_group_tests(driver_tests, NULL, NULL)
                 : strcmp(argv[3], "vices") == 0 ? cmocka_run_group_tests(vice_tests, NULL, NULL)
                                                 : cmocka_run_group_tests(timing_tests, NULL, NULL);
    place_remove(place);
    return failed ? 1 : 0;
}
