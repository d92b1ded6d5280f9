/* SPDX-License-Identifier: MIT
 * share_test.c — goal: many clients at once get their own right answers, the same prompt is
 * computed once, agents with the same system prompt compute and store only what is their own, and a
 * client that goes away gives its place back at once. Method: one server; rows of skald's
 * evaluation asked side by side; a hang-up in the middle of a prefill of 20,000 tokens; twenty
 * agents one after another and five at once, the server restarted and killed on the way. */
#include <stdio.h>

#include "e2e.h"

#define N_STREAMS    8u
#define LONG_ROW     "public-104" /* 20,226 tokens */
#define TWICE_ROW    "public-009" /* 3,344 tokens */
#define TWICE_MAX    64 /* a page: what follows the last point that both can resume from */
#define HANG_UP_MS   700u
#define FREE_MS_MAX  2000u
#define SHORT_MS_MAX 5000u

static struct serve server;

static int set_up(void **state)
{
    e2e_rows_read(state);
    e2e_serve(&server, e2e_path("store"), NULL);
    return 0;
}

static int tear_down(void **state)
{
    int code = -1;
    MUST(serve_stop(&server, &code, e));
    assert_int_equal(code, 0);
    return e2e_rows_release(state);
}

static struct chat_ask ask_of(const struct row *row)
{
    return (struct chat_ask){
        .messages = row->messages, .tools = row->tools, .max_tokens = 96, .is_stream = true};
}

static void eight_streams_are_all_right(void **state)
{
    const struct row *by_length[ROWS_MAX];
    struct e2e_task tasks[N_STREAMS];
    (void)state;
    e2e_rows_by_length(by_length);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        struct chat_ask a = ask_of(by_length[i]);
        e2e_task_start(&tasks[i], &server, &a);
    }
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        struct e2e_task *t = &tasks[i];
        e2e_task_join(t);
        if (t->st != OK || !t->reply.is_done)
            fail_msg("%s: %s", by_length[i]->id, t->e.msg);
        if (!chat_is_answer(&t->reply, by_length[i]->answer))
            fail_msg("%s: \"%s\"", by_length[i]->id, t->reply.choices[0].text.ptr);
        chat_reply_release(&t->reply);
    }
}

static void the_same_prompt_is_computed_once(void **state)
{
    const struct row *row = rows_find(&e2e_rows, TWICE_ROW);
    struct e2e_task tasks[2];
    struct chat_ask a = ask_of(row);
    int64_t computed = 0;
    (void)state;
    e2e_task_start(&tasks[0], &server, &a);
    clock_sleep_ms(100); /* the first is in its prefill */
    e2e_task_start(&tasks[1], &server, &a);
    for (int i = 0; i < 2; i++) {
        e2e_task_join(&tasks[i]);
        assert_int_equal(tasks[i].st, OK);
        assert_true(chat_is_answer(&tasks[i].reply, row->answer));
        computed += tasks[i].reply.computed;
    }
    e2e_check_same(&tasks[0].reply, &tasks[1].reply, "the same prompt twice");
    if (computed > (int64_t)row->n_tokens + TWICE_MAX)
        fail_msg("%lld tokens computed for a prompt of %u", (long long)computed, row->n_tokens);
    chat_reply_release(&tasks[0].reply);
    chat_reply_release(&tasks[1].reply);
}

static void a_hang_up_frees_the_slot(void **state)
{
    struct chat_reply r;
    struct err why = {0};
    struct chat_ask a = ask_of(rows_find(&e2e_rows, LONG_ROW));
    a.ms_max = HANG_UP_MS;
    (void)state;
    assert_int_not_equal(chat_send(server.url, server.http, &a, &r, &why), OK);
    chat_reply_release(&r);
    uint64_t start = clock_now_ns();
    int64_t running = 1, waiting = 1, cancelled = 0;
    while (running + waiting > 0) {
        MUST(serve_stat(&server, "requests.running", &running, e));
        MUST(serve_stat(&server, "requests.waiting", &waiting, e));
        if (clock_ms_since(start) > FREE_MS_MAX)
            fail_msg("still %lld running after %u ms", (long long)running, FREE_MS_MAX);
        clock_sleep_ms(5);
    }
    print_message("free %.0f ms after the hang-up\n", clock_ms_since(start));
    MUST(serve_stat(&server, "requests.cancelled", &cancelled, e));
    assert_true(cancelled >= 1);
    start = clock_now_ns();
    struct buf messages = e2e_user("who are you?");
    e2e_ask(&server, &(struct chat_ask){.messages = buf_slice(&messages), .max_tokens = 32}, &r);
    assert_string_equal(r.choices[0].text.ptr, "I am skald, a tiny recall model.");
    assert_true(clock_ms_since(start) < SHORT_MS_MAX);
    chat_reply_release(&r);
    buf_release(&messages);
}

/* What the cancelled request had computed is not lost, and not wrong. */
static void a_cancelled_prefill_is_gone_on_with(void **state)
{
    const struct row *row = rows_find(&e2e_rows, LONG_ROW);
    struct chat_reply r;
    (void)state;
    e2e_ask_row(&server, row, NULL, &r);
    assert_true(chat_is_answer(&r, row->answer));
    print_message("%lld of %lld tokens were there already\n", (long long)(r.memory + r.disk),
                  (long long)r.prompt_tokens);
    assert_true(r.memory + r.disk > 0);
    chat_reply_release(&r);
}

/* A stream goes on while another client's long prompt is prefilled. */
static void a_long_prompt_does_not_stall_a_stream(void **state)
{
    struct e2e_task slow;
    struct chat_reply r;
    struct chat_ask a = ask_of(rows_find(&e2e_rows, "public-015")); /* 23,610 tokens */
    struct buf messages = e2e_user("who are you?");
    (void)state;
    a.ms_max = 4 * HANG_UP_MS;
    e2e_task_start(&slow, &server, &a);
    clock_sleep_ms(300);
    struct chat_ask quick = {.messages = buf_slice(&messages),
                             .more = "\"ignore_eos\":true",
                             .max_tokens = 3,
                             .is_stream = true};
    e2e_ask(&server, &quick, &r);
    print_message("three tokens in %.0f ms beside a prefill\n", r.total_ms);
    assert_true(r.is_done && r.completion_tokens == 3);
    assert_true(r.total_ms < 4 * HANG_UP_MS);
    e2e_task_join(&slow);
    chat_reply_release(&slow.reply);
    chat_reply_release(&r);
    buf_release(&messages);
}

/* ---- agents ---- */
#define N_AGENTS          20u
#define N_RULES           105u /* between two points that are kept anyway */
#define AGENT_OWN_MAX     40   /* tokens: the question, and the marks of the turn */
#define AGENT_BYTES_SHARE 5 /* of what the first one stored, a further one stores a fifth at most \
                             */

static struct chat_ask agent(struct buf *messages, uint32_t i)
{
    char question[64];
    struct buf system;
    buf_init(&system, 1u << 20);
    buf_init(messages, 1u << 20);
    for (uint32_t rule = 0; rule < N_RULES; rule++)
        buf_printf(&system, "Rule %u: be brief. ", rule);
    snprintf(question, sizeof question, "%u is my number: who are you?", i * 7919 % 1000);
    chat_add_message(messages, "system", buf_slice(&system));
    chat_add(messages, "user", question);
    buf_release(&system);
    return (struct chat_ask){.messages = buf_slice(messages), .max_tokens = 8};
}

/* Asks as agent i; it computes only what is its own. */
static void be_agent(struct serve *s, uint32_t i, bool is_first, const char *when)
{
    struct buf messages;
    struct chat_reply r;
    struct chat_ask ask = agent(&messages, i);
    e2e_ask(s, &ask, &r);
    assert_int_equal(r.http, 200);
    if (is_first != (r.computed > AGENT_OWN_MAX))
        fail_msg("agent %u %s: %lld of %lld tokens computed", i, when, (long long)r.computed,
                 (long long)r.prompt_tokens);
    chat_reply_release(&r);
    buf_release(&messages);
}

struct footprint {
    int64_t written, memory;
};

static struct footprint footprint_of(struct serve *s)
{
    struct footprint f = {0};
    int64_t mapped = 0;
    MUST(serve_wait_durable(s, 10000, e));
    MUST(serve_stat(s, "store.since_open.written_bytes", &f.written, e));
    MUST(serve_stat(s, "pages.memory_bytes", &f.memory, e));
    MUST(serve_stat(s, "pages.mapped_bytes", &mapped, e));
    f.memory += mapped;
    return f;
}

static void agents_share_their_system_prompt(void **state)
{
    struct serve s;
    struct e2e_task tasks[5];
    struct buf messages[5];
    char store[PLACE_PATH_BYTES];
    int code = -1;
    (void)state;
    snprintf(store, sizeof store, "%s", e2e_path("agents"));
    e2e_serve(&s, store, NULL);
    struct footprint before = footprint_of(&s);
    be_agent(&s, 0, true, "first");
    struct footprint one = footprint_of(&s);
    for (uint32_t i = 1; i < N_AGENTS; i++)
        be_agent(&s, i, false, "warm");
    struct footprint all = footprint_of(&s);
    int64_t first = one.written - before.written, more = all.written - one.written;
    int64_t first_memory = one.memory - before.memory, more_memory = all.memory - one.memory;
    print_message(
        "on disk the first agent %lld bytes, each of %u more %lld; in memory %lld, %lld\n",
        (long long)first, N_AGENTS - 1, (long long)more / (N_AGENTS - 1), (long long)first_memory,
        (long long)more_memory / (N_AGENTS - 1));
    assert_true(first > 0 && more * AGENT_BYTES_SHARE < first * (N_AGENTS - 1));
    assert_true(more_memory * AGENT_BYTES_SHARE < first_memory * (N_AGENTS - 1));
    MUST(serve_stop(&s, &code, e));
    e2e_serve(&s, store, NULL);
    be_agent(&s, 100, false, "after a restart");
    MUST(serve_wait_durable(&s, 10000, e));
    serve_kill(&s);
    e2e_serve(&s, store, NULL);
    be_agent(&s, 101, false, "after kill -9");
    for (uint32_t i = 0; i < 5; i++) {
        struct chat_ask ask = agent(&messages[i], 200 + i);
        e2e_task_start(&tasks[i], &s, &ask);
    }
    for (uint32_t i = 0; i < 5; i++) {
        e2e_task_join(&tasks[i]);
        assert_int_equal(tasks[i].st, OK);
        assert_true(tasks[i].reply.computed <= AGENT_OWN_MAX);
        chat_reply_release(&tasks[i].reply);
        buf_release(&messages[i]);
    }
    MUST(serve_stop(&s, &code, e));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_streams_are_all_right),
        cmocka_unit_test(the_same_prompt_is_computed_once),
        cmocka_unit_test(a_hang_up_frees_the_slot),
        cmocka_unit_test(a_cancelled_prefill_is_gone_on_with),
        cmocka_unit_test(a_long_prompt_does_not_stall_a_stream),
        cmocka_unit_test(agents_share_their_system_prompt),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, set_up, tear_down));
}
