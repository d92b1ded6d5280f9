/* SPDX-License-Identifier: MIT
 * eval_test.c — goal: skald answers its evaluation to the letter through the whole program, and
 * again after a restart without computing one prompt token. Method: rows of eval.jsonl through
 * /v1/chat/completions; usage.prompt_tokens must be the row's `tokens`; a tool call counts by name
 * and arguments.  Here the 40 shortest rows and one of 20k tokens, all right; in soak all 200, at
 * most two wrong, each printed. */
#include <stdio.h>

#include "e2e.h"

#define N_SHORT          40u
#define SHORT_TOKENS_MAX 60000u
#define LONG_ROW         "public-104" /* 20,226 tokens */
#define SOAK_WRONG_MAX   2u
#define DURABLE_MS_MAX   60000u

static const struct row *chosen[ROWS_MAX];
static uint32_t n_chosen;

static void choose(void)
{
    uint32_t n_tokens = 0;
    e2e_rows_by_length(chosen);
    n_chosen = e2e_rows.n;
    if (e2e_is_soak)
        return;
    for (n_chosen = 0; n_chosen < N_SHORT; n_chosen++)
        n_tokens += chosen[n_chosen]->n_tokens;
    assert_true(n_tokens <= SHORT_TOKENS_MAX);
    chosen[n_chosen++] = rows_find(&e2e_rows, LONG_ROW);
    assert_non_null(chosen[n_chosen - 1]);
}

/* Asks all; the number of wrong answers. */
static uint32_t pass(struct serve *s, bool is_first)
{
    uint32_t n_wrong = 0;
    int64_t n_tokens = 0;
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < n_chosen; i++) {
        const struct row *row = chosen[i];
        struct chat_reply r;
        e2e_ask_row(s, row, NULL, &r);
        if (r.prompt_tokens != row->n_tokens)
            fail_msg("%s: %lld prompt tokens, not %u", row->id, (long long)r.prompt_tokens,
                     row->n_tokens);
        if (r.memory + r.disk + r.computed != r.prompt_tokens ||
            r.cached_tokens != r.memory + r.disk)
            fail_msg("%s: %lld + %lld + %lld tokens are not %lld", row->id, (long long)r.memory,
                     (long long)r.disk, (long long)r.computed, (long long)r.prompt_tokens);
        if (!is_first && r.computed != 0)
            fail_msg("%s: %lld tokens computed again after the restart", row->id,
                     (long long)r.computed);
        if (!chat_is_answer(&r, row->answer)) {
            n_wrong++;
            print_message("%s (%u tokens): \"%s\" %s, not \"" SLICE_FMT "\"\n", row->id,
                          row->n_tokens, r.choices[0].text.len ? r.choices[0].text.ptr : "",
                          r.choices[0].calls.len ? r.choices[0].calls.ptr : "",
                          SLICE_ARG(row->answer));
        }
        n_tokens += r.prompt_tokens;
        chat_reply_release(&r);
    }
    print_message("%s: %u of %u right, %lld prompt tokens in %.1f s\n",
                  is_first ? "cold" : "after a restart", n_chosen - n_wrong, n_chosen,
                  (long long)n_tokens, clock_ms_since(start) / 1000);
    return n_wrong;
}

static void answers_are_right_cold_and_after_a_restart(void **state)
{
    struct serve s;
    (void)state;
    choose();
    e2e_serve(&s, e2e_path("store"), NULL);
    uint32_t n_wrong = pass(&s, true);
    MUST(serve_wait_durable(&s, DURABLE_MS_MAX, e));
    serve_kill(&s);
    e2e_serve(&s, e2e_path("store"), NULL);
    uint32_t n_wrong_again = pass(&s, false);
    int code = -1;
    MUST(serve_stop(&s, &code, e));
    assert_int_equal(code, 0);
    assert_true(n_wrong <= (e2e_is_soak ? SOAK_WRONG_MAX : 0));
    assert_int_equal(n_wrong_again, n_wrong);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_right_cold_and_after_a_restart),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, e2e_rows_read, e2e_rows_release));
}
