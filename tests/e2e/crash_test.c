/* SPDX-License-Identifier: MIT
 * crash_test.c — goal: kill -9 at any moment of a prefill, a stream or a save leaves a store that
 * opens, that verifies as clean, and that never gives a wrong page. Method: rounds on one store.
 * Each starts a server, asks the last round's prompt again and compares text and log probabilities
 * with an answer computed from nothing (cache_prompt: false), then sends new prompts, kills the
 * server after a random time, and wants `store verify` to exit 0.  20 rounds here, 200 in soak. */
#include <stdio.h>

#include "e2e.h"

#define ROUNDS       20u
#define ROUNDS_SOAK  200u
#define N_PROMPTS    2u
#define PROMPT_BYTES 1600u /* some 500 tokens: a round takes about a second */
#define KILL_MS_MAX  900u

/* A prompt that no other round sends: some lines of a row under a line of its own. */
static struct buf prompt_of(uint32_t round, uint32_t index)
{
    const struct row *row = &e2e_rows.row[(round * N_PROMPTS + index) % e2e_rows.n];
    struct buf text, messages;
    size_t start = 0;
    while (start + 1 < row->n_messages &&
           json_get(&row->message[start], "content")->text.len < PROMPT_BYTES)
        start++;
    struct slice book = json_get(&row->message[start], "content")->text;
    size_t len = book.len < PROMPT_BYTES ? book.len : PROMPT_BYTES;
    while (len > 0 && book.ptr[len] != '\n' && book.ptr[len] != ' ')
        len--;
    buf_init(&text, 1u << 20);
    buf_printf(&text,
               "Read the handbook:\n\nRoom %u.%u holds the register.\n" SLICE_FMT
               "\n\nWhat is in room %u.%u?",
               round, index, (int)len, book.ptr, round, index);
    messages = e2e_user(text.ptr);
    buf_release(&text);
    return messages;
}

static struct chat_ask ask_of(const struct buf *messages, const char *more)
{
    return (struct chat_ask){
        .messages = buf_slice(messages), .more = more, .max_tokens = 12, .wants_logprobs = true};
}

/* Whatever the crash left of these prompts, the answers are those of no cache at all. */
static void check_round(const struct serve *s, uint32_t round, int64_t *n_reused)
{
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        struct buf messages = prompt_of(round, i);
        struct chat_reply cached, computed;
        struct chat_ask a = ask_of(&messages, NULL);
        e2e_ask(s, &a, &cached);
        a = ask_of(&messages, "\"cache_prompt\":false");
        e2e_ask(s, &a, &computed);
        assert_int_equal(cached.http, 200);
        assert_int_equal(computed.computed, computed.prompt_tokens);
        e2e_check_same(&cached, &computed, "what the crash left");
        *n_reused += cached.memory + cached.disk;
        chat_reply_release(&cached);
        chat_reply_release(&computed);
        buf_release(&messages);
    }
}

static void crash(struct serve *s, uint32_t round)
{
    struct e2e_task tasks[N_PROMPTS];
    struct buf messages[N_PROMPTS];
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        messages[i] = prompt_of(round, i);
        struct chat_ask a = ask_of(&messages[i], NULL);
        a.is_stream = true;
        e2e_task_start(&tasks[i], s, &a);
    }
    clock_sleep_ms((uint32_t)prng_below(&e2e_random, KILL_MS_MAX));
    serve_kill(s);
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        e2e_task_join(&tasks[i]);
        chat_reply_release(&tasks[i].reply);
        buf_release(&messages[i]);
    }
}

static void verify(uint32_t round)
{
    struct child_result r;
    e2e_run(&r, NULL, "store", "verify", "--store", e2e_path("store"), NULL);
    if (r.code != 0)
        fail_msg("round %u: store verify exits %d: %s%s", round, r.code, r.out.len ? r.out.ptr : "",
                 r.err.len ? r.err.ptr : "");
    child_result_release(&r);
}

static void a_kill_at_any_time_leaves_a_clean_store(void **state)
{
    uint32_t n = e2e_is_soak ? ROUNDS_SOAK : ROUNDS;
    int64_t n_reused = 0;
    (void)state;
    for (uint32_t round = 0; round < n; round++) {
        struct serve s;
        e2e_serve(&s, e2e_path("store"), NULL);
        if (round > 0)
            check_round(&s, round - 1, &n_reused);
        crash(&s, round);
        verify(round);
    }
    print_message("%u kills; %lld tokens of the killed prompts were found again\n", n,
                  (long long)n_reused);
}

/* A stream is cut by the kill; the whole answer, asked again, begins with what had been received.
 */
static void a_stream_goes_on_where_the_kill_cut_it(void **state)
{
    static const char more[] =
        "\"seed\":77,\"top_k\":0,\"top_p\":1,\"min_p\":0,\"ignore_eos\":true";
    struct buf messages = prompt_of(1000, 0);
    struct serve s;
    struct e2e_task task;
    struct chat_reply whole;
    (void)state;
    struct chat_ask a = {.messages = buf_slice(&messages),
                         .more = more,
                         .temperature = 1.5,
                         .max_tokens = 400,
                         .is_stream = true};
    e2e_serve(&s, e2e_path("cut"), NULL);
    e2e_task_start(&task, &s, &a);
    int64_t completion = 0;
    for (int i = 0; i < 2000 && completion == 0; i++) {
        clock_sleep_ms(5);
        MUST(serve_stat(&s, "tokens.completion", &completion, e));
    }
    clock_sleep_ms(50);
    serve_kill(&s);
    e2e_task_join(&task);
    e2e_serve(&s, e2e_path("cut"), NULL);
    e2e_ask(&s, &a, &whole);
    serve_kill(&s);
    assert_int_equal(whole.completion_tokens, 400);
    struct slice part = buf_slice(&task.reply.choices[0].text);
    print_message("%zu bytes had come before the kill\n", part.len);
    assert_true(slice_starts(buf_slice(&whole.choices[0].text), part));
    chat_reply_release(&whole);
    chat_reply_release(&task.reply);
    buf_release(&messages);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_time_leaves_a_clean_store),
        cmocka_unit_test(a_stream_goes_on_where_the_kill_cut_it),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, e2e_rows_read, e2e_rows_release));
}
