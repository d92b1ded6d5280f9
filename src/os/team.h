/* SPDX-License-Identifier: MIT
 * team.h — a fixed team of worker threads that run one function together.
 * For:     the engine's kernels: regions of microseconds.   Not for: background jobs.
 * Waiting: spin for about SPIN_PAUSES pauses, then futex.  Never a spin without a limit: with
 *          another job on one of two cores, rivals' spin barriers fall from 54 to 1–3 tok/s.
 * Thread:  team_run from one thread at a time; that thread is worker 0.
 * Floats:  inside fn the mode is the default on every worker (nearest even, subnormals kept); the
 *          caller's mode comes back after team_run. */
#ifndef KVASIR_OS_TEAM_H
#define KVASIR_OS_TEAM_H

#include "base/status.h"

#define TEAM_THREADS_MAX 256

struct team;
typedef void team_fn(void *arg, uint32_t worker, uint32_t n_workers);

NODISCARD enum status team_new(uint32_t n_workers, struct team **out, struct err *e);
void team_free(struct team *t);
uint32_t team_size(const struct team *t);
/* Keeps the team to the processors ids [n]: worker i to ids[i % n] if is_each, else all to all of them.
 * A hint: failure is fine.  The caller of team_run is worker 0 and is kept by team_pin_caller. */
void team_pin(struct team *t, const uint32_t *ids, uint32_t n, bool is_each);
void team_pin_caller(const uint32_t *ids, uint32_t n, bool is_each);
/* Runs fn(arg, i, n) on each of the n workers; returns when all have.  Resets team_next to 0. */
void team_run(struct team *t, team_fn *fn, void *arg);
/* Inside fn: waits until all workers of the team got here.  All workers must call it equally often. */
void team_barrier(struct team *t);
/* Inside fn: the next unclaimed index of a shared counter (dynamic split).  team_next_reset belongs
 * before a barrier, by one worker. */
uint32_t team_next(struct team *t, uint32_t grain);
void team_next_reset(struct team *t);

/* A plain joinable thread; name ≤ 15 bytes shows up in ps and gdb.  Signals sent to the process are
 * blocked in it, and in a team's workers; those that a thread raises itself (SIGBUS) are not. */
struct os_thread;
NODISCARD enum status thread_start(const char *name, void (*fn)(void *), void *arg,
                                   struct os_thread **out, struct err *e);
void thread_join(struct os_thread *t); /* frees t */

#endif
