/* SPDX-License-Identifier: MIT
 * tell.c — tokens are told to whoever asked while the next step runs.
 * Forming an event's bytes and waking a socket's thread took 0.2 ms between two steps of 4 to 8 ms
 * in which no worker worked.  So each generated token is copied into a ring, and a thread of its
 * own calls the request back.  All other events are rare and hold pointers into the job: they are
 * told by the thread that has them, once all that was said before is told (tell_event).  Nobody
 * sees another order or other events.
 * Waking the teller may take the engine's processor or a worker's.  So the tokens of an answer that
 * is only read as a whole wait until there are some (Gemma on two busy processors: 0.08 to 0.44 ms
 * between two steps when woken for each, 0.03 to 0.09 so).
 *
 *   engine thread: step → draw → tell_token ─▶ ring ─▶ teller: request->event
 *                  step → …      tell_event: waits for this job's tokens, then request->event  */
#include "engine/engine_int.h"

#define TELLINGS_MAX 1024u /* more than all streams and their guesses give in a step */
/* Whoever hears slowly slows its own stream down, and a cancel is not far behind: more than one
 * step with all its guesses gives. */
#define UNTOLD_MAX    32u
#define UNTOLD_WAKE   16u  /* of an answer that is read as a whole */
#define TOLD_TEXT_MAX 256u /* longer texts (held back for a stop string) are told as others are */

struct telling {
    struct job *job;
    struct engine_event event;
    struct sampled sampled;
    char text[TOLD_TEXT_MAX];
};

struct teller {
    pthread_mutex_t mutex; /* guards all below and job.n_untold; never held across an event */
    pthread_cond_t posted, told;
    struct os_thread *thread;
    bool is_ending;
    uint32_t first, count;
    struct telling ring[TELLINGS_MAX];
};

static void call(const struct job *job, const struct engine_event *ev)
{
    job->request->event(job->request->event_arg, ev);
}

static void teller_main(void *arg)
{
    struct teller *t = arg;
    pthread_mutex_lock(&t->mutex);
    for (;;) {
        while (t->count == 0 && !t->is_ending)
            pthread_cond_wait(&t->posted, &t->mutex);
        if (t->count == 0)
            break;
        struct telling *next = &t->ring[t->first]; /* its place is kept until it is told */
        pthread_mutex_unlock(&t->mutex);
        call(next->job, &next->event);
        pthread_mutex_lock(&t->mutex);
        t->first = (t->first + 1) % TELLINGS_MAX;
        t->count--;
        if (--next->job->n_untold == 0) /* only then may anyone wait for it, and free it */
            pthread_cond_broadcast(&t->told);
    }
    pthread_mutex_unlock(&t->mutex);
}

enum status tell_open(struct engine *g, struct err *e)
{
    struct teller *t = mem_try_new(1, sizeof *t);
    if (!t)
        return err_set(e, E_NOMEM, "no memory for the engine's queues");
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->posted, NULL);
    pthread_cond_init(&t->told, NULL);
    g->teller = t;
    return thread_start("teller", teller_main, t, &t->thread, e);
}

void tell_close(struct engine *g)
{
    struct teller *t = g->teller;
    if (!t)
        return;
    pthread_mutex_lock(&t->mutex);
    t->is_ending = true;
    pthread_cond_signal(&t->posted);
    pthread_mutex_unlock(&t->mutex);
    if (t->thread)
        thread_join(t->thread);
    pthread_mutex_destroy(&t->mutex);
    pthread_cond_destroy(&t->posted);
    pthread_cond_destroy(&t->told);
    mem_free(t);
    g->teller = NULL;
}

void tell_event(struct engine *g, struct job *job, const struct engine_event *ev)
{
    struct teller *t = g->teller;
    pthread_mutex_lock(&t->mutex);
    if (job->n_untold > 0)
        pthread_cond_signal(&t->posted);
    while (job->n_untold > 0)
        pthread_cond_wait(&t->told, &t->mutex);
    pthread_mutex_unlock(&t->mutex);
    call(job, ev);
}

void tell_token(struct engine *g, struct job *job, const struct engine_event *ev)
{
    struct teller *t = g->teller;
    pthread_mutex_lock(&t->mutex);
    if (t->count == TELLINGS_MAX || job->n_untold == UNTOLD_MAX || ev->text.len > TOLD_TEXT_MAX) {
        pthread_mutex_unlock(&t->mutex);
        tell_event(g, job, ev);
        return;
    }
    struct telling *last = &t->ring[(t->first + t->count) % TELLINGS_MAX];
    last->job = job;
    last->event = *ev;
    memcpy(last->text, ev->text.ptr, ev->text.len);
    last->event.text.ptr = last->text;
    if (ev->sampled) {
        last->sampled = *ev->sampled;
        last->event.sampled = &last->sampled;
    }
    t->count++;
    job->n_untold++;
    const bool may_wait =
        job->request->is_read_whole && job->n_untold < UNTOLD_WAKE && t->count < TELLINGS_MAX / 2;
    pthread_mutex_unlock(&t->mutex);
    if (!may_wait)
        pthread_cond_signal(&t->posted);
}
