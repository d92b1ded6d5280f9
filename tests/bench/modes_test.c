/* SPDX-License-Identifier: MIT
 * modes_test.c — `kvasir bench` in its other modes, and each of its options.
 * Goal:   goals and impact follow from the samples; --simulate and --compute reproduce the
 * prototype's table, labelled everywhere; --plan runs nothing; ^C keeps what was measured; a rival
 * that never gets ready is cut off; runs are merged; every option does what help says. Usage:
 * modes_test KVASIR STUB modes|options */
#include <arpa/inet.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "os/clock.h"
#include "os/fs.h"
#include "tests/bench/bench_run.h"

#define RUN_MS_MAX 120000u

static void run(struct child_result *r, ...) __attribute__((sentinel));
static void run(struct child_result *r, ...)
{
    const char *argv[40] = {program, "bench"};
    size_t n = 2;
    va_list args;
    va_start(args, r);
    for (const char *word; (word = va_arg(args, const char *)) != NULL;)
        argv[n++] = word;
    va_end(args);
    *r = (struct child_result){0};
    MUST(child_run(argv, NULL, RUN_MS_MAX, r, e));
}

static const char *out_text(const struct child_result *r)
{
    return r->out.len ? r->out.ptr : "";
}

static void must_say(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in: %s", part, text);
}

static void page(struct buf *text)
{
    char path[PLACE_PATH_BYTES + 40];
    snprintf(path, sizeof path, "%s/out/report.html", place);
    buf_init(text, 64u << 20);
    MUST(place_read(path, text, e));
}

static bool is_port_free(const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool is_free = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return is_free;
}

/* ---- without a rival ---- */
/* The prototype's percentages, from the formula, and its impact. */
static void computes_the_prototypes_table(void **state)
{
    struct child_result r;
    static const char *const parts[] = {"Computed; nothing was measured",
                                        "from one formula (computed)",
                                        "14.0 %           14 %",
                                        "83.0 %           83 %",
                                        "98.0 %           98 %",
                                        "17.0 %           17 %",
                                        "41.1 %           41 %",
                                        "91.3 s a session",
                                        "7.61 minutes a day",
                                        "46.3 hours a year"};
    (void)state;
    run(&r, "--compute", "--rate", "219", NULL);
    assert_int_equal(r.code, 0);
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
        must_say(out_text(&r), parts[i]);
    child_result_release(&r);
    /* (N / rate - load) / (N / rate), with numbers of one's own. */
    run(&r, "--compute", "--rate=100", "--load-ms", "250", "--lengths", "100", "--impact-tokens",
        "1000", "--impact-sessions", "2", NULL);
    must_say(out_text(&r), "1.00 s,      75.00 %");
    must_say(out_text(&r), "0.33 minutes a day");
    child_result_release(&r);
}

/* What stands between two marks in a page, one after the other; false: no more. */
static bool next_part(const char **at, const char *begin, const char *end, struct slice *part)
{
    const char *from = strstr(*at, begin);
    const char *to = from ? strstr(from, end) : NULL;
    if (!to)
        return false;
    *part = (struct slice){from, (size_t)(to - from)};
    *at = to;
    return true;
}

static bool slice_has(struct slice text, const char *part)
{
    return memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

static bool has_label(struct slice text)
{
    return slice_has(text, "measured") || slice_has(text, "simulated") ||
           slice_has(text, "computed");
}

/* Each entry of a legend, each bar and each row with a figure says what kind of figure it is. */
static void check_labels_of_page(void)
{
    struct buf text;
    struct slice part;
    unsigned n = 0;
    page(&text);
    const char *at = text.ptr;
    while (next_part(&at, "<ul class=\"legend\">", "</ul>", &part)) {
        const char *in = part.ptr;
        struct slice entry;
        while (next_part(&in, "<li>", "</li>", &entry) && in < part.ptr + part.len) {
            if (!has_label(entry))
                fail_msg("a legend without a label: %.*s", (int)entry.len, entry.ptr);
            n++;
        }
    }
    assert_true(n >= 6);
    at = strstr(text.ptr, "<details");
    while (at && next_part(&at, "<tr><td>", "</tr>", &part)) {
        bool is_figure = slice_has(part, " ms<") || slice_has(part, " s<");
        if (is_figure && strstr(at, "How to reproduce") && !has_label(part) &&
            !slice_has(part, "resumed") && !slice_has(part, "conversation") &&
            !slice_has(part, "sessions"))
            fail_msg("a row without a label: %.*s", (int)part.len, part.ptr);
    }
    must_say(text.ptr, "The prototype’s table again");
    must_say(text.ptr, "<th>rival<span class=\"tag simulated\">");
    must_say(text.ptr, "No rival was measured.");
    buf_release(&text);
}

static void simulates_what_prefills_again(void **state)
{
    struct outcome o;
    unsigned n_measured = 0, n_simulated = 0;
    (void)state;
    bench(&o, "kvasir", 0, "--simulate", "--rate", "219", "--lengths", "67,512", "--prompt", "192",
          "--repeat", "1", "--answer", "8", "--threads", "1", NULL);
    const struct json *list = json_get(o.json, "samples"), *systems = json_get(o.json, "systems");
    for (size_t i = 0; i < list->count; i++) {
        const struct json *v = &list->items[i];
        bool is_ours = number(v, "system") <= 0;
        assert_true(text_is(v, "label", is_ours ? "measured" : "simulated"));
        n_measured += is_ours;
        n_simulated += !is_ours;
        if (!is_ours && !text_is(v, "case", "all turns")) { /* N / rate, and nothing kept */
            double expected = number(v, "prompt_tokens") / 219 * 1000;
            assert_true(fabs(number(v, "first_ms") - expected) < 0.01);
            assert_true(number(v, "cached_tokens") <= 0 && number(v, "restore_ms") < 0);
        }
    }
    assert_true(n_simulated > 15 && n_measured > n_simulated);
    assert_true(text_is(&systems->items[1], "driver", "simulated"));
    const struct json *command = json_get(&systems->items[0], "command");
    must_say(command->text.ptr, "--threads 1 ");
    /* Three sessions, ten turns, two lengths, in the terminal and on the page. */
    const char *text = out_text(&o.result);
    must_say(text, "the prototype's table again");
    must_say(text, "3 sessions, the first cold");
    must_say(text, "10 turns of a conversation");
    must_say(text, "67 tokens and a new turn, resumed");
    must_say(text, "512 tokens and a new turn, resumed");
    must_say(text, "17 %\n");
    must_say(text, "41 %\n");
    must_say(text, "14 %\n");
    must_say(text, "Impact (computed)");
    must_say(text, "simulated)");
    check_labels_of_page();
    release(&o);
}

static void simulates_nothing_from_nothing(void **state)
{
    struct child_result r;
    char out[PLACE_PATH_BYTES + 8];
    (void)state;
    snprintf(out, sizeof out, "%s/none", place);
    run(&r, "--simulate", "--scenario", "cold-start", "--repeat", "1", "--answer", "1", "--out",
        out, NULL);
    assert_int_equal(r.code, 1);
    must_say(r.err.ptr, "nothing to simulate from");
    child_result_release(&r);
}

/* ---- plans, ends, joins ---- */
static unsigned n_chats(struct stub *s)
{
    struct buf log;
    unsigned n = 0;
    stub_log(s, &log);
    for (const char *at = log.ptr; (at = strstr(at, "\nrequest ")) != NULL; at++)
        n++;
    buf_release(&log);
    return n;
}

static void plans_and_runs_nothing(void **state)
{
    struct stub s = {0};
    struct child_result r;
    char system[80], out[PLACE_PATH_BYTES + 8];
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "llama", NULL});
    snprintf(system, sizeof system, "llama-server=http://127.0.0.1:%u", s.port);
    snprintf(out, sizeof out, "%s/plan", place);
    run(&r, "--plan", "--scenario", "all", "--system", system, "--rate", "1000", "--out", out,
        NULL);
    assert_int_equal(r.code, 0);
    static const char *const names[] = {"cold-start", "resume", "chat",        "context", "agents",
                                        "tools",      "branch", "concurrency", "sizes"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        must_say(out_text(&r), names[i]);
    must_say(out_text(&r), "prompt tokens a second llama-server 1000\n");
    must_say(out_text(&r), " in all\n");
    assert_int_equal(n_chats(&s), 0);
    assert_int_not_equal(access(out, F_OK), 0);
    child_result_release(&r);
    child_release(&s.child);
}

/* "about 70 s in all" of a plan. */
static double planned_s(const char *model)
{
    struct child_result r;
    double value = 0;
    char unit[8] = "";
    run(&r, "--plan", "--quick", "--threads", "2", "--models", model, "--system", "kvasir",
        "--system", "openai=http://127.0.0.1:9", NULL);
    assert_int_equal(r.code, 0);
    const char *at = strstr(out_text(&r), "about ");
    assert_true(at && sscanf(at, "about %lf %7s in all", &value, unit) == 2);
    child_result_release(&r);
    return strcmp(unit, "min") == 0 ? value * 60 : value;
}

/* Models of ten and of a hundred megabytes take different times; the latter's were measured: 70 s
 * with SmolLM2 and llama-server. */
static void plans_by_the_size_of_the_model(void **state)
{
    char path[PLACE_PATH_BYTES + 20];
    (void)state;
    snprintf(path, sizeof path, "%s/large.gguf", place);
    FILE *f = fopen(path, "wbe");
    assert_true(f && ftruncate(fileno(f), 96 << 20) == 0 && fclose(f) == 0);
    double small = planned_s("models/skald/skald.gguf"), large = planned_s(path);
    if (!(small < 30 && large > 45 && large < 120))
        fail_msg("planned: %.0f s with skald, %.0f s with 96 MiB", small, large);
}

/* docs/benchmark-schema.md names every member that is written, and no other. */
static bool is_documented(const char *doc, struct slice name)
{
    char text[80], list[80];
    snprintf(text, sizeof text, "`" SLICE_FMT "`", SLICE_ARG(name));
    snprintf(list, sizeof list, "`" SLICE_FMT "[]`", SLICE_ARG(name));
    return strstr(doc, text) || strstr(doc, list);
}

static void check_members(const struct json *v, const char *doc)
{
    for (size_t i = 0; i < v->count; i++)
        if (!is_documented(doc, v->members[i].key))
            fail_msg("not documented: " SLICE_FMT, SLICE_ARG(v->members[i].key));
}

/* The first column of a table's rows: "| `a`, `b` | …". */
static void check_has_documented(const struct json *v, const char *rows, const char *end)
{
    unsigned n = 0;
    for (const char *at = rows; (at = strstr(at, "\n| `")) != NULL && at < end; at++) {
        const char *stop = strchr(at + 3, '|');
        for (const char *p = at + 3; (p = memchr(p, '`', (size_t)(stop - p))) != NULL;) {
            char name[40];
            size_t len = strcspn(p + 1, "`");
            snprintf(name, sizeof name, "%.*s", (int)len, p + 1);
            if (!json_get(v, name))
                fail_msg("documented, and not there: %s", name);
            p += len + 2;
            n++;
        }
    }
    assert_true(n > 20);
}

static void writes_what_is_documented(void **state)
{
    static const char *const texts[] = {"scenario", "case", "label", "outcome", "answer", "note"};
    struct stub s = {0};
    struct outcome o;
    struct err e = {0};
    char *doc = NULL;
    size_t len = 0;
    (void)state;
    assert_int_equal(
        fs_read_file(os_fs_real(), "docs/benchmark-schema.md", 1u << 20, &doc, &len, &e), OK);
    start_stub(
        &s, (const char *[]){"--dialect", "llama", "--token-us", "20", "--error-every", "9", NULL});
    bench(&o, "llama-server=http://127.0.0.1:PORT", s.port, "--scenario", "all", "--lengths", "128",
          "--streams", "2", "--prompt", "128", "--branches", "2", "--steps", "3", "--repeat", "1",
          "--answer", "3", NULL);
    check_members(o.json, doc);
    check_members(json_get(o.json, "run"), doc);
    check_members(&json_get(o.json, "systems")->items[0], doc);
    check_members(&json_get(o.json, "models")->items[0], doc);
    const struct json *list = json_get(o.json, "samples");
    const char *rows = strstr(doc, "## A sample"), *end = strstr(doc, "## Flags");
    assert_true(list->count > 30 && rows && end);
    for (size_t i = 0; i < list->count; i++) {
        const struct json *v = &list->items[i], *flags = json_get(v, "flags");
        check_members(v, doc);
        check_has_documented(v, rows, end);
        for (size_t k = 0; k < ARRAY_COUNT(texts); k++)
            assert_int_equal(json_get(v, texts[k])->kind, JSON_STRING);
        assert_true(is_documented(doc, json_get(v, "outcome")->text));
        for (size_t k = 0; k < flags->count; k++)
            assert_true(is_documented(doc, flags->items[k].text));
        const struct json *key = json_get(v, "key_ms"); /* unknown is null, never below 0 */
        assert_true(key->kind == JSON_NULL || number(v, "key_ms") >= 0);
    }
    mem_free(doc);
    release(&o);
    child_release(&s.child);
}

static void keeps_what_was_measured_at_an_interrupt(void **state)
{
    struct stub s = {0};
    struct child c = {0};
    struct outcome o = {0};
    char system[80], out[PLACE_PATH_BYTES + 8];
    int code = -1;
    unsigned n_done = 0;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "openai", "--delay-ms", "120", NULL});
    snprintf(system, sizeof system, "openai=http://127.0.0.1:%u", s.port);
    snprintf(out, sizeof out, "%s/out", place);
    place_remove(out);
    const char *argv[] = {program, "bench", "--system", system, "--scenario",
                          "chat",  "--out", out,        NULL};
    MUST(child_start(&c, argv, NULL, e));
    for (unsigned i = 0; i < 6000 && n_chats(&s) < 6; i++)
        clock_sleep_ms(5);
    child_signal(&c, SIGINT);
    MUST(child_wait(&c, 20000, &code, e));
    assert_int_equal(code, 1);
    read_results(&o);
    const struct json *v = json_get(json_get(o.json, "run"), "is_interrupted");
    assert_true(v && v->boolean);
    const struct json *list = json_get(o.json, "samples");
    for (size_t i = 0; i < list->count; i++) {
        assert_true(text_is(&list->items[i], "outcome", "done")); /* cut off by us is no failure */
        n_done += text_is(&list->items[i], "scenario", "chat");
    }
    assert_true(n_done >= 3 && n_done < 10);
    struct buf text;
    page(&text);
    must_say(text.ptr, "interrupted: incomplete");
    buf_release(&text);
    release(&o);
    child_release(&c);
    child_release(&s.child);
}

/* Nothing is awaited any more, and a signal that comes twice, as timeout(1) sends it to a process
 * and then to its group, is one. */
static void ends_at_once_at_an_interrupt(void **state)
{
    struct stub s = {0};
    struct child c = {0};
    struct outcome o = {0};
    char system[80], out[PLACE_PATH_BYTES + 8];
    int code = -1;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "openai", "--hang-every", "5", NULL});
    snprintf(system, sizeof system, "openai=http://127.0.0.1:%u", s.port);
    snprintf(out, sizeof out, "%s/out", place);
    place_remove(out);
    const char *argv[] = {program, "bench", "--system", system, "--scenario",
                          "chat",  "--out", out,        NULL};
    MUST(child_start(&c, argv, NULL, e));
    for (unsigned i = 0; i < 6000 && n_chats(&s) < 4; i++)
        clock_sleep_ms(5);
    clock_sleep_ms(300); /* the fifth is under way, and never answered */
    child_signal(&c, SIGINT);
    clock_sleep_ms(20);
    child_signal(&c, SIGINT);
    MUST(child_wait(&c, 5000, &code, e));
    assert_int_equal(code, 1);
    read_results(&o);
    const struct json *v = json_get(json_get(o.json, "run"), "is_interrupted");
    assert_true(v && v->boolean);
    assert_non_null(sample(&o, "chat", "turn", 1));
    assert_null(sample(&o, "chat", "turn", 2));
    release(&o);
    child_release(&c);
    child_release(&s.child);
}

/* Requests of an open loop that ^C cut off are no failures either. */
static void cuts_off_streams_at_an_interrupt(void **state)
{
    struct stub s = {0};
    struct child c = {0};
    struct outcome o = {0};
    char system[80], out[PLACE_PATH_BYTES + 8];
    int code = -1;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "openai", "--delay-ms", "400", NULL});
    snprintf(system, sizeof system, "openai=http://127.0.0.1:%u", s.port);
    snprintf(out, sizeof out, "%s/out", place);
    place_remove(out);
    const char *argv[] = {program,     "bench", "--system", system, "--scenario", "concurrency",
                          "--streams", "4",     "--out",    out,    NULL};
    MUST(child_start(&c, argv, NULL, e));
    for (unsigned i = 0; i < 6000 && n_chats(&s) < 6; i++)
        clock_sleep_ms(5);
    child_signal(&c, SIGINT);
    child_release(&s.child); /* as a server of its own group ends with it */
    MUST(child_wait(&c, 5000, &code, e));
    read_results(&o);
    const struct json *list = json_get(o.json, "samples");
    for (size_t i = 0; i < list->count; i++)
        assert_true(text_is(&list->items[i], "outcome", "done"));
    release(&o);
    child_release(&c);
}

static void cuts_off_a_rival_that_never_gets_ready(void **state)
{
    struct outcome o;
    char path[PLACE_PATH_BYTES + 20], system[PLACE_PATH_BYTES + 60];
    struct err e = {0};
    static const char script[] = "#!/bin/sh\n[ \"$1\" = --version ] && echo 1 && exit 0\n"
                                 "trap '' TERM\nexec sleep 1000\n";
    (void)state;
    snprintf(path, sizeof path, "%s/hangs", place);
    assert_int_equal(fs_write_file(os_fs_real(), path, script, sizeof script - 1, &e), OK);
    assert_int_equal(chmod(path, 0755), 0);
    snprintf(system, sizeof system, "llama-server=%s,name=hangs", path);
    uint64_t start = clock_now_ns();
    bench(&o, "kvasir", 0, "--system", system, "--models", "models/skald/skald.gguf", "--scenario",
          "chat", "--turns", "1", "--repeat", "1", "--answer", "4", "--cell-seconds", "2", NULL);
    assert_true(clock_ms_since(start) < 30000);
    const struct json *warm_up = must_have(&o, "warm-up", "first request", 1);
    assert_true(text_is(warm_up, "outcome", "hung"));
    assert_true(note_has(warm_up, "not ready after 2 s"));
    assert_true(text_is(must_have(&o, "chat", "turn", 0), "outcome", "done"));
    assert_true(text_is(must_have(&o, "chat", "not tried", 0), "outcome", "skipped"));
    release(&o);
}

/* Two runs become one: rows by name, samples behind each other, one page. */
static void merges_runs(void **state)
{
    struct stub s = {0};
    struct outcome o;
    struct child_result r;
    char first[PLACE_PATH_BYTES + 40], both[2 * PLACE_PATH_BYTES + 90], out[PLACE_PATH_BYTES + 8];
    size_t n[2];
    (void)state;
    snprintf(first, sizeof first, "%s/first.json", place);
    snprintf(out, sizeof out, "%s/out", place);
    snprintf(both, sizeof both, "%s,%s/out/results.json", first, place);
    start_stub(&s, (const char *[]){"--dialect", "llama", "--token-us", "20", NULL});
    for (unsigned i = 0; i < 2; i++) {
        char path[PLACE_PATH_BYTES + 40];
        snprintf(path, sizeof path, "%s/out/results.json", place);
        bench(&o, i ? "llama-server=http://127.0.0.1:PORT" : "openai=http://127.0.0.1:PORT", s.port,
              "--scenario", "chat", "--turns", "2", "--repeat", "1", "--answer", "2", NULL);
        n[i] = json_get(o.json, "samples")->count;
        release(&o);
        if (i == 0)
            assert_int_equal(rename(path, first), 0);
    }
    run(&r, "--report", both, "--out", out, NULL);
    assert_int_equal(r.code, 0);
    child_result_release(&r);
    o = (struct outcome){0};
    read_results(&o);
    assert_int_equal(json_get(o.json, "samples")->count, n[0] + n[1]);
    assert_int_equal(json_get(o.json, "systems")->count, 2);
    assert_int_equal(json_get(o.json, "models")->count, 1);
    const struct json *last = &json_get(o.json, "samples")->items[n[0] + n[1] - 1];
    assert_true(number(last, "system") >= 1 && number(last, "system") <= 1);
    release(&o);
    child_release(&s.child);
}

static void add_written(struct buf *json, unsigned system, const char *kase, double ms)
{
    buf_printf(
        json,
        "%s{\"scenario\":\"context\",\"label\":\"measured\",\"outcome\":\"done\",\"flags\":[],"
        "\"system\":%u,\"model\":0,\"case\":\"%s\",\"x\":8000,\"repeat\":0,\"key_ms\":%.1f,"
        "\"first_ms\":%.1f,\"prompt_tokens\":8000,\"cached_tokens\":0,\"note\":\"\"}",
        json->ptr[json->len - 1] == '[' ? "" : ",", system, kase, ms, ms);
}

/* Figures that somebody else measured: what follows from them is known to the digit. */
static void draws_goals_and_impact_from_what_was_measured(void **state)
{
    char path[PLACE_PATH_BYTES + 40], out[PLACE_PATH_BYTES + 40];
    struct child_result r;
    struct buf json, text;
    (void)state;
    buf_init(&json, 1u << 20);
    buf_add_text(
        &json, "{\"schema\":\"kvasir-bench\",\"schema_version\":1,\"run\":{\"threads\":2,"
               "\"impact_tokens\":20000,\"impact_sessions\":5},\"systems\":[{\"name\":\"kvasir\"},"
               "{\"name\":\"rival | one\"}],\"models\":[{\"name\":\"m\"}],\"samples\":[");
    for (unsigned system = 0; system < 2; system++) {
        add_written(&json, system, "cold", system ? 20000 : 10000);
        add_written(&json, system, "new turn after restart", system ? 140 : 50);
        add_written(&json, system, "repeat after restart", system ? 202 : 10);
    }
    buf_add_text(&json, "]}");
    snprintf(path, sizeof path, "%s/written.json", place);
    snprintf(out, sizeof out, "%s/out", place);
    MUST(fs_write_file(os_fs_real(), path, json.ptr, json.len, e));
    run(&r, "--report", path, "--out", out, NULL);
    assert_int_equal(r.code, 0);
    static const char *const parts[] = {
        "its cold prefill ÷ our new turn: 400.0× (at least 300×: met)",
        "its restore + new turn ÷ ours: 2.8× (at least 3×: MISSED)",
        "its restore + repeat ÷ ours: 20.2× (at least 20×: met)",
        "20000 tokens at 400 tokens a second, the cold rate of rival | one with m, are 50.0 s a "
        "session",
        "5 sessions a day make 4.2 minutes a day, 25 hours a year"};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
        must_say(out_text(&r), parts[i]);
    child_result_release(&r);
    page(&text);
    must_say(text.ptr, "<td>2.8×</td><td>3×</td><td class=\"bad\">missed</td>");
    buf_release(&text);
    snprintf(path, sizeof path, "%s/out/report.md", place);
    buf_init(&text, 1u << 20);
    MUST(place_read(path, &text, e));
    must_say(text.ptr, "| 8000 tokens, new turn after restart, pages dropped | 50 ms, 0 of 8000 | "
                       "140 ms, 0 of 8000 | 2.8 |");
    must_say(text.ptr, "rival \\| one");
    must_say(text.ptr, " 2.8× | 3× | **missed** |");
    buf_release(&text);
    buf_release(&json);
}

/* Whoever runs the bench without a rival is told who could be one: those on their default ports. */
static void offers_servers_on_their_default_ports(void **state)
{
    static const struct {
        const char *dialect, *port, *offer;
    } known[] = {{"llama", "9931", "--system llama-server=http://127.0.0.1:9931"},
                 {"llama", "8080", "--system llama-server=http://127.0.0.1:8080"},
                 {"mlx", "8080", "--system mlx_lm.server=http://127.0.0.1:8080"},
                 {"ollama", "11434", "--system ollama=http://127.0.0.1:11434"},
                 {"lmstudio", "1234", "--system lmstudio=http://127.0.0.1:1234"}};
    uint32_t n_checked = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        struct stub s = {0};
        struct child_result r;
        char system[80];
        if (!is_port_free(known[i].port))
            continue; /* somebody's own server: not ours to end */
        start_stub(&s, (const char *[]){"--dialect", known[i].dialect, "--port", known[i].port,
                                        "--token-us", "20", NULL});
        snprintf(system, sizeof system, "openai=http://127.0.0.1:%s", known[i].port);
        run(&r, "--system", system, "--scenario", "chat", "--turns", "1", "--repeat", "1",
            "--answer", "2", "--out", place, NULL);
        must_say(r.err.len ? r.err.ptr : "", known[i].offer);
        if (strcmp(known[i].dialect, "mlx") == 0)
            assert_null(strstr(r.err.ptr, "llama-server="));
        n_checked++;
        child_result_release(&r);
        child_release(&s.child);
    }
    if (n_checked == 0)
        skip();
}

/* ---- options ---- */
/* Numbers of everything, counted. */
static void does_as_many_as_it_is_told(void **state)
{
    struct stub s = {0};
    struct outcome o;
    (void)state;
    start_stub(&s, (const char *[]){"--dialect", "llama", "--token-us", "20", NULL});
    bench(&o, "llama-server=http://127.0.0.1:PORT", s.port, "--scenario",
          "resume,agents,tools,branch,concurrency,sizes,context", "--sessions", "2", "--agents",
          "2", "--steps", "3", "--branches", "2", "--streams", "1,3", "--prompt", "300",
          "--lengths", "128,400", "--repeat", "1", "--answer", "3", NULL);
    assert_non_null(sample(&o, "resume", "session", 1));
    assert_null(sample(&o, "resume", "session", 2));
    assert_non_null(sample(&o, "agents", "step", 1)); /* 2 agents, a third of 3 steps */
    assert_null(sample(&o, "agents", "step", 2));
    assert_non_null(sample(&o, "agents", "child's first step", 1));
    assert_non_null(sample(&o, "tools", "step", 2));
    assert_null(sample(&o, "tools", "step", 3));
    assert_non_null(sample(&o, "branch", "live branch", 1));
    assert_null(sample(&o, "branch", "live branch", 2));
    assert_non_null(sample(&o, "branch", "branch after restart", 1));
    assert_true(text_is(must_have(&o, "concurrency", "request", 8), "outcome", "done"));
    assert_true(number(must_have(&o, "concurrency", "all requests", 1), "x") >= 3);
    must_say(out_text(&o.result), "between p50");
    must_say(out_text(&o.result), "tokens/s");
    assert_non_null(sample(&o, "context", "cold", 1));
    assert_null(sample(&o, "context", "cold", 2));
    assert_non_null(sample(&o, "sizes", "cold", 0));
    double n = number(must_have(&o, "resume", "session", 0), "prompt_tokens");
    assert_true(n > 200 && n < 450);
    assert_true(number(must_have(&o, "resume", "session", 0), "output_tokens") <= 3);
    release(&o);
    child_release(&s.child);
}

/* The log's lines from the third on: without the warm-ups. */
static void prompts_of(struct stub *s, struct buf *digests)
{
    struct buf log;
    unsigned n = 0;
    buf_init(digests, 1u << 20);
    stub_log(s, &log);
    for (const char *at = log.ptr; (at = strstr(at, "\nrequest ")) != NULL; at++) {
        char digest[20], path[40];
        if (sscanf(at, "\nrequest %*u %*u %*u %*u %19s %39s", digest, path) == 2 && ++n > 2)
            buf_printf(digests, "%s %s\n", digest, path);
    }
    buf_release(&log);
}

static void words_of(struct buf *digests, const char *option, const char *value)
{
    struct stub s = {0};
    struct outcome o;
    start_stub(&s, (const char *[]){"--dialect", "openai", NULL});
    bench(&o, "openai=http://127.0.0.1:PORT", s.port, "--scenario", "chat", "--turns", "2",
          "--repeat", "2", "--answer", "2", option, value, NULL);
    prompts_of(&s, digests);
    release(&o);
    child_release(&s.child);
}

static void draws_its_words_by_the_seed(void **state)
{
    struct buf one, again, other, text;
    (void)state;
    words_of(&one, "--seed", "1");
    words_of(&again, "--seed", "1");
    words_of(&other, "--seed", "2");
    assert_true(one.len > 100 && slice_equal(buf_slice(&one), buf_slice(&again)));
    assert_false(slice_equal(buf_slice(&one), buf_slice(&other)));
    must_say(one.ptr, "/v1/chat/completions\n");
    words_of(&text, "--text", NULL);
    must_say(text.ptr, "/v1/completions\n");
    buf_release(&one);
    buf_release(&again);
    buf_release(&other);
    buf_release(&text);
}

/* A started llama-server: its words become its flags, and what cannot be kept is "no". */
static void gives_a_rival_its_options(void **state)
{
    struct outcome o;
    char first[PLACE_PATH_BYTES + 90], second[PLACE_PATH_BYTES + 60];
    (void)state;
    snprintf(first, sizeof first, "llama-server=%s,swa-full,cache-reuse=64,kill,name=one",
             stub_program);
    snprintf(second, sizeof second, "llama-server=%s,no-save,name=two", stub_program);
    bench(&o, first, 0, "--system", second, "--models", "skald=models/skald/skald.gguf",
          "--scenario", "context,cold-start", "--lengths", "300", "--repeat", "1", "--answer", "3",
          "--threads", "3", NULL);
    const struct json *systems = json_get(o.json, "systems");
    const struct json *command = json_get(&systems->items[0], "command");
    must_say(command->text.ptr, " --swa-full --cache-reuse 64");
    must_say(command->text.ptr, " -t 3 ");
    must_say(command->text.ptr, " --slot-save-path ");
    command = json_get(&systems->items[1], "command");
    assert_null(strstr(command->text.ptr, "--swa-full"));
    assert_null(strstr(command->text.ptr, "--slot-save-path"));
    const struct json *after = must_have(&o, "context", "new turn after restart", 0);
    assert_true(text_is(after, "outcome", "done") && number(after, "restore_ms") > 0);
    assert_false(has_flag(after, "not reused"));
    assert_true(text_is(must_have(&o, "context", "new turn after restart", 1), "outcome", "no"));
    assert_true(text_is(must_have(&o, "cold-start", "page cache dropped", 0), "outcome", "done"));
    assert_true(text_is(&systems->items[0], "version", "stub 1"));
    release(&o);
}

/* kvasir's own words: without a store nothing outlives it; killed, it resumes all the same. */
static void gives_kvasir_its_options(void **state)
{
    struct outcome o;
    (void)state;
    bench(&o, "kvasir,store=none", 0, "--system", "kvasir,kill", "--system", "kvasir,hygiene",
          "--models", "models/skald/skald.gguf", "--scenario", "context,cold-start", "--lengths",
          "200", "--repeat", "1", "--answer", "2", NULL);
    assert_true(text_is(must_have(&o, "context", "new turn after restart", 0), "outcome", "no"));
    /* The weights as it keeps them, too. */
    const struct json *dropped = must_have(&o, "cold-start", "page cache dropped", 0);
    if (!note_has(dropped, "out of the page cache: state, skald.gguf, ") ||
        !note_has(dropped, ".packed"))
        fail_msg("dropped: %s", json_get(dropped, "note")->text.ptr);
    const struct json *after = must_have(&o, "context", "new turn after restart", 1);
    assert_true(text_is(after, "outcome", "done"));
    assert_false(has_flag(after, "not reused"));
    const struct json *hygiene = must_have(&o, "context", "new turn after restart", 2);
    assert_true(text_is(hygiene, "outcome", "done"));
    release(&o);
}

/* A row with a value refuses what is none; what is unknown is refused by name. */
static void refuses_nonsense(void **state)
{
    static const char *const numbers[] = {
        "--lengths",  "--sessions", "--turns",   "--agents",        "--steps",          "--streams",
        "--branches", "--prompt",   "--answer",  "--repeat",        "--cell-seconds",   "--threads",
        "--seed",     "--rate",     "--load-ms", "--impact-tokens", "--impact-sessions"};
    static const char *const words[][3] = {
        {"--scenario", "nothing", "no scenario \"nothing\""},
        {"--system", "nobody", "no system \"nobody\""},
        {"--system", "kvasir,nothing", "unknown option \"nothing\""},
        {"--report", "absent.json", "absent.json"},
        {"--nothing", "x", "unknown option --nothing"}};
    struct child_result r;
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        run(&r, numbers[i], "-5x", NULL);
        assert_int_equal(r.code, 2);
        must_say(r.err.ptr, numbers[i]);
        child_result_release(&r);
    }
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        run(&r, words[i][0], words[i][1], NULL);
        assert_int_equal(r.code, strcmp(words[i][0], "--report") == 0 ? 1 : 2);
        must_say(r.err.ptr, words[i][2]);
        child_result_release(&r);
    }
    run(&r, "--help", NULL);
    assert_int_equal(r.code, 0);
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
        must_say(out_text(&r), numbers[i]);
    child_result_release(&r);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest modes[] = {
        cmocka_unit_test(computes_the_prototypes_table),
        cmocka_unit_test(simulates_what_prefills_again),
        cmocka_unit_test(simulates_nothing_from_nothing),
        cmocka_unit_test(plans_and_runs_nothing),
        cmocka_unit_test(plans_by_the_size_of_the_model),
        cmocka_unit_test(writes_what_is_documented),
        cmocka_unit_test(keeps_what_was_measured_at_an_interrupt),
        cmocka_unit_test(ends_at_once_at_an_interrupt),
        cmocka_unit_test(cuts_off_streams_at_an_interrupt),
        cmocka_unit_test(cuts_off_a_rival_that_never_gets_ready),
        cmocka_unit_test(merges_runs),
        cmocka_unit_test(draws_goals_and_impact_from_what_was_measured),
        cmocka_unit_test(offers_servers_on_their_default_ports)};
    static const struct CMUnitTest options[] = {
        cmocka_unit_test(does_as_many_as_it_is_told), cmocka_unit_test(draws_its_words_by_the_seed),
        cmocka_unit_test(gives_a_rival_its_options), cmocka_unit_test(gives_kvasir_its_options),
        cmocka_unit_test(refuses_nonsense)};
    struct err e = {0};
    if (argc != 4 || place_make(NULL, "kvasir-bench-test", place, &e) != OK) {
        fprintf(stderr, "usage: modes_test KVASIR STUB modes|options %s\n", e.msg);
        return 2;
    }
    program = argv[1];
    stub_program = argv[2];
    int failed = strcmp(argv[3], "modes") == 0 ? cmocka_run_group_tests(modes, NULL, NULL)
                                               : cmocka_run_group_tests(options, NULL, NULL);
    place_remove(place);
    return failed ? 1 : 0;
}
