/* SPDX-License-Identifier: MIT
 * serving_company.c — decoding beside a busy loop, and with a second thread. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/client/passage.h"
#include "bench/serving.h"
#include "os/clock.h"
#include "os/team.h"

#define DECODE_TOKENS  96u
#define PREFILL_BYTES  2200u /* some 500 tokens */
#define SETTLE_TOKENS  128u  /* the engine finds out how it is best paced now */
#define KEPT_BAR       0.40
#define PREFILL_BAR    0.92
#define DECODE_BAR     0.90
#define READ_BYTES     (256u << 20)
#define READ_ROUNDS    3u
#define MULTIPLY_TURNS (30u << 20)

static const char story[] = "Once upon a time there was a clerk who";

/* ---- a neighbour ---- */
static pid_t start_neighbour(void)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof all, &all) != 0)
        return -1;
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all)) {
            CPU_ZERO(&one);
            CPU_SET(i, &one);
        }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (sched_setaffinity(0, sizeof one, &one) != 0)
            _exit(1);
        for (volatile uint64_t n = 0;; n++)
            ;
    }
    return pid;
}

static void end_neighbour(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static enum status measure(struct serve *s, uint32_t n_tokens, double *rate, struct err *e)
{
    struct chat_reply r = {0};
    struct serving_ask ask = {story, n_tokens, 0, false};
    enum status st = serving_generate(s, &ask, &r, e);
    *rate = serving_rate(&r);
    chat_reply_release(&r);
    return st;
}

enum status serving_neighbour(struct serving *b, struct err *e)
{
    static const char *const flags[] = {"--speculate", "off", NULL};
    struct serve s;
    memset(&s, 0, sizeof s);
    struct samples alone = {{0}, 0}, beside = {{0}, 0};
    double rate;
    enum status st = serving_start(b, &s, flags, e);
    for (uint32_t round = 0; st == OK && round < b->n_rounds; round++) {
        st = measure(&s, DECODE_TOKENS, &rate, e);
        samples_add(&alone, rate);
        pid_t neighbour = st == OK ? start_neighbour() : -1;
        if (st == OK && neighbour < 0)
            st = err_set(e, E_IO, "no neighbour could be started");
        if (st == OK)
            st = measure(&s, SETTLE_TOKENS, &rate, e);
        if (st == OK)
            st = measure(&s, DECODE_TOKENS, &rate, e);
        samples_add(&beside, rate);
        end_neighbour(neighbour);
        if (st == OK)
            st = measure(&s, SETTLE_TOKENS, &rate, e);
    }
    serve_kill(&s);
    double a = samples_median(&alone), n = samples_median(&beside);
    if (st == OK && a > 0)
        printf(
            "\n  a busy loop on one processor: decode %.1f/s alone, %.1f/s beside it; share kept "
            "%.0f %%, bar %.0f %%: %s\n",
            a, n, 100 * n / a, 100 * KEPT_BAR, serving_verdict(n / a, KEPT_BAR));
    return st;
}

/* ---- a second thread ---- */
/* What two threads of this machine give over one, whatever they do: reading memory, and 8-bit
 * multiplications in registers. */
struct work {
    const uint64_t *memory;
    uint64_t sum[2][16];
};

static void read_memory(void *arg, uint32_t worker, uint32_t n_workers)
{
    struct work *w = arg;
    size_t n = READ_BYTES / sizeof *w->memory / n_workers;
    const uint64_t *at = w->memory + worker * n;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++)
            sum[k] += at[i + k];
    for (size_t k = 0; k < 8; k++)
        w->sum[worker][k] = sum[k];
}

typedef int16_t lanes __attribute__((vector_size(32)));

static void multiply(void *arg, uint32_t worker, uint32_t n_workers)
{
    struct work *w = arg;
    lanes chain[10], factor = {3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33};
    memset(chain, (int)worker + 1, sizeof chain);
    for (uint32_t i = 0; i < MULTIPLY_TURNS / n_workers / 10; i++)
        for (uint32_t k = 0; k < 10; k++)
            chain[k] += chain[k] * factor;
    for (uint32_t k = 0; k < 10; k++)
        w->sum[worker][k] = (uint64_t)chain[k][0];
}

static double seconds(struct team *t, team_fn *fn, struct work *w)
{
    uint64_t start = clock_now_ns();
    team_run(t, fn, w);
    return clock_ms_since(start) * 1e-3;
}

/* Best of some rounds: the fastest is the machine, the others are its neighbours. */
static double machine_ratio(struct team *one, struct team *two, team_fn *fn, struct work *w)
{
    double best[2] = {1e9, 1e9};
    for (uint32_t i = 0; i < READ_ROUNDS; i++) {
        double a = seconds(one, fn, w), b = seconds(two, fn, w);
        best[0] = a < best[0] ? a : best[0];
        best[1] = b < best[1] ? b : best[1];
    }
    return best[0] / best[1];
}

static enum status machine_ratios(double *compute, double *read, struct err *e)
{
    struct team *one = NULL, *two = NULL;
    struct work w = {0};
    uint64_t *memory = mem_try_large(READ_BYTES);
    enum status st = memory ? team_new(1, &one, e) : err_set(e, E_NOMEM, "a block to read");
    if (st == OK)
        st = team_new(2, &two, e);
    if (st == OK) {
        memset(memory, 1, READ_BYTES);
        w.memory = memory;
        *compute = machine_ratio(one, two, multiply, &w);
        *read = machine_ratio(one, two, read_memory, &w);
    }
    team_free(one);
    team_free(two);
    mem_free_large(memory, READ_BYTES);
    return st;
}

/* Prefill of text that was never there before, and decoding behind it. */
static enum status one_round(struct serve *s, uint32_t seed, double *prefill, double *decode,
                             struct err *e)
{
    struct buf text;
    struct chat_reply r = {0};
    buf_init(&text, SERVING_PROMPT_MAX);
    passage_add(&text, PREFILL_BYTES, seed);
    struct serving_ask ask = {text.ptr ? text.ptr : "", DECODE_TOKENS, 0, true};
    enum status st = serving_generate(s, &ask, &r, e);
    *prefill = r.prefill_ms > 0 ? (double)r.computed * 1e3 / r.prefill_ms : 0;
    *decode = serving_rate(&r);
    chat_reply_release(&r);
    buf_release(&text);
    return st;
}

enum status serving_threads(struct serving *b, struct err *e)
{
    static const char *const flags[2][5] = {{"--speculate", "off", "-t", "1", NULL},
                                            {"--speculate", "off", "-t", "2", NULL}};
    struct serve servers[2];
    memset(servers, 0, sizeof servers);
    struct samples prefill[2] = {{{0}, 0}, {{0}, 0}}, decode[2] = {{{0}, 0}, {{0}, 0}};
    struct samples compute = {{0}, 0}, read = {{0}, 0};
    enum status st = OK;
    for (uint32_t i = 0; st == OK && i < 2; i++)
        st = serving_start(b, &servers[i], flags[i], e);
    for (uint32_t round = 0; st == OK && round < b->n_rounds; round++) {
        double p = 0, d = 0;
        st = machine_ratios(&p, &d, e);
        samples_add(&compute, p);
        samples_add(&read, d);
        for (uint32_t i = 0; st == OK && i < 2; i++) {
            st = one_round(&servers[(i + round) % 2], 10 + round, &p, &d, e);
            samples_add(&prefill[(i + round) % 2], p);
            samples_add(&decode[(i + round) % 2], d);
        }
    }
    serve_kill(&servers[0]);
    serve_kill(&servers[1]);
    if (st != OK)
        return st;
    /* The fastest of each: the machine's own ratio is that of its fastest rounds too. */
    double p1 = samples_most(&prefill[0]), p2 = samples_most(&prefill[1]);
    double d1 = samples_most(&decode[0]), d2 = samples_most(&decode[1]);
    double c = samples_median(&compute), m = samples_median(&read);
    double p_share = p2 / p1 / c, d_share = d2 / d1 / m;
    printf("\n  two threads over one   %8s %8s %7s %9s %7s\n", "one", "two", "ratio", "machine",
           "share");
    printf("  prefill, 500 tokens    %6.0f/s %6.0f/s %6.2fx %8.2fx %6.2f  bar %.2f: %s\n", p1, p2,
           p2 / p1, c, p_share, PREFILL_BAR, serving_verdict(p_share, PREFILL_BAR));
    printf("  decode                 %6.1f/s %6.1f/s %6.2fx %8.2fx %6.2f  bar %.2f: %s\n", d1, d2,
           d2 / d1, m, d_share, DECODE_BAR, serving_verdict(d_share, DECODE_BAR));
    return OK;
}
