/* SPDX-License-Identifier: MIT
 * loop.c — the engine thread: takes messages, starts what waits, runs steps until nothing is left.
 * Thread law: only this thread touches cache, sequences, samplers and the model's workspace. */
#include "engine/engine_int.h"

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

static void handle(struct engine *g, struct message *m)
{
    switch (m->kind) {
    case MESSAGE_JOB:
        append(&g->waiting, m->job);
        break;
    case MESSAGE_CALL:
        m->call(g, m->arg);
        break;
    case MESSAGE_STOP:
        break;
    }
    mem_free(m);
}

/* Fails or finishes cancelled jobs, before they cost another step. */
static void reap_cancelled(struct engine *g)
{
    for (struct job **at = &g->waiting; *at;) {
        struct job *job = *at;
        if (!job->is_cancelled) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        struct err e;
        err_set(&e, E_CANCELLED, "cancelled while waiting");
        g->stats.n_cancelled++;
        job_fail(g, job, &e);
    }
    for (struct job *job = g->running; job; job = job->next) {
        if (!job->is_cancelled)
            continue;
        for (uint32_t i = 0; i < job->n_choices; i++) {
            if (!job->choices[i].is_finished)
                job->choices[i].finish = FINISH_CANCELLED;
            job->choices[i].is_finished = true;
        }
    }
}

static uint32_t slots_in_use(const struct engine *g)
{
    uint32_t n = 0;
    for (const struct job *job = g->running; job; job = job->next)
        n += job->request->n_choices;
    return n;
}

/* Starts waiting jobs, in order; one that shares a prefix being computed right now waits for it. */
static void admit(struct engine *g)
{
    for (struct job **at = &g->waiting; *at;) {
        struct job *job = *at;
        struct err e;
        if (slots_in_use(g) + job->request->n_choices > g->n_slots && g->running)
            return;
        /* It gave way to those that run, and nobody overtakes it: two that take pages from each
         * other by turns would never end. */
        if (job->n_choices > 0 && g->running && job->yielded_at == g->n_retired)
            return;
        enum status st = job_begin(g, job, &e);
        if (st == E_BUSY) {
            at = &job->next;
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

void engine_thread(void *arg)
{
    struct engine *g = arg;
    for (bool is_open = true; is_open;) {
        bool is_idle = !g->running && !g->waiting;
        struct message *m;
        while ((m = ring_pop(g->inbox, is_idle ? POLL_MS : 0)) != NULL) {
            is_open = is_open && m->kind != MESSAGE_STOP;
            is_idle = false;
            handle(g, m);
        }
        if (atomic_load(&g->is_closing))
            fail_all(g);
        cache_poll(g->cache);
        reap_cancelled(g);
        retire(g);
        admit(g);
        (void)step_run(g);
        retire(g);
    }
    fail_all(g);
}
