/* SPDX-License-Identifier: MIT
 * ask.c — a request of the command line: events come from the engine's threads, the thread that
 * asked waits, writes and draws.  The mutex guards the struct and is never held over a write. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "app/app_int.h"
#include "base/check.h"
#include "base/mem.h"

#define TEXT_BYTES_MAX (1u << 30)
#define WAKE_MS        100 /* how late ^C is seen */

struct ask {
    struct engine *engine;
    uint64_t id;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_over;
    uint32_t done, total; /* of the prefill */
    bool has_text;        /* the first token came: no bar any more */
    struct ask_result result;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void ask_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL); /* without SA_RESTART: reading a line ends too */
}

bool ask_interrupted(void)
{
    bool was = interrupted;
    interrupted = 0;
    return was;
}

void ask_result_release(struct ask_result *r)
{
    buf_release(&r->text);
    token_list_release(&r->tokens);
}

static void take_text(struct ask *a, const struct engine_event *ev)
{
    if (ev->choice != 0)
        return;
    a->has_text = true;
    buf_add_slice(&a->result.text, ev->text);
    if (ev->kind != EVENT_TEXT || ev->token == TOKEN_NONE)
        return;
    if (token_list_add(&a->result.tokens, ev->token) != OK)
        err_set(&a->result.error, E_NOMEM, "out of memory for the answer");
}

static void on_event(void *arg, const struct engine_event *ev)
{
    struct ask *a = arg;
    pthread_mutex_lock(&a->mutex);
    switch (ev->kind) {
    case EVENT_STARTED:
    case EVENT_PROMPT:
    case EVENT_VECTOR: /* not asked for */
        break;
    case EVENT_PROGRESS:
        a->done = ev->done;
        a->total = ev->total;
        break;
    case EVENT_TEXT:
        take_text(a, ev);
        break;
    case EVENT_FINISHED:
        take_text(a, ev);
        if (ev->choice == 0)
            a->result.finish = ev->finish;
        break;
    case EVENT_DONE:
        a->result.usage = *ev->usage;
        a->is_over = true;
        break;
    case EVENT_ERROR:
        a->result.error = *ev->error;
        a->is_over = true;
        break;
    }
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->mutex);
}

enum status ask_start(struct engine *g, struct engine_request *r, struct ask **out, struct err *e)
{
    struct ask *a = mem_try_new(1, sizeof *a);
    if (!a)
        return err_set(e, E_NOMEM, "out of memory for a request");
    a->engine = g;
    pthread_condattr_t monotonic;
    CHECK(pthread_mutex_init(&a->mutex, NULL) == 0);
    CHECK(pthread_condattr_init(&monotonic) == 0);
    CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&a->changed, &monotonic) == 0);
    pthread_condattr_destroy(&monotonic);
    buf_init(&a->result.text, TEXT_BYTES_MAX);
    r->event = on_event;
    r->event_arg = a;
    enum status st = engine_submit(g, r, &a->id, e);
    if (st == OK) {
        *out = a;
        return OK;
    }
    ask_result_release(&a->result);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->mutex);
    mem_free(a);
    return st;
}

/* mutex held; comes back after an event, or after WAKE_MS. */
static void wait_a_little(struct ask *a)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAKE_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&a->changed, &a->mutex, &until);
}

static void write_news(FILE *out, struct progress *progress, const char *text, size_t len)
{
    if (len == 0)
        return;
    if (progress)
        progress_end(progress);
    fwrite(text, 1, len, out);
    fflush(out);
}

enum status ask_finish(struct ask *a, FILE *out, struct progress *progress,
                       struct ask_result *result)
{
    size_t written = 0;
    bool is_cancelled = false, is_over = false;
    while (!is_over) {
        struct buf news;
        buf_init(&news, TEXT_BYTES_MAX);
        pthread_mutex_lock(&a->mutex);
        if (!a->is_over && a->result.text.len == written)
            wait_a_little(a);
        is_over = a->is_over;
        if (out)
            buf_add(&news, a->result.text.ptr + written, a->result.text.len - written);
        written = a->result.text.len;
        uint32_t done = a->done, total = a->has_text ? 0 : a->total;
        pthread_mutex_unlock(&a->mutex);
        if (progress && total > 0)
            progress_show(progress, "reading the prompt", (double)done / total);
        if (out)
            write_news(out, progress, news.ptr, news.len);
        buf_release(&news);
        if (interrupted && !is_cancelled) {
            is_cancelled = true;
            engine_cancel(a->engine, a->id);
        }
    }
    if (progress)
        progress_end(progress);
    *result = a->result;
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->mutex);
    mem_free(a);
    return result->error.code;
}
