/* SPDX-License-Identifier: MIT
 * schedule.h — who goes next, and how much of a prompt fits beside streams.
 * For:     loop.c (which waiting request starts) and step.c (whose prompt is computed).
 * Order of requests: priority, which waiting improves; then the tenant, and within it the session,
 *          that has had the fewest tokens through the model; then the shorter rest; then the older.
 * Accounts exist while a request of theirs is open; who comes back begins level with the least that
 *          those at work have had, so that idle time is neither saved up nor lost.
 * Thread:  the engine's. */
#ifndef KVASIR_ENGINE_SCHEDULE_H
#define KVASIR_ENGINE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* A tenant, or a session of one. */
struct account {
    struct account *next;
    struct account *tenant; /* NULL: it is one */
    uint64_t key;
    double served;   /* tokens through the model */
    uint32_t n_jobs; /* open */
};

#define SCHEDULE_CROWDS 10u /* classes of steps, by the bit width of how many decode */
#define SCHEDULE_DEPTHS 16u /* of prompt tokens: below 512, then by doublings */

struct schedule {
    struct account *tenants, *sessions;
    double step_ns[SCHEDULE_CROWDS];  /* of steps without prompt tokens, lately; 0: none was seen */
    double token_ns[SCHEDULE_DEPTHS]; /* of a prompt token, lately; 0: none was seen */
    double lost; /* of the share of the time allowed that a chunk aims at: steps took too long */
};

/* What one request brings; the account of its session is found or made.  E_NOMEM. */
NODISCARD enum status schedule_join(struct schedule *s, uint64_t tenant, uint64_t session,
                                    struct account **out, struct err *e);
void schedule_leave(struct schedule *s, struct account *a); /* NULL is fine */
void schedule_charge(struct account *a, uint32_t n_tokens);

struct schedule_claim {
    const struct account *account;
    int32_t priority; /* lower goes first */
    double waited_ms; /* since it was submitted */
    uint32_t n_rest;  /* prompt tokens still to be computed, as far as is known */
    uint64_t id;      /* ascending with age */
};
#define SCHEDULE_AGE_MS 1000.0 /* waiting this long counts as one step of priority */
/* Does a go before b? */
bool schedule_before(const struct schedule_claim *a, const struct schedule_claim *b);

#define SCHEDULE_CHUNK_MIN   16u
#define SCHEDULE_CHUNK_FIRST 64u /* before anything was measured */

/* A step beside streams. */
struct schedule_beside {
    uint32_t n_decoding;
    double stall_ms; /* it takes at most that, or twice what it takes without prompt tokens */
};
/* Nanoseconds for prompt tokens in such a step. */
double schedule_budget(const struct schedule *s, struct schedule_beside b);
/* How many tokens of a prompt that begin at this depth fit: a multiple of 16 below most, 0 … most;
 * at least SCHEDULE_CHUNK_MIN with is_first, so that a prompt never stands still. */
uint32_t schedule_fit(const struct schedule *s, uint32_t depth, double budget_ns, bool is_first,
                      uint32_t most);
/* What so many tokens will take; 0: nothing was measured. */
double schedule_cost(const struct schedule *s, uint32_t depth, uint32_t n_tokens);

struct schedule_step {
    struct schedule_beside beside;
    uint32_t n_prompt_tokens;
    double depth; /* where they began, in the mean of the tokens */
    double ns;    /* it took */
};
void schedule_learn(struct schedule *s, struct schedule_step step);

#endif
