/* SPDX-License-Identifier: MIT
 * crowd.c — see crowd.h. */
#include "bench/client/crowd.h"

#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "os/clock.h"

#define SPARE_FILES 256u

void crowd_schedule(struct crowd_stream *streams, uint32_t n, double mean_ms, uint64_t seed)
{
    double at_ms = 0;
    for (uint32_t i = 0; i < n; i++) {
        streams[i].due_ms = at_ms;
        at_ms += -log(1 - prng_uniform(seed, 0, i, 0)) * mean_ms;
    }
}

static bool on_piece(void *arg, uint32_t choice, struct slice text)
{
    struct crowd_stream *s = arg;
    (void)choice, (void)text;
    if (s->n_pieces == s->cap_pieces && s->cap_pieces < CROWD_PIECES_MAX) {
        uint32_t cap = s->cap_pieces ? 2 * s->cap_pieces : 64;
        double *more = mem_try_resize(s->piece_ms, cap, sizeof *more);
        if (!more)
            return false;
        s->piece_ms = more;
        s->cap_pieces = cap;
    }
    if (s->n_pieces < s->cap_pieces)
        s->piece_ms[s->n_pieces++] = s->reply.last_ms;
    return true;
}

static void on_done(void *arg, enum status st, const struct err *e)
{
    struct crowd_stream *s = arg;
    s->err = *e;
    s->st = chat_end(s->talk, st, &s->err);
    s->talk = NULL;
}

/* File descriptors for all streams; the limit may be as low as 1,024. */
static void raise_files(uint32_t n)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < n + SPARE_FILES) {
        l.rlim_cur = l.rlim_max < n + SPARE_FILES ? l.rlim_max : n + SPARE_FILES;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

static void wait_until(struct http_swarm *swarm, uint64_t due_ns)
{
    while (clock_now_ns() < due_ns) {
        http_swarm_run(swarm, due_ns);
        if (http_swarm_count(swarm) == 0 && clock_now_ns() + 1000000u < due_ns)
            clock_sleep_ms(1);
    }
}

enum status crowd_run(const char *url, struct crowd_stream *streams, uint32_t n, struct err *e)
{
    struct http_swarm *swarm = NULL;
    if (n > CROWD_STREAMS_MAX)
        return err_set(e, E_LIMIT, "%u streams: at most %u", n, CROWD_STREAMS_MAX);
    raise_files(n);
    enum status st = http_swarm_new(&swarm, e);
    if (st != OK)
        return st;
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < n; i++) {
        struct crowd_stream *s = &streams[i];
        uint64_t due = start + (uint64_t)(s->due_ms * 1e6);
        s->ask.is_stream = true;
        s->ask.piece = on_piece;
        s->ask.arg = s;
        /* Written before it is due, so that the writing delays nobody. */
        s->st = chat_begin(url, &s->ask, &s->reply, &s->talk, &s->err);
        wait_until(swarm, due);
        s->late_ms = clock_ms_since(due);
        s->sent_ms = clock_ms_since(start);
        if (s->st == OK)
            s->st = http_swarm_start(swarm, chat_call(s->talk), chat_answer(s->talk), on_done, s,
                                     &s->err);
        if (s->st != OK && s->talk)
            on_done(s, s->st, &s->err);
    }
    while (http_swarm_count(swarm))
        http_swarm_run(swarm, clock_now_ns() + 100000000u);
    http_swarm_free(swarm);
    return OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

enum status crowd_gaps(const struct crowd_stream *streams, uint32_t n, struct crowd_gaps *out,
                       struct err *e)
{
    size_t most = 1;
    for (uint32_t i = 0; i < n; i++)
        most += streams[i].n_pieces;
    *out = (struct crowd_gaps){.ms = mem_try_new(most, sizeof *out->ms)};
    if (!out->ms)
        return err_set(e, E_NOMEM, "gaps between tokens");
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 1; k < streams[i].n_pieces; k++)
            out->ms[out->n++] = streams[i].piece_ms[k] - streams[i].piece_ms[k - 1];
    qsort(out->ms, out->n, sizeof *out->ms, ascending);
    return OK;
}

double crowd_percentile(const struct crowd_gaps *g, double p)
{
    return g->n ? g->ms[(size_t)((double)(g->n - 1) * p)] : 0;
}

void crowd_gaps_release(struct crowd_gaps *g)
{
    mem_free(g->ms);
    *g = (struct crowd_gaps){0};
}

uint32_t crowd_most_at_once(const struct crowd_stream *streams, uint32_t n)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < n; i++) { /* the most is reached when one of them begins */
        if (streams[i].n_pieces == 0)
            continue;
        double at = streams[i].sent_ms + streams[i].piece_ms[0];
        uint32_t now = 0;
        for (uint32_t k = 0; k < n; k++) {
            const struct crowd_stream *s = &streams[k];
            now += s->n_pieces > 0 && s->sent_ms + s->piece_ms[0] <= at &&
                   s->sent_ms + s->piece_ms[s->n_pieces - 1] >= at;
        }
        most = now > most ? now : most;
    }
    return most;
}

void crowd_release(struct crowd_stream *streams, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mem_free(streams[i].piece_ms);
        chat_reply_release(&streams[i].reply);
        streams[i].piece_ms = NULL;
        streams[i].n_pieces = streams[i].cap_pieces = 0;
    }
}
