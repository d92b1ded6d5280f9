/* SPDX-License-Identifier: MIT
 * share_test.c — goal: many clients at once get their own right answers, the same prompt is
 * computed once, and a client that goes away gives its place back at once. Method: one server; rows
 * of skald's evaluation asked side by side; a hang-up in the middle of a prefill of 20,000 tokens.
 */
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_streams_are_all_right),
        cmocka_unit_test(the_same_prompt_is_computed_once),
        cmocka_unit_test(a_hang_up_frees_the_slot),
        cmocka_unit_test(a_cancelled_prefill_is_gone_on_with),
        cmocka_unit_test(a_long_prompt_does_not_stall_a_stream),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, set_up, tear_down));
}
