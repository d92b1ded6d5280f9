/* SPDX-License-Identifier: MIT
 * cli_test.c — goal: what scripts rely on: exit codes 0, 1 and 2, one-line errors on stderr, JSON
 * lines answered in order, and commands that share one store. Method: the program run as a shell
 * would run it, with the embedded model. */
#include <signal.h>
#include <stdio.h>

#include "e2e.h"

#define LINES_MAX 64u

static const char who[] = "I am skald, a tiny recall model.";

/* stdout as text, never NULL. */
static const char *text_of(const struct buf *b)
{
    return b->len ? b->ptr : "";
}

static uint32_t count_lines(const struct buf *b)
{
    uint32_t n = 0;
    for (size_t i = 0; i < b->len; i++)
        n += b->ptr[i] == '\n';
    return n;
}

/* One message on stderr, beginning with "kvasir: ", and nothing on stdout. */
static void check_refusal(const struct child_result *r, int code, const char *what)
{
    if (r->code != code)
        fail_msg("%s: exit code %d, not %d: %s", what, r->code, code, text_of(&r->err));
    if (r->out.len != 0)
        fail_msg("%s: stdout has \"%s\"", what, text_of(&r->out));
    if (!slice_starts(buf_slice(&r->err), SLICE_LIT("kvasir: ")) || count_lines(&r->err) != 1)
        fail_msg("%s: not one line: \"%s\"", what, text_of(&r->err));
}

struct lines {
    struct arena arena;
    struct json *line[LINES_MAX];
    uint32_t n;
};

/* Each line of stdout as JSON. */
static void read_lines(const struct child_result *r, struct lines *out)
{
    const char *at = text_of(&r->out), *end;
    *out = (struct lines){0};
    arena_init(&out->arena, 1u << 26);
    for (; (end = strchr(at, '\n')); at = end + 1) {
        assert_true(out->n < LINES_MAX);
        MUST(
            json_parse((struct slice){at, (size_t)(end - at)}, &out->arena, &out->line[out->n], e));
        out->n++;
    }
    assert_int_equal(*at, '\0'); /* the last line is a whole one */
}

static bool is_error(const struct json *line)
{
    const struct json *error = json_get(line, "error");
    return error && error->kind == JSON_STRING && error->text.len > 0;
}

/* ---- exit codes ---- */
static void wrong_usage_is_two(void **state)
{
    static const char *const cases[][4] = {
        {"bogus"},
        {"serve", "--bogus"},
        {"serve", "--port"},
        {"serve", "--port", "x"},
        {"serve", "--port", "70000"},
        {"serve", "--kv-type", "f7"},
        {"run", "--temperature", "hot"},
        {"store", "verify", "one", "extra"},
        {"eval", "perplexity"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct child_result r;
        e2e_run(&r, NULL, cases[i][0], cases[i][1], cases[i][2], cases[i][3], NULL);
        check_refusal(&r, 2, cases[i][1] ? cases[i][1] : cases[i][0]);
        child_result_release(&r);
    }
}

static void failure_is_one_and_says_why(void **state)
{
    const char *nowhere = e2e_path("nowhere.gguf"), *noise = e2e_path("noise.gguf");
    (void)state;
    MUST(place_write(noise, SLICE_LIT("GGUF this is not one"), e));
    const char *const cases[][4] = {
        {"run", "-m", nowhere, "hi"},
        {"run", "-m", noise, "hi"},
        {"serve", "-m", nowhere},
        {"store", "verify", "--store", nowhere},
        {"store", "stat", "--store", nowhere},
        {"eval", "tokenize", "-m", noise},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct child_result r;
        e2e_run(&r, "{}\n", cases[i][0], cases[i][1], cases[i][2], cases[i][3], NULL);
        check_refusal(&r, 1, cases[i][0]);
        child_result_release(&r);
    }
}

static void help_and_version_are_zero(void **state)
{
    static const char *const cases[][3] = {
        {"--help"},    {"serve", "--help"}, {"help", "serve"}, {"store", "verify", "--help"},
        {"--version"}, {"version"},         {"models"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct child_result r;
        e2e_run(&r, NULL, cases[i][0], cases[i][1], cases[i][2], NULL);
        if (r.code != 0 || r.out.len == 0 || r.err.len != 0)
            fail_msg("%s: exit code %d, %zu bytes on stdout: %s", cases[i][0], r.code, r.out.len,
                     text_of(&r.err));
        child_result_release(&r);
    }
}

/* ---- run and chat ---- */
static void run_answers_once(void **state)
{
    struct child_result r;
    (void)state;
    e2e_run(&r, NULL, "run", "--store", "none", "--temperature", "0", "who", "are", "you?", NULL);
    assert_int_equal(r.code, 0);
    assert_true(slice_starts(buf_slice(&r.out), slice_of(who)));
    child_result_release(&r);
    e2e_run(&r, "who are you?\n", "run", "--store", "none", "--temperature", "0", NULL);
    assert_int_equal(r.code, 0);
    assert_true(slice_starts(buf_slice(&r.out), slice_of(who)));
    child_result_release(&r);
}

static void run_draws_the_same_from_the_same_seed(void **state)
{
    struct child_result r[3];
    static const char *const seeds[] = {"5", "5", "6"};
    (void)state;
    for (int i = 0; i < 3; i++)
        e2e_run(&r[i], NULL, "run", "--store", "none", "--temperature", "5", "--top-k", "0",
                "--top-p", "1", "--min-p", "0", "-n", "12", "--seed", seeds[i], "who are you?",
                NULL);
    assert_true(r[0].out.len > 0);
    assert_true(slice_equal(buf_slice(&r[0].out), buf_slice(&r[1].out)));
    assert_false(slice_equal(buf_slice(&r[0].out), buf_slice(&r[2].out)));
    for (int i = 0; i < 3; i++)
        child_result_release(&r[i]);
}

static void chat_goes_on_under_its_name(void **state)
{
    struct child_result r;
    const char *store = e2e_path("chat");
    (void)state;
    e2e_run(&r, "Remember: The gate code of Velmora is KX-4821.\nwho are you?\n/quit\nnever read\n",
            "chat", "--store", store, "--session", "trip", "--temperature", "0", NULL);
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(text_of(&r.out), "Noted."));
    assert_non_null(strstr(text_of(&r.out), who));
    assert_null(strstr(text_of(&r.out), "does not say"));
    child_result_release(&r);
    e2e_run(&r, "What is the gate code of Velmora?\n", "chat", "--store", store, "--session",
            "trip", "--temperature", "0", "--timings", NULL);
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(text_of(&r.out), "The gate code of Velmora is KX-4821."));
    assert_non_null(strstr(text_of(&r.err), "from disk"));
    assert_null(strstr(text_of(&r.err), " 0 from disk"));
    child_result_release(&r);
}

/* ---- eval ---- */
static void bad_lines_are_answered_in_their_place(void **state)
{
    static const char *const commands[][2] = {
        {"tokenize", "{\"text\":\"Hello\"}"},
        {"logits", "{\"tokens\":[2,10,11],\"top\":3}"},
        {"generate", "{\"tokens\":[2,10,11],\"n\":3,\"temperature\":0}"},
        {"nll", "{\"tokens\":[2,10,11]}"},
        {"render", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"},
        {"jinja", "{\"template\":\"{{ a + 1 }}\",\"context\":{\"a\":1}}"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        struct child_result r;
        struct lines lines;
        struct buf input;
        const char *good = commands[i][1];
        buf_init(&input, 1u << 16);
        buf_printf(&input, "%s\nnot json\n%s\n[]\n{}\n%s\n", good, good, good);
        e2e_run(&r, input.ptr, "eval", commands[i][0], NULL);
        if (r.code != 0)
            fail_msg("eval %s: exit code %d: %s", commands[i][0], r.code, text_of(&r.err));
        read_lines(&r, &lines);
        if (lines.n != 6)
            fail_msg("eval %s: %u answers to 6 lines", commands[i][0], lines.n);
        for (uint32_t line = 0; line < 6; line++) {
            bool is_bad = line == 1 || line == 3 || line == 4;
            if (is_error(lines.line[line]) != is_bad)
                fail_msg("eval %s: line %u: %s", commands[i][0], line + 1, text_of(&r.out));
        }
        arena_release(&lines.arena);
        child_result_release(&r);
        buf_release(&input);
    }
}

static void tokens_go_there_and_back(void **state)
{
    static const char text[] = "Ærø — 東京 🔑★ <start_of_turn> The gate  code\\n";
    struct child_result r, back;
    struct lines lines;
    struct buf input;
    (void)state;
    buf_init(&input, 1u << 16);
    buf_printf(&input, "{\"text\":\"%s\",\"add_special\":false,\"parse_special\":false}\n", text);
    e2e_run(&r, input.ptr, "eval", "tokenize", NULL);
    e2e_run(&back, r.out.ptr, "eval", "tokenize", "--detokenize", NULL);
    assert_int_equal(back.code, 0);
    read_lines(&back, &lines);
    assert_int_equal(lines.n, 1);
    const struct json *v = json_get(lines.line[0], "text");
    assert_non_null(v);
    assert_true(slice_equal(v->text, SLICE_LIT("Ærø — 東京 🔑★ <start_of_turn> The gate  code\n")));
    arena_release(&lines.arena);
    child_result_release(&r);
    child_result_release(&back);
    buf_release(&input);
}

/* A prompt of 300 tokens, with and without a store, in chunks and with threads: the same digests.
 */
static void logits_do_not_depend_on_how_they_are_computed(void **state)
{
    static const char *const ways[][4] = {
        {"--chunk", "1"},     {"--chunk", "7"},
        {"--threads", "1"},   {"--threads", "3"},
        {"--isa", "ref"},     {"--store", "STORE"},
        {"--store", "STORE"}, {"--store", "STORE", "--chunk", "64"}};
    struct child_result first;
    struct buf input;
    (void)state;
    buf_init(&input, 1u << 16);
    buf_add_text(&input, "{\"tokens\":[2");
    for (unsigned i = 1; i < 300; i++)
        buf_printf(&input, ",%u", 300 + i * 7919 % 3000);
    buf_add_text(&input, "],\"positions\":[0,63,64,255,299],\"top\":2,\"digest\":true}\n");
    e2e_run(&first, input.ptr, "eval", "logits", NULL);
    assert_int_equal(first.code, 0);
    const char *end = strstr(text_of(&first.out), ",\"cached\"");
    assert_non_null(end);
    size_t n = (size_t)(end - first.out.ptr);
    for (size_t i = 0; i < ARRAY_COUNT(ways); i++) {
        struct child_result r;
        const char *value = strcmp(ways[i][1], "STORE") == 0 ? e2e_path("logits") : ways[i][1];
        e2e_run(&r, input.ptr, "eval", "logits", ways[i][0], value, ways[i][2], ways[i][3], NULL);
        if (r.code != 0 || r.out.len < n || memcmp(r.out.ptr, first.out.ptr, n) != 0)
            fail_msg("%s %s: %s\nand not %s", ways[i][0], value, text_of(&r.out), first.out.ptr);
        child_result_release(&r);
    }
    child_result_release(&first);
    buf_release(&input);
}

/* ---- the store's commands, also beside a server ---- */
static int64_t records_of(const char *store)
{
    struct child_result r;
    struct lines lines;
    int64_t n = 0;
    e2e_run(&r, NULL, "store", "stat", "--json", "--store", store, NULL);
    assert_int_equal(r.code, 0);
    read_lines(&r, &lines);
    assert_int_equal(lines.n, 1);
    const struct json *records = json_get(lines.line[0], "records");
    for (size_t i = 0; records && i < records->count; i++)
        n += records->members[i].value.integer;
    arena_release(&lines.arena);
    child_result_release(&r);
    return n;
}

static void the_store_is_seen_while_a_server_runs(void **state)
{
    const char *store = e2e_path("seen");
    struct serve s;
    struct chat_reply reply;
    struct child_result r;
    struct lines lines;
    (void)state;
    e2e_serve(&s, store, NULL);
    struct buf messages = e2e_user("who are you?");
    e2e_ask(&s, &(struct chat_ask){.messages = buf_slice(&messages), .max_tokens = 32}, &reply);
    chat_reply_release(&reply);
    MUST(serve_wait_durable(&s, 10000, e));
    for (int i = 0; i < 2; i++) {
        int64_t n = records_of(store);
        assert_true(n > 3);
        e2e_run(&r, NULL, "store", "verify", "--store", store, NULL);
        assert_int_equal(r.code, 0);
        child_result_release(&r);
        e2e_run(&r, NULL, "store", "ls", "--records", "--json", "--store", store, NULL);
        assert_int_equal(r.code, 0);
        read_lines(&r, &lines);
        assert_int_equal(lines.line[0]->count, n);
        arena_release(&lines.arena);
        child_result_release(&r);
        serve_kill(&s);
    }
    /* The command line finds what the server computed. */
    e2e_run(&r, NULL, "run", "--store", store, "--temperature", "0", "--timings", "who are you?",
            NULL);
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(text_of(&r.err), " 0 computed"));
    child_result_release(&r);
    buf_release(&messages);
}

static void a_server_stops_gently(void **state)
{
    struct serve s;
    struct e2e_task task;
    int code = -1;
    (void)state;
    e2e_serve(&s, NULL, NULL);
    struct buf messages = e2e_user("who are you?");
    struct chat_ask a = {.messages = buf_slice(&messages),
                         .more = "\"ignore_eos\":true",
                         .max_tokens = 100,
                         .is_stream = true};
    e2e_task_start(&task, &s, &a);
    clock_sleep_ms(100);
    MUST(serve_stop(&s, &code, e));
    assert_int_equal(code, 0);
    e2e_task_join(&task);
    assert_int_equal(task.st, OK); /* what ran was finished first */
    assert_true(task.reply.is_done);
    assert_int_equal(task.reply.completion_tokens, 100);
    chat_reply_release(&task.reply);
    buf_release(&messages);
}

static void a_taken_port_is_a_clear_error(void **state)
{
    struct serve s;
    struct child_result r;
    (void)state;
    e2e_serve(&s, NULL, NULL);
    e2e_run(&r, NULL, "serve", "--store", "none", "--port", strrchr(s.url, ':') + 1, NULL);
    assert_int_equal(r.code, 1);
    assert_true(r.err.len > 0 && r.out.len == 0);
    child_result_release(&r);
    serve_kill(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage_is_two),
        cmocka_unit_test(failure_is_one_and_says_why),
        cmocka_unit_test(help_and_version_are_zero),
        cmocka_unit_test(run_answers_once),
        cmocka_unit_test(run_draws_the_same_from_the_same_seed),
        cmocka_unit_test(chat_goes_on_under_its_name),
        cmocka_unit_test(bad_lines_are_answered_in_their_place),
        cmocka_unit_test(tokens_go_there_and_back),
        cmocka_unit_test(logits_do_not_depend_on_how_they_are_computed),
        cmocka_unit_test(the_store_is_seen_while_a_server_runs),
        cmocka_unit_test(a_server_stops_gently),
        cmocka_unit_test(a_taken_port_is_a_clear_error),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
