/* SPDX-License-Identifier: MIT
 * serving_stall.c — time between tokens of 8 streams: alone, beside a long prefill, and beside a
 * request that embeds many texts. */
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

#define LONG_TOKENS   16000u
#define SPARE_TOKENS  200u /* of a shorter context: for what stands before a text, and after it */
#define EMBED_TEXTS   64u
#define EMBED_BYTES   1000u /* of each text */
#define ALONE_MS      4000u
#define PAUSE_MS      300u /* what a phase left behind is not the next one's */
#define FIRST_PIECES  8u   /* of each stream, before anything counts */
#define GAPS_MAX      (1u << 20)
#define STREAM_TOKENS 12000u /* they are hung up before */
#define P99_BAR_MS    60.0

enum phase { PHASE_PAUSE, PHASE_ALONE, PHASE_PREFILL, PHASE_EMBED, PHASE_OVER };

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
    uint32_t n_ctx, n_long;          /* tokens: of the model, of the prefill */
    double prefill_rate, embed_rate; /* tokens/s */
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
    if (phase == s->last_phase && phase != PHASE_PAUSE && phase != PHASE_OVER) {
        pthread_mutex_lock(&all->mutex);
        if (all->n_gaps[phase] < GAPS_MAX)
            all->gaps[phase][all->n_gaps[phase]++] = (double)(now - s->last_ns) * 1e-6;
        pthread_mutex_unlock(&all->mutex);
    }
    s->last_phase = phase;
    s->last_ns = now;
    return phase < PHASE_OVER;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
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
                           .max_tokens = least(STREAM_TOKENS, s->stall->n_ctx - SPARE_TOKENS),
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

static enum status call(struct serve *server, const char *path, struct slice body,
                        struct http_answer *answer, struct err *e)
{
    char url[300];
    snprintf(url, sizeof url, "%s%s", server->url, path);
    struct http_call c = {.url = url, .body = body, .total_ms_max = SERVING_MS_MAX};
    enum status st = http_client_call(server->http, &c, answer, e);
    if (st == OK && answer->status != 200)
        st = err_set(e, E_IO, "%s: HTTP %d %.200s", path, answer->status,
                     answer->body.ptr ? answer->body.ptr : "");
    return st;
}

/* The number behind a key of a reply; 0: none. */
static double number_of(const struct http_answer *answer, const char *key)
{
    const char *at = answer->body.ptr ? strstr(answer->body.ptr, key) : NULL;
    return at ? strtod(at + strlen(key), NULL) : 0;
}

/* The long prompt is as long as the model's context allows. */
static enum status find_lengths(struct stall *s, struct err *e)
{
    struct http_answer answer = {0};
    enum status st = call(&s->server, "/props", (struct slice){NULL, 0}, &answer, e);
    s->n_ctx = (uint32_t)number_of(&answer, "\"n_ctx\":");
    if (st == OK && s->n_ctx < 4 * SPARE_TOKENS)
        st = err_set(e, E_IO, "/props gave a context of %u tokens", s->n_ctx);
    if (st == OK)
        s->n_long = least(LONG_TOKENS, s->n_ctx - SPARE_TOKENS);
    http_answer_release(&answer);
    return st;
}

static enum status prefill(struct stall *s, struct slice text, struct err *e)
{
    struct chat_reply r = {0};
    struct serving_ask ask = {text.ptr, 1, 0, true};
    enum status st = serving_generate(&s->server, &ask, &r, e);
    s->prefill_rate = r.prefill_ms > 0 ? (double)r.computed * 1e3 / r.prefill_ms : 0;
    chat_reply_release(&r);
    return st;
}

/* One request of many texts. */
static enum status embed(struct stall *s, struct err *e)
{
    struct buf body, text;
    struct http_answer answer = {0};
    buf_init(&body, SERVING_PROMPT_MAX);
    buf_init(&text, SERVING_PROMPT_MAX);
    buf_add_text(&body, "{\"input\":[");
    for (uint32_t i = 0; i < EMBED_TEXTS; i++) {
        buf_clear(&text);
        passage_add(&text, EMBED_BYTES, 100 + i);
        buf_add_text(&body, i ? "," : "");
        json_write_string(&body, buf_slice(&text));
    }
    buf_add_text(&body, "]}");
    uint64_t start = clock_now_ns();
    enum status st = call(&s->server, "/v1/embeddings", buf_slice(&body), &answer, e);
    s->embed_rate = number_of(&answer, "\"prompt_tokens\":") * 1e3 / clock_ms_since(start);
    http_answer_release(&answer);
    buf_release(&text);
    buf_release(&body);
    return st;
}

static void enter(struct stall *s, enum phase phase)
{
    atomic_store(&s->phase, PHASE_PAUSE);
    clock_sleep_ms(PAUSE_MS);
    atomic_store(&s->phase, phase);
}

static enum status start_streams(struct stall *s, struct os_thread **threads, struct err *e)
{
    enum status st = OK;
    for (uint32_t i = 0; st == OK && i < SERVING_STREAMS; i++) {
        s->streams[i] = (struct stream){.stall = s, .index = i};
        st = thread_start("stream", run_stream, &s->streams[i], &threads[i], e);
    }
    while (st == OK && atomic_load(&s->n_warm) < SERVING_STREAMS)
        clock_sleep_ms(5);
    return st;
}

static enum status run_phases(struct serving *b, struct stall *s, struct err *e)
{
    struct os_thread *threads[SERVING_STREAMS] = {NULL};
    struct buf text;
    buf_init(&text, SERVING_PROMPT_MAX);
    enum status st = find_lengths(s, e);
    if (st == OK)
        st = passage_of_tokens(&text, b->program, b->model, s->n_long, 1, e);
    if (st == OK)
        st = start_streams(s, threads, e);
    if (st == OK) {
        enter(s, PHASE_ALONE);
        clock_sleep_ms(ALONE_MS);
        enter(s, PHASE_EMBED);
        st = embed(s, e);
    }
    if (st == OK) {
        enter(s, PHASE_PREFILL);
        st = prefill(s, buf_slice(&text), e);
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
    buf_release(&text);
    return st;
}

static void print_row(struct stall *s, enum phase phase, const char *name, double bar)
{
    double p99 = percentile(s, phase, 0.99);
    printf("  %-34s %6.1f ms %5.1f ms %5.1f ms %7.1f ms", name, percentile(s, phase, 0.5),
           percentile(s, phase, 0.9), p99, percentile(s, phase, 1));
    if (bar > 0)
        printf("  bar %.0f ms: %s", bar, serving_verdict(bar, p99));
    printf("\n");
}

static void print_gaps(struct stall *s)
{
    char name[64];
    for (enum phase p = PHASE_ALONE; p < PHASE_OVER; p++)
        qsort(s->gaps[p], s->n_gaps[p], sizeof(double), ascending);
    double alone = percentile(s, PHASE_ALONE, 0.99);
    double bar = 2 * alone > P99_BAR_MS ? 2 * alone : P99_BAR_MS;
    snprintf(name, sizeof name, "time between tokens of %u streams", SERVING_STREAMS);
    printf("\n  %-34s %9s %8s %8s %10s\n", name, "p50", "p90", "p99", "most");
    print_row(s, PHASE_ALONE, "alone", 0);
    snprintf(name, sizeof name, "beside a prefill of %u tokens", s->n_long);
    print_row(s, PHASE_PREFILL, name, bar);
    snprintf(name, sizeof name, "beside the embedding of %u texts", EMBED_TEXTS);
    print_row(s, PHASE_EMBED, name, bar);
    printf("  (meanwhile: %.0f tokens/s of the prefill, %.0f of the texts)\n", s->prefill_rate,
           s->embed_rate);
    if (s->n_long < LONG_TOKENS)
        printf("  (not %u tokens: the model's context is %u)\n", LONG_TOKENS, s->n_ctx);
}

enum status serving_stall(struct serving *b, struct err *e)
{
    /* Guesses come in bursts: gaps of nothing would flatter the percentiles. */
    static const char *const flags[] = {"-np", "9", "--speculate", "off", NULL};
    struct stall *s = mem_new(1, sizeof *s);
    pthread_mutex_init(&s->mutex, NULL);
    for (int p = 0; p < PHASE_OVER; p++)
        s->gaps[p] = mem_new(GAPS_MAX, sizeof(double));
    enum status st = serving_start(b, &s->server, flags, e);
    if (st == OK)
        st = run_phases(b, s, e);
    serve_kill(&s->server);
    if (st == OK)
        print_gaps(s);
    for (int p = 0; p < PHASE_OVER; p++)
        mem_free(s->gaps[p]);
    pthread_mutex_destroy(&s->mutex);
    mem_free(s);
    return st;
}
