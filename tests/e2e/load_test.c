/* SPDX-License-Identifier: MIT
 * load_test.c — goal: 256 streams that arrive on a schedule, not when others are done, all get
 * their own answer to the last token; the server's memory stays within a bound that has a name, and
 * is the next crowd's again.
 * Method: sampled text continued with a seed, so that each question has one right answer, which the
 * same server gives to it alone; RssAnon is read every 20 ms meanwhile.  Time between tokens is a
 * figure, printed here; its bar is kvasir-serving-bench's (./do bench load). */
#include <pthread.h>
#include <stdio.h>

#include "bench/client/crowd.h"
#include "e2e.h"

#define N_STREAMS      256u
#define N_STREAMS_SOAK 1024u
#define N_QUESTIONS    64u
#define ANSWER_TOKENS  48
#define INTERVAL_MS    2.0
#define LOOK_MS        20
/* What one open stream may cost besides its KV: tables of its sequence, its sampler (a state for
 * each token of the vocabulary), its request, the connection (48 KiB are libmicrohttpd's). */
#define STREAM_BYTES_MAX (768u << 10)
#define SLACK_BYTES      (16.0 * MEGABYTE) /* of the allocator, and the step's buffers */
/* What stays: logits and scratch of the widest step, and where the known pages are. */
/* What a crowd may leave beside KV, after the first and after the second alike.  Measured: 12 to 19
 * MB, or 31 to 48: what is left then lies in the heaps of the threads, in pages that are not quite
 * free. */
#define KEPT_BYTES (64.0 * MEGABYTE)
#define MEGABYTE   1e6

struct question {
    char prompt[80], more[64];
};

static struct chat_ask ask_of(struct question *q, uint32_t i)
{
    snprintf(q->prompt, sizeof q->prompt, "\"Story number %u: once upon a time there\"", i);
    snprintf(q->more, sizeof q->more, "\"ignore_eos\":true,\"seed\":%u", i + 1);
    return (struct chat_ask){.path = "/v1/completions",
                             .prompt = slice_of(q->prompt),
                             .more = q->more,
                             .temperature = 0.8,
                             .max_tokens = ANSWER_TOKENS};
}

/* The most RssAnon while it looks. */
struct looking {
    struct serve *serve;
    _Atomic bool is_over;
    uint64_t most;
    pthread_t thread;
};

static void *look(void *arg)
{
    struct looking *l = arg;
    while (!l->is_over) {
        uint64_t now = 0;
        struct err e;
        if (serve_memory(l->serve, "RssAnon:", &now, &e) == OK && now > l->most)
            l->most = now;
        clock_sleep_ms(LOOK_MS);
    }
    return NULL;
}

static void check_stream(const struct crowd_stream *s, uint32_t i, const struct chat_reply *right)
{
    char why[400];
    if (s->st != OK || s->reply.http != 200 || !s->reply.is_done)
        fail_msg("stream %u is lost: HTTP %d, %s%s", i, s->reply.http, s->err.msg,
                 s->reply.error_message);
    assert_int_equal(s->reply.completion_tokens, ANSWER_TOKENS);
    if (!chat_is_same(&s->reply, right, why, sizeof why))
        fail_msg("stream %u: %s", i, why);
}

/* One crowd; returns the most RssAnon meanwhile. */
static double run_crowd(struct serve *s, uint32_t n, const struct chat_reply *right)
{
    struct crowd_stream *streams = calloc(n, sizeof *streams);
    struct question *questions = calloc(n, sizeof *questions);
    struct crowd_gaps gaps;
    struct looking looking = {.serve = s};
    for (uint32_t i = 0; i < n; i++)
        streams[i].ask = ask_of(&questions[i], i % N_QUESTIONS);
    crowd_schedule(streams, n, INTERVAL_MS, 1);
    assert_int_equal(pthread_create(&looking.thread, NULL, look, &looking), 0);
    uint64_t start = clock_now_ns();
    MUST(crowd_run(s->url, streams, n, e));
    double ms = clock_ms_since(start);
    looking.is_over = true;
    pthread_join(looking.thread, NULL);
    for (uint32_t i = 0; i < n; i++)
        check_stream(&streams[i], i, &right[i % N_QUESTIONS]);
    MUST(crowd_gaps(streams, n, &gaps, e));
    double p50 = crowd_percentile(&gaps, 0.5), p99 = crowd_percentile(&gaps, 0.99);
    print_message("%u streams, at most %u at once, %.0f tokens/s: between tokens p50 %.1f ms, p99 "
                  "%.1f ms (%.1f times)\n",
                  n, crowd_most_at_once(streams, n), n * ANSWER_TOKENS / ms * 1e3, p50, p99,
                  p50 > 0 ? p99 / p50 : 0);
    crowd_gaps_release(&gaps);
    crowd_release(streams, n);
    free(streams);
    free(questions);
    return (double)looking.most;
}

static void a_crowd_loses_nothing(void **state)
{
    struct serve s;
    struct chat_reply right[N_QUESTIONS];
    uint32_t n = e2e_is_soak ? N_STREAMS_SOAK : N_STREAMS;
    int64_t left = -1;
    (void)state;
    e2e_serve(&s, NULL, "-np", "256", "--queue", "1024", NULL);
    for (uint32_t i = 0; i < N_QUESTIONS; i++) {
        struct question q;
        struct chat_ask ask = ask_of(&q, i);
        ask.is_stream = true;
        e2e_ask(&s, &ask, &right[i]);
        assert_int_equal(right[i].completion_tokens, ANSWER_TOKENS);
    }
    double before = e2e_anonymous(&s) - e2e_kv_bytes(&s);
    double most = run_crowd(&s, n, right);
    double bound = before + 1.2 * e2e_kv_bytes(&s) + SLACK_BYTES + (double)n * STREAM_BYTES_MAX;
    double after = e2e_at_rest(&s, before + KEPT_BYTES);
    print_message("RssAnon %.1f MB before without KV, at most %.1f of %.1f; KV %.1f MB\n",
                  before / MEGABYTE, most / MEGABYTE, bound / MEGABYTE,
                  e2e_kv_bytes(&s) / MEGABYTE);
    assert_true(most <= bound);
    assert_true(after <= before + KEPT_BYTES);
    most = run_crowd(&s, n, right);
    double later = e2e_at_rest(&s, before + KEPT_BYTES);
    print_message(
        "RssAnon without KV %.1f MB after the first, %.1f MB after the second; KV %.1f MB "
        "(at most %.1f together)\n",
        after / MEGABYTE, later / MEGABYTE, e2e_kv_bytes(&s) / MEGABYTE, most / MEGABYTE);
    assert_true(later <= before + KEPT_BYTES);
    MUST(serve_stat(&s, "requests.running", &left, e));
    assert_int_equal(left, 0);
    MUST(serve_stat(&s, "pages.referenced", &left, e));
    assert_int_equal(left, 0);
    for (uint32_t i = 0; i < N_QUESTIONS; i++)
        chat_reply_release(&right[i]);
    serve_kill(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_crowd_loses_nothing)};
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
