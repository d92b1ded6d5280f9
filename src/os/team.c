/* SPDX-License-Identifier: MIT
 * team.c — workers wait at gates.  A gate is a number that goes up by one when it opens; who waits
 * spins on it for a while and then sleeps in futex(2) until it differs from the number seen.
 *
 *   waiter:  sleepers += 1;  futex_wait(turn, seen)  [sleeps only if turn == seen];  sleepers -= 1
 *   opener:  turn += 1;  if (sleepers > 0) futex_wake(all)
 *
 * Both sides use seq_cst: either the opener sees the sleeper, or futex_wait sees the new turn.
 * A turn may wrap: a waiter is never 2³² openings behind, since each opening waits for all. */
#include "os/team.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "os/cpu.h"
#include "os/thread_int.h"

/* About 30 µs (a pause is 40–140 cycles): a region's imbalance, far below a scheduler's slice.
 * With more workers than processors a spin only keeps the one from running that is waited for. */
#define SPIN_PAUSES         2000u
#define SPIN_PAUSES_CROWDED 20u

#define CACHE_LINE 64

struct gate {
    _Alignas(CACHE_LINE) _Atomic uint32_t turn;
    _Atomic uint32_t sleepers;
};

struct worker {
    struct team *team;
    uint32_t index;
    pthread_t id;
};

struct team {
    uint32_t n_workers, spin_pauses;
    bool is_running; /* only the thread that calls team_run reads and writes it */
    bool is_ending;  /* written before the start gate opens, as fn and arg */
    team_fn *fn;
    void *arg;
    struct gate start, done, barrier;
    _Alignas(CACHE_LINE) _Atomic uint32_t n_finished;
    _Alignas(CACHE_LINE) _Atomic uint32_t n_arrived;
    _Alignas(CACHE_LINE) _Atomic uint32_t next;
    struct worker workers[]; /* [n_workers]; 0 is the caller of team_run */
};

_Static_assert(sizeof(_Atomic uint32_t) == 4 && ATOMIC_INT_LOCK_FREE == 2, "futex words");

/* ---- floating point environment: docs/numerics.md wants subnormals kept and ties to even ---- */
#if defined(__x86_64__)
#define MXCSR_DEFAULT 0x1F80u /* all exceptions masked, nearest even, no FTZ, no DAZ */
typedef uint32_t fp_mode;

static fp_mode fp_enter(void)
{
    uint32_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(MXCSR_DEFAULT);
    return before;
}

static void fp_leave(fp_mode before)
{
    __builtin_ia32_ldmxcsr(before);
}

static void pause_cpu(void)
{
    __builtin_ia32_pause();
}
#elif defined(__aarch64__)
typedef uint64_t fp_mode;

static fp_mode fp_enter(void)
{
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
}

static void fp_leave(fp_mode before)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
}

static void pause_cpu(void)
{
    __asm__ volatile("yield");
}
#else
#error "no way known here to set the floating point mode"
#endif

static void gate_open(struct gate *g)
{
    atomic_fetch_add(&g->turn, 1);
    if (atomic_load(&g->sleepers) > 0)
        syscall(SYS_futex, &g->turn, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Returns once the turn is no longer seen. */
static void gate_wait(struct gate *g, uint32_t seen, uint32_t spin_pauses)
{
    for (uint32_t i = 0; i < spin_pauses; i++) {
        if (atomic_load_explicit(&g->turn, memory_order_acquire) != seen)
            return;
        pause_cpu();
    }
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->turn) == seen) {
        /* EAGAIN: it opened meanwhile; EINTR: look again. */
        long rc = syscall(SYS_futex, &g->turn, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        CHECK(rc == 0 || errno == EAGAIN || errno == EINTR);
    }
    atomic_fetch_sub(&g->sleepers, 1);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct team *t = w->team;
    for (uint32_t turn = 0;; turn++) {
        gate_wait(&t->start, turn, t->spin_pauses);
        if (t->is_ending)
            return NULL;
        fp_enter(); /* at each run: the last one's fn may have changed it */
        t->fn(t->arg, w->index, t->n_workers);
        if (atomic_fetch_add(&t->n_finished, 1) + 1 == t->n_workers - 1)
            gate_open(&t->done);
    }
}

/* Ends the workers 1 … n_started. */
static void end_workers(struct team *t, uint32_t n_started)
{
    t->is_ending = true;
    gate_open(&t->start);
    for (uint32_t i = 1; i <= n_started; i++)
        CHECK(pthread_join(t->workers[i].id, NULL) == 0);
}

enum status team_new(uint32_t n_workers, struct team **out, struct err *e)
{
    if (n_workers == 0 || n_workers > TEAM_THREADS_MAX)
        return err_set(e, E_LIMIT, "%u threads: 1 to %d are possible", n_workers, TEAM_THREADS_MAX);
    struct team *t = mem_try_aligned(CACHE_LINE, sizeof *t + n_workers * sizeof t->workers[0]);
    if (!t)
        return err_set(e, E_NOMEM, "team of %u threads", n_workers);
    t->n_workers = n_workers;
    t->spin_pauses = n_workers <= cpu_count_usable() ? SPIN_PAUSES : SPIN_PAUSES_CROWDED;
    for (uint32_t i = 1; i < n_workers; i++) {
        struct worker *w = &t->workers[i];
        *w = (struct worker){.team = t, .index = i};
        char name[16];
        snprintf(name, sizeof name, "kvasir-w%u", i);
        int sys = thread_create_quiet(&w->id, name, worker_main, w);
        if (sys != 0) {
            end_workers(t, i - 1);
            mem_free(t);
            return err_sys(e, sys, "start worker %u of %u", i, n_workers);
        }
    }
    *out = t;
    return OK;
}

void team_free(struct team *t)
{
    if (!t)
        return;
    CHECK(!t->is_running);
    end_workers(t, t->n_workers - 1);
    mem_free(t);
}

uint32_t team_size(const struct team *t)
{
    return t->n_workers;
}

static void pin(pthread_t id, uint32_t worker, const uint32_t *ids, uint32_t n, bool is_each)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] < CPU_SETSIZE && (!is_each || worker % n == i))
            CPU_SET(ids[i], &set);
    (void)pthread_setaffinity_np(id, sizeof set, &set);
}

void team_pin(struct team *t, const uint32_t *ids, uint32_t n, bool is_each)
{
    for (uint32_t i = 1; i < t->n_workers; i++)
        pin(t->workers[i].id, i, ids, n, is_each);
}

void team_pin_caller(const uint32_t *ids, uint32_t n, bool is_each)
{
    pin(pthread_self(), 0, ids, n, is_each);
}

void team_run(struct team *t, team_fn *fn, void *arg)
{
    CHECK(!t->is_running);
    t->is_running = true;
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    fp_mode before = fp_enter();
    if (t->n_workers == 1) {
        fn(arg, 0, 1);
    } else {
        t->fn = fn;
        t->arg = arg;
        atomic_store_explicit(&t->n_finished, 0, memory_order_relaxed);
        uint32_t turn = atomic_load_explicit(&t->done.turn, memory_order_relaxed);
        gate_open(&t->start);
        fn(arg, 0, t->n_workers);
        gate_wait(&t->done, turn, t->spin_pauses);
    }
    fp_leave(before);
    t->is_running = false;
}

void team_barrier(struct team *t)
{
    if (t->n_workers == 1)
        return;
    /* Stable until this worker has arrived: the gate opens only after all have. */
    uint32_t turn = atomic_load_explicit(&t->barrier.turn, memory_order_relaxed);
    if (atomic_fetch_add(&t->n_arrived, 1) + 1 == t->n_workers) {
        atomic_store_explicit(&t->n_arrived, 0, memory_order_relaxed);
        gate_open(&t->barrier);
    } else {
        gate_wait(&t->barrier, turn, t->spin_pauses);
    }
}

uint32_t team_next(struct team *t, uint32_t grain)
{
    if (t->n_workers > 1)
        return atomic_fetch_add_explicit(&t->next, grain, memory_order_relaxed);
    uint32_t index = atomic_load_explicit(&t->next, memory_order_relaxed);
    atomic_store_explicit(&t->next, index + grain, memory_order_relaxed);
    return index;
}

void team_next_reset(struct team *t)
{
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
}
