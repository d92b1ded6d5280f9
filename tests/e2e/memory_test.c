/* SPDX-License-Identifier: MIT
 * memory_test.c — goal: a server's own memory stays within the weights, the KV in use and 100 MB.
 * Method: a prompt of 20,000 tokens, then RssAnon of /proc/PID/status against the model's size
 * (repacked weights are at most a quarter larger than the file's) and the KV that /v1/cache/stats
 * counts; again after a restart, where the pages are the store's and not ours.  RssFile is printed.
 */
#include <stdio.h>

#include "e2e.h"

#define LONG_ROW       "public-104" /* 20,226 tokens */
#define DURABLE_MS_MAX 60000u
#define N_EARLY        100
#define N_LATE         400
#define LEFT_BYTES_MAX 16384.0        /* of a request */
#define SLACK_BYTES    (8 * MEGABYTE) /* buffers of the allocator */
#define MEGABYTE       1e6

static double model_bytes(struct serve *s)
{
    struct arena a;
    const struct json *v = NULL;
    arena_init(&a, 1u << 20);
    MUST(serve_get(s, "/v1/models", &a, &v, e));
    const struct json *size = json_get(json_get(&json_get(v, "data")->items[0], "meta"), "size");
    assert_non_null(size);
    double bytes = (double)size->integer;
    arena_release(&a);
    return bytes;
}

static void check_memory(struct serve *s, const char *when)
{
    uint64_t anonymous = 0, file = 0;
    int64_t kv = 0, mapped = 0;
    MUST(serve_memory(s, "RssAnon:", &anonymous, e));
    MUST(serve_memory(s, "RssFile:", &file, e));
    MUST(serve_stat(s, "pages.memory_bytes", &kv, e));
    MUST(serve_stat(s, "pages.mapped_bytes", &mapped, e));
    double bound = 1.25 * model_bytes(s) + 1.2 * (double)kv + 100 * MEGABYTE;
    print_message(
        "%s: RssAnon %.1f MB of at most %.1f; RssFile %.1f MB; KV %.1f MB in memory, %.1f MB "
        "mapped\n",
        when, (double)anonymous / MEGABYTE, bound / MEGABYTE, (double)file / MEGABYTE,
        (double)kv / MEGABYTE, (double)mapped / MEGABYTE);
    assert_true((double)anonymous <= bound);
}

static void a_long_prompt_stays_within_the_bound(void **state)
{
    struct serve s;
    struct chat_reply r;
    (void)state;
    const struct row *row = rows_find(&e2e_rows, LONG_ROW);
    e2e_serve(&s, e2e_path("store"), NULL);
    check_memory(&s, "at the start");
    e2e_ask_row(&s, row, NULL, &r);
    assert_true(chat_is_answer(&r, row->answer));
    chat_reply_release(&r);
    check_memory(&s, "after 20,226 tokens");
    MUST(serve_wait_durable(&s, DURABLE_MS_MAX, e));
    serve_kill(&s);
    e2e_serve(&s, e2e_path("store"), NULL);
    e2e_ask_row(&s, row, NULL, &r);
    assert_int_equal(r.computed, 0);
    chat_reply_release(&r);
    check_memory(&s, "resumed");
    serve_kill(&s);
}

static void ask_many(struct serve *s, int from, int to)
{
    for (int i = from; i < to; i++) {
        char text[64];
        struct chat_reply r;
        snprintf(text, sizeof text, "who are you? (%d)", i);
        struct buf messages = e2e_user(text);
        e2e_ask(s, &(struct chat_ask){.messages = buf_slice(&messages), .max_tokens = 4}, &r);
        assert_int_equal(r.http, 200);
        chat_reply_release(&r);
        buf_release(&messages);
    }
    MUST(serve_wait_durable(s, DURABLE_MS_MAX, e));
}

/* What stays of a short request is where its pages are, not the pages. */
static void requests_leave_little_behind(void **state)
{
    struct serve s;
    uint64_t early = 0, late = 0;
    (void)state;
    e2e_serve(&s, e2e_path("repeats"), NULL);
    ask_many(&s, 0, N_EARLY);
    MUST(serve_memory(&s, "RssAnon:", &early, e));
    ask_many(&s, N_EARLY, N_LATE);
    MUST(serve_memory(&s, "RssAnon:", &late, e));
    print_message("RssAnon %.1f MB after %d requests, %.1f MB after %d\n", (double)early / MEGABYTE,
                  N_EARLY, (double)late / MEGABYTE, N_LATE);
    assert_true((double)late <= (double)early + (N_LATE - N_EARLY) * LEFT_BYTES_MAX + SLACK_BYTES);
    serve_kill(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_prompt_stays_within_the_bound),
        cmocka_unit_test(requests_leave_little_behind),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, e2e_rows_read, e2e_rows_release));
}
