/* SPDX-License-Identifier: MIT
 * serving_load.c — 256 streams that arrive on a schedule: time to the first token, time between
 * tokens, and how far apart their middle and their worst are. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/client/crowd.h"
#include "bench/serving.h"

#define N_STREAMS     256u
#define ANSWER_TOKENS 128u
#define INTERVAL_MS   4.0 /* all have arrived after a second, before the first has ended */
#define RATIO_BAR     3.0

struct question {
    char prompt[80], more[64];
};

static enum status check(const struct crowd_stream *streams, struct err *e)
{
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        const struct crowd_stream *s = &streams[i];
        if (s->st != OK || s->reply.http != 200 || !s->reply.is_done ||
            s->reply.completion_tokens != ANSWER_TOKENS)
            return err_set(e, E_IO, "stream %u is lost: HTTP %d, %lld tokens, %s%.100s", i,
                           s->reply.http, (long long)s->reply.completion_tokens, s->err.msg,
                           s->reply.error_message);
    }
    return OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print_first(const struct crowd_stream *streams)
{
    double first[N_STREAMS], late[N_STREAMS];
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        late[i] = streams[i].late_ms;
        first[i] = streams[i].late_ms + streams[i].reply.first_ms;
    }
    qsort(first, N_STREAMS, sizeof *first, ascending);
    qsort(late, N_STREAMS, sizeof *late, ascending);
    printf("  first token, since it was due     %6.1f ms %5.1f ms %5.1f ms   (the client was late "
           "by %.1f ms at p99)\n",
           first[N_STREAMS / 2], first[N_STREAMS * 9 / 10], first[N_STREAMS * 99 / 100],
           late[N_STREAMS * 99 / 100]);
}

static enum status one_crowd(struct serve *s, uint32_t round, struct err *e)
{
    struct crowd_stream *streams = mem_new(N_STREAMS, sizeof *streams);
    struct question *questions = mem_new(N_STREAMS, sizeof *questions);
    struct crowd_gaps gaps = {0};
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        struct question *q = &questions[i];
        uint32_t number = round * N_STREAMS + i;
        snprintf(q->prompt, sizeof q->prompt, "\"Story number %u: once upon a time\"", number);
        snprintf(q->more, sizeof q->more, "\"ignore_eos\":true,\"seed\":%u", number);
        streams[i].ask = (struct chat_ask){.path = "/v1/completions",
                                           .prompt = slice_of(q->prompt),
                                           .more = q->more,
                                           .temperature = 0.8,
                                           .max_tokens = ANSWER_TOKENS};
    }
    crowd_schedule(streams, N_STREAMS, INTERVAL_MS, round + 1);
    enum status st = crowd_run(s->url, streams, N_STREAMS, e);
    if (st == OK)
        st = check(streams, e);
    if (st == OK)
        st = crowd_gaps(streams, N_STREAMS, &gaps, e);
    if (st == OK) {
        double p50 = crowd_percentile(&gaps, 0.5), p99 = crowd_percentile(&gaps, 0.99);
        printf(
            "  between tokens, %3u at once       %6.1f ms %5.1f ms %5.1f ms   p99 %.1f times p50, "
            "bar %.0f: %s\n",
            crowd_most_at_once(streams, N_STREAMS), p50, crowd_percentile(&gaps, 0.9), p99,
            p50 > 0 ? p99 / p50 : 0, RATIO_BAR, serving_verdict(RATIO_BAR * p50, p99));
        print_first(streams);
    }
    crowd_gaps_release(&gaps);
    crowd_release(streams, N_STREAMS);
    mem_free(questions);
    mem_free(streams);
    return st;
}

enum status serving_load(struct serving *b, struct err *e)
{
    /* Guesses come in bursts: gaps of nothing would flatter the percentiles. */
    static const char *const flags[] = {"-np", "256", "--speculate", "off", NULL};
    struct serve s;
    memset(&s, 0, sizeof s);
    enum status st = serving_start(b, &s, flags, e);
    if (st == OK)
        printf("\n  %u streams of %u tokens, a new one every %.0f ms\n"
               "                                         p50      p90      p99\n",
               N_STREAMS, ANSWER_TOKENS, INTERVAL_MS);
    for (uint32_t round = 0; st == OK && round < b->n_rounds; round++)
        st = one_crowd(&s, round, e);
    serve_kill(&s);
    return st;
}
