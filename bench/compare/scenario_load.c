/* SPDX-License-Identifier: MIT
 * scenario_load.c — concurrency: requests that arrive on a schedule, whether or not those before
 * were answered.  A time counts from when a request was due, so that a server that stalls can't
 * hide behind a client that waits (coordinated omission). */
#include <math.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "base/prng.h"
#include "bench/compare/compare_int.h"
#include "os/clock.h"

#define PROMPT_TOKENS     256u
#define REQUESTS_LEAST    8u
#define REQUESTS_A_STREAM 3u
#define SPARE_FILES       256u

struct request {
    struct sample sample;
    struct answer answer;
    struct talk talk;
    struct wire *wire;
    struct http_answer http;
    uint64_t due_ns;
    double late_ms;
    bool is_ended;
};

static void on_done(void *arg, enum status st, const struct err *e)
{
    struct request *q = arg;
    wire_end(q->wire, st, e, &q->http);
    q->wire = NULL;
    q->is_ended = true;
}

/* Intervals of a Poisson process, the same in each run of a seed. */
static void make_schedule(struct request *list, uint32_t n, double mean_ms, uint64_t seed)
{
    double at_ms = 20;
    for (uint32_t i = 0; i < n; i++) {
        list[i].due_ns = (uint64_t)(at_ms * 1e6);
        at_ms += -log(1 - prng_uniform(seed, 0, i, 0)) * mean_ms;
    }
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

/* Sends them all when they are due; false: the swarm could not be had. */
static bool send_all(struct run *r, struct system *s, struct request *list, uint32_t n,
                     struct err *e)
{
    struct http_swarm *swarm = NULL;
    if (http_swarm_new(&swarm, e) != OK)
        return false;
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < n && !atomic_load(&is_interrupted); i++) {
        struct request *q = &list[i];
        struct ask ask = {.talk = &q->talk,
                          .max_tokens = r->options->answer_tokens,
                          .ms_max = r->options->cell_seconds * 1000};
        struct err why = {0};
        /* Written before it is due, so that the writing delays nobody. */
        enum status st = wire_begin(s, &ask, &q->answer, &q->wire, &why);
        q->due_ns += start;
        while (st == OK && clock_now_ns() < q->due_ns) {
            http_swarm_run(swarm, q->due_ns);
            if (http_swarm_count(swarm) == 0 && clock_now_ns() + 1000000u < q->due_ns)
                clock_sleep_ms(1);
        }
        q->late_ms = clock_ms_since(q->due_ns);
        if (st == OK)
            st = http_swarm_start(swarm, wire_call(q->wire), &q->http, on_done, q, &why);
        if (st != OK && q->wire)
            on_done(q, st, &why);
    }
    while (http_swarm_count(swarm) && !atomic_load(&is_interrupted))
        http_swarm_run(swarm, clock_now_ns() + 100000000u);
    http_swarm_free(swarm);
    return true;
}

/* One open loop of n requests; *mean_ms: how long one took, mean. */
static bool loop(struct run *r, struct system *s, enum scenario_id id, uint32_t streams,
                 double interval_ms, double *mean_ms)
{
    uint32_t n = streams * REQUESTS_A_STREAM;
    n = n < REQUESTS_LEAST ? REQUESTS_LEAST : n;
    struct request *list = mem_new(n, sizeof *list);
    struct sample whole = cell(r, s, id, "all requests", streams);
    struct err e = {0};
    struct buf text;
    bool is_ok = true;
    double sum = 0;
    uint32_t n_done = 0;
    buf_init(&text, TALK_BYTES_MAX);
    for (uint32_t i = 0; i < n; i++) { /* the same length for all, other words for each */
        talk_init(&list[i].talk);
        prompts_write(&text, (size_t)(PROMPT_TOKENS * r->prompts.bytes_a_token),
                      cell_seed(r, id, streams * 10000u + i));
        talk_add(&list[i].talk, "user", buf_slice(&text));
    }
    make_schedule(list, n, interval_ms, cell_seed(r, id, streams));
    raise_files(n);
    uint64_t start = clock_now_ns();
    if (!send_all(r, s, list, n, &e)) {
        cell_fail(r, s, &whole, &e);
        is_ok = false;
    }
    double wall = clock_ms_since(start), foreign = load_foreign(start);
    whole.output_tokens = 0;
    for (uint32_t i = 0; is_ok && i < n; i++) {
        struct request *q = &list[i];
        struct sample c = cell(r, s, id, "request", streams);
        c.foreign = foreign;
        c.late_ms = q->late_ms;
        if (!q->is_ended)
            continue; /* interrupted */
        if (q->answer.outcome == OUTCOME_DONE) {
            cell_take(&c, &q->answer);
            c.key_ms = c.first_ms + q->late_ms;
            whole.output_tokens += c.output_tokens > 0 ? c.output_tokens : 0;
            sum += c.total_ms;
            n_done++;
        } else if (atomic_load(&is_interrupted)) {
            continue; /* what ^C cut off is no failure of the system's */
        } else {
            c.outcome = q->answer.outcome;
            snprintf(c.note, sizeof c.note, "%s", q->answer.error);
        }
        cell_add(r, &c);
    }
    if (is_ok && n_done) {
        whole.key_ms = whole.total_ms = wall;
        whole.foreign = foreign;
        whole.memory_bytes = system_memory(s);
        snprintf(whole.note, sizeof whole.note, "%u of %u requests; %.1f tokens a second", n_done,
                 n, (double)whole.output_tokens / wall * 1000);
        cell_add(r, &whole);
        *mean_ms = sum / n_done;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (list[i].wire) {
            struct err cut = {.code = E_CANCELLED, .msg = "interrupted"};
            wire_end(list[i].wire, E_CANCELLED, &cut, &list[i].http);
        }
        http_answer_release(&list[i].http);
        answer_release(&list[i].answer);
        talk_release(&list[i].talk);
    }
    buf_release(&text);
    mem_free(list);
    return is_ok && n_done == n;
}

/* Offered load: so many requests a second that n would run at once if each took as long as alone.
 */
void scenario_concurrency(struct run *r, struct system *s, enum scenario_id id)
{
    double alone_ms = 0;
    for (uint32_t i = 0; i < r->options->n_streams && !atomic_load(&is_interrupted); i++) {
        uint32_t n = r->options->streams[i];
        struct sample c = cell(r, s, id, "request", n);
        struct start how = cell_how(r, PROMPT_TOKENS + r->options->answer_tokens + 128);
        how.parallel = n;
        how.wants_ram_cache = false;
        if (!cell_start(r, s, &c, &how))
            break;
        if (alone_ms <= 0) { /* one after the other, to know how long one takes */
            struct talk t;
            struct answer a = {0};
            struct sample first = cell(r, s, id, "alone", 1);
            talk_init(&t);
            struct buf text;
            buf_init(&text, TALK_BYTES_MAX);
            prompts_write(&text, (size_t)(PROMPT_TOKENS * r->prompts.bytes_a_token),
                          cell_seed(r, id, 9));
            talk_add(&t, "user", buf_slice(&text));
            struct ask ask = {.talk = &t, .max_tokens = r->options->answer_tokens};
            bool is_ok = cell_ask(r, s, &first, &ask, &a);
            if (is_ok) {
                alone_ms = first.total_ms;
                cell_add(r, &first);
            }
            buf_release(&text);
            talk_release(&t);
            answer_release(&a);
            if (!is_ok)
                break;
        }
        double mean_ms = 0;
        bool goes_on = loop(r, s, id, n, alone_ms / n, &mean_ms);
        system_kill(s);
        if (!goes_on)
            break;
    }
    system_kill(s);
}
