/* SPDX-License-Identifier: MIT
 * thread.c — pthreads with a name and without signals.  Signals meant for the process go to the
 * threads that the program was started with; those that a thread raises itself (SIGBUS on a map
 * that shrank) must reach it and stay unblocked. */
#include "os/thread_int.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "os/team.h"

struct os_thread {
    pthread_t id;
    void (*fn)(void *);
    void *arg;
};

static void *run(void *arg)
{
    struct os_thread *t = arg;
    t->fn(t->arg);
    return NULL;
}

int thread_create_quiet(pthread_t *id, const char *name, void *(*fn)(void *), void *arg)
{
    static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < ARRAY_COUNT(own); i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int sys = pthread_create(id, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (sys == 0) {
        char short_name[16]; /* the kernel's limit */
        snprintf(short_name, sizeof short_name, "%s", name);
        pthread_setname_np(*id, short_name);
    }
    return sys;
}

enum status thread_start(const char *name, void (*fn)(void *), void *arg, struct os_thread **out,
                         struct err *e)
{
    struct os_thread *t = mem_try_new(1, sizeof *t);
    if (!t)
        return err_set(e, E_NOMEM, "thread %s", name);
    t->fn = fn;
    t->arg = arg;
    int sys = thread_create_quiet(&t->id, name, run, t);
    if (sys != 0) {
        mem_free(t);
        return err_sys(e, sys, "start thread %s", name);
    }
    *out = t;
    return OK;
}

void thread_join(struct os_thread *t)
{
    if (!t)
        return;
    CHECK(pthread_join(t->id, NULL) == 0);
    mem_free(t);
}
