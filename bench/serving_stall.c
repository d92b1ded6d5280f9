/* SPDX-License-Identifier: MIT
 * serving_stall.c — time between tokens of 8 streams, alone and beside a long prefill. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/client/passage.h"
#include "bench/serving.h"
#include "os/clock.h"
#include "os/team.h"

#define LONG_TOKENS  16000u
#define ALONE_MS     4000u
#define FIRST_PIECES 8u /* of each stream, before anything counts */
#define GAPS_MAX     (1u << 20)
#define STREAM_MAX   12000u /* tokens; they are hung up before */
#define P99_BAR_MS   60.0

enum phase { PHASE_WARMING, PHASE_ALONE, PHASE_BETWEEN, PHASE_BESIDE, PHASE_OVER };

struct stream {
    struct stall *stall;
    uint32_t index, n_pieces;
    uint64_t last_ns;
    enum phase last_phase;
    enum status st;
    struct err err;
};

struct stall {
    struct serve server;
    _Atomic int phase;
    _Atomic uint32_t n_warm;
    pthread_mutex_t mutex; /* guards gaps and n_gaps */
    double *gaps[PHASE_OVER];
    uint32_t n_gaps[PHASE_OVER];
    struct stream streams[SERVING_STREAMS];
};

/* A gap counts for a phase when both its tokens came in it. */
static bool on_piece(void *arg, uint32_t choice, struct slice text)
{
    struct stream *s = arg;
    struct stall *all = s->stall;
    uint64_t now = clock_now_ns();
    enum phase phase = (enum phase)atomic_load(&all->phase);
    (void)choice, (void)text;
    if (++s->n_pieces == FIRST_PIECES)
        atomic_fetch_add(&all->n_warm, 1);
    if (phase == s->last_phase && phase < PHASE_OVER) {
        pthread_mutex_lock(&all->mutex);
        if (all->n_gaps[phase] < GAPS_MAX)
            all->gaps[phase][all->n_gaps[phase]++] = (double)(now - s->last_ns) * 1e-6;
        pthread_mutex_unlock(&all->mutex);
    }
    s->last_phase = phase;
    s->last_ns = now;
    return phase < PHASE_OVER;
}

static void run_stream(void *arg)
{
    struct stream *s = arg;
    struct http_client *http = NULL;
    struct chat_reply r = {0};
    char prompt[64], more[64];
    snprintf(prompt, sizeof prompt, "\"Story number %u: once upon a time\"", s->index);
    snprintf(more, sizeof more, "\"ignore_eos\":true,\"seed\":%u", s->index);
    struct chat_ask ask = {.path = "/v1/completions",
                           .prompt = slice_of(prompt),
                           .more = more,
                           .temperature = 0.8,
                           .max_tokens = STREAM_MAX,
                           .is_stream = true,
                           .piece = on_piece,
                           .arg = s};
    s->st = http_client_new(&http, &s->err);
    if (s->st == OK)
        s->st = chat_send(s->stall->server.url, http, &ask, &r, &s->err);
    if (s->st == E_CANCELLED) /* hung up, as planned */
        s->st = OK;
    else if (s->st == OK)
        s->st = err_set(&s->err, E_IO, "stream %u ended by itself: HTTP %d %s", s->index, r.http,
                        r.error_message);
    atomic_fetch_add(&s->stall->n_warm, SERVING_STREAMS); /* nobody waits for it */
    chat_reply_release(&r);
    http_client_free(http);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double percentile(struct stall *s, enum phase phase, double p)
{
    uint32_t n = s->n_gaps[phase];
    if (n == 0)
        return 0;
    return s->gaps[phase][(uint32_t)((double)(n - 1) * p)];
}

static enum status run_phases(struct serving *b, struct stall *s, double *prefill_rate,
                              struct err *e)
{
    struct buf text;
    struct chat_reply r = {0};
    buf_init(&text, SERVING_PROMPT_MAX);
    enum status st = passage_of_tokens(&text, b->program, b->model, LONG_TOKENS, 1, e);
    struct os_thread *threads[SERVING_STREAMS] = {NULL};
    for (uint32_t i = 0; st == OK && i < SERVING_STREAMS; i++) {
        s->streams[i] = (struct stream){.stall = s, .index = i};
        st = thread_start("stream", run_stream, &s->streams[i], &threads[i], e);
    }
    while (st == OK && atomic_load(&s->n_warm) < SERVING_STREAMS)
        clock_sleep_ms(5);
    if (st == OK) {
        atomic_store(&s->phase, PHASE_ALONE);
        clock_sleep_ms(ALONE_MS);
        atomic_store(&s->phase, PHASE_BESIDE);
        struct serving_ask ask = {text.ptr ? text.ptr : "", 1, 0, true};
        st = serving_generate(&s->server, &ask, &r, e);
        *prefill_rate = r.prefill_ms > 0 ? (double)r.computed * 1e3 / r.prefill_ms : 0;
    }
    atomic_store(&s->phase, PHASE_OVER);
    for (uint32_t i = 0; i < SERVING_STREAMS; i++) {
        if (!threads[i])
            continue;
        thread_join(threads[i]);
        if (st == OK && s->streams[i].st != OK) {
            st = s->streams[i].st;
            *e = s->streams[i].err;
        }
    }
    chat_reply_release(&r);
    buf_release(&text);
    return st;
}

static void print_gaps(struct stall *s, double prefill_rate)
{
    for (enum phase p = PHASE_ALONE; p < PHASE_OVER; p++)
        qsort(s->gaps[p], s->n_gaps[p], sizeof(double), ascending);
    double alone = percentile(s, PHASE_ALONE, 0.99), beside = percentile(s, PHASE_BESIDE, 0.99);
    double bar = 2 * alone > P99_BAR_MS ? 2 * alone : P99_BAR_MS;
    printf("\n  time between tokens of %u streams  %8s %8s %8s\n", SERVING_STREAMS, "p50", "p90",
           "p99");
    printf("  alone                             %6.1f ms %5.1f ms %5.1f ms\n",
           percentile(s, PHASE_ALONE, 0.5), percentile(s, PHASE_ALONE, 0.9), alone);
    printf("  beside a prefill of %u tokens  %6.1f ms %5.1f ms %5.1f ms  bar %.0f ms: %s\n",
           LONG_TOKENS, percentile(s, PHASE_BESIDE, 0.5), percentile(s, PHASE_BESIDE, 0.9), beside,
           bar, serving_verdict(bar, beside));
    printf("  (prefill meanwhile: %.0f tokens/s)\n", prefill_rate);
}

enum status serving_stall(struct serving *b, struct err *e)
{
    /* Guesses come in bursts: gaps of nothing would flatter the percentiles. */
    static const char *const flags[] = {"-np", "9", "--speculate", "off", NULL};
    struct stall *s = mem_new(1, sizeof *s);
    double prefill_rate = 0;
    pthread_mutex_init(&s->mutex, NULL);
    for (int p = 0; p < PHASE_OVER; p++)
        s->gaps[p] = mem_new(GAPS_MAX, sizeof(double));
    enum status st = serving_start(b, &s->server, flags, e);
    if (st == OK)
        st = run_phases(b, s, &prefill_rate, e);
    serve_kill(&s->server);
    if (st == OK)
        print_gaps(s, prefill_rate);
    for (int p = 0; p < PHASE_OVER; p++)
        mem_free(s->gaps[p]);
    pthread_mutex_destroy(&s->mutex);
    mem_free(s);
    return st;
}
