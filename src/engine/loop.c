/* SPDX-License-Identifier: MIT
 * loop.c — the engine thread: takes messages, starts what waits, runs steps until nothing is left.
 * Thread law: only this thread touches cache, sequences, samplers and the model's workspace. */
#include "base/checksum.h"
#include "engine/engine_int.h"
#include "os/heap.h"

#define TRIM_AFTER_MS 1000.0

void engine_send(struct engine *g, struct message *m)
{
    if (ring_push(g->inbox, m) != OK)
        mem_free(m); /* closed: the engine is gone, and so is what the message was about */
}

static void append(struct job **list, struct job *job)
{
    while (*list)
        list = &(*list)->next;
    job->next = NULL;
    *list = job;
}

/* Requests without a session are each one of their own. */
static uint64_t session_key(const struct job *job)
{
    struct slice name = job->request->session;
    return name.len ? checksum_of(name.ptr, name.len).low << 1 : job->id << 1 | 1;
}

static void take_job(struct engine *g, struct job *job)
{
    struct err e;
    if (schedule_join(&g->schedule, job->request->tenant, session_key(job), &job->account, &e) ==
        OK)
        append(&g->waiting, job);
    else
        job_fail(g, job, &e);
}

static void handle(struct engine *g, struct message *m)
{
    switch (m->kind) {
    case MESSAGE_JOB:
        take_job(g, m->job);
        break;
    case MESSAGE_CALL:
        m->call(g, m->arg);
        break;
    case MESSAGE_STOP:
        break;
    }
    mem_free(m);
}

static void end_choices(struct job *job)
{
    for (uint32_t i = 0; i < job->n_choices; i++) {
        if (!job->choices[i].is_finished)
            job->choices[i].finish = FINISH_CANCELLED;
        job->choices[i].is_finished = true;
    }
}

/* Fails or finishes jobs that are cancelled or late, before they cost another step. */
static void reap(struct engine *g)
{
    uint64_t now = clock_now_ns();
    for (struct job **at = &g->waiting; *at;) {
        struct job *job = *at;
        bool is_late = job_is_late(job, now);
        if (!job->is_cancelled && !is_late) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        struct err e;
        if (is_late)
            err_set(&e, E_TIMEOUT, "the deadline of %u ms passed while waiting",
                    job->request->deadline_ms);
        else
            err_set(&e, E_CANCELLED, "cancelled while waiting");
        g->stats.n_cancelled++;
        job_fail(g, job, &e);
    }
    for (struct job *job = g->running; job; job = job->next) {
        if (job->is_cancelled)
            end_choices(job);
        else if (job->error.code == OK && job_is_late(job, now))
            err_set(&job->error, E_TIMEOUT, "the deadline of %u ms passed after %u tokens",
                    job->request->deadline_ms, job->usage.completion_tokens);
    }
}

static uint32_t slots_in_use(const struct engine *g)
{
    uint32_t n = 0;
    for (const struct job *job = g->running; job; job = job->next)
        n += job->request->n_choices;
    return n;
}

/* The waiting job that goes next among those not skipped; NULL: none. */
static struct job **next_waiting(struct engine *g, uint64_t now)
{
    struct job **best = NULL;
    struct schedule_claim best_claim = {0};
    for (struct job **at = &g->waiting; *at; at = &(*at)->next) {
        if ((*at)->is_skipped)
            continue;
        /* It gave way to those that run, and nobody overtakes it: two that take pages from each
         * other by turns would never end. */
        if ((*at)->n_choices > 0)
            return at;
        struct schedule_claim claim = job_claim(*at, now);
        if (!best || schedule_before(&claim, &best_claim)) {
            best = at;
            best_claim = claim;
        }
    }
    return best;
}

/* Starts waiting jobs while there are slots; one that shares a prefix being computed right now
 * waits for it, and others may start before it. */
static void admit(struct engine *g)
{
    uint64_t now = clock_now_ns();
    for (struct job *job = g->waiting; job; job = job->next)
        job->is_skipped = false;
    for (struct job **at; (at = next_waiting(g, now)) != NULL;) {
        struct job *job = *at;
        struct err e;
        /* A request with more choices than --parallel runs alone. */
        if (slots_in_use(g) + job->request->n_choices > g->info.n_parallel && g->running)
            return;
        if (job->n_choices > 0 && g->running && job->yielded_at == g->n_retired)
            return;
        enum status st = job_begin(g, job, &e);
        if (st == E_BUSY) {
            job->is_skipped = true;
            continue;
        }
        *at = job->next;
        if (st == OK) {
            append(&g->running, job);
        } else {
            job_release(g, job);
            job_fail(g, job, &e);
        }
    }
}

static void retire(struct engine *g)
{
    for (struct job **at = &g->running; *at;) {
        struct job *job = *at;
        if (job->error.code == OK && !job_is_finished(job)) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        g->n_retired++;
        if (job->error.code != OK) {
            struct err e = job->error;
            job_release(g, job);
            job_fail(g, job, &e);
        } else {
            job_end(g, job);
        }
    }
}

static void fail_all(struct engine *g)
{
    struct err e;
    err_set(&e, E_CANCELLED, "the server is shutting down");
    while (g->running) {
        struct job *job = g->running;
        g->running = job->next;
        job_release(g, job);
        job_fail(g, job, &e);
    }
    while (g->waiting) {
        struct job *job = g->waiting;
        g->waiting = job->next;
        job_fail(g, job, &e);
    }
}

/* Tells the home whether this engine is one of those that step. */
static void tell_home(struct engine *g)
{
    bool is_working = g->running != NULL;
    if (is_working && !g->is_working)
        home_work_begins(g->home);
    else if (!is_working && g->is_working)
        home_work_ends(g->home);
    g->is_working = is_working;
}

/* Once after each time that something was asked: what a crowd needed is not kept for the next. */
struct rest {
    uint64_t since_ns;   /* 0: not idle */
    uint64_t trimmed_at; /* requests seen until then */
};

static void rest(struct engine *g, struct rest *r, bool is_idle)
{
    uint64_t n_seen = atomic_load(&g->next_id);
    if (!is_idle)
        r->since_ns = 0;
    else if (r->since_ns == 0)
        r->since_ns = clock_now_ns();
    else if (n_seen != r->trimmed_at && clock_ms_since(r->since_ns) > TRIM_AFTER_MS) {
        r->trimmed_at = n_seen;
        heap_trim();
    }
}

void engine_thread(void *arg)
{
    struct engine *g = arg;
    struct rest resting = {0, atomic_load(&g->next_id)};
    place_engine_thread(g);
    for (bool is_open = true; is_open;) {
        bool is_idle = !g->running && !g->waiting;
        rest(g, &resting, is_idle);
        struct message *m;
        while ((m = ring_pop(g->inbox, is_idle ? POLL_MS : 0)) != NULL) {
            is_open = is_open && m->kind != MESSAGE_STOP;
            is_idle = false;
            handle(g, m);
        }
        if (atomic_load(&g->is_closing))
            fail_all(g);
        cache_poll(g->cache);
        reap(g);
        retire(g);
        admit(g);
        tell_home(g);
        (void)step_run(g);
        retire(g);
    }
    fail_all(g);
    tell_home(g);
}
