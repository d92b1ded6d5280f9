/* SPDX-License-Identifier: MIT
 * schedule.c — see schedule.h. */
#include "engine/schedule.h"

#include "base/check.h"
#include "base/mem.h"

#define WEIGHT_NEW 0.25
#define OUTLIER    3.0
/* A chunk aims at this share of the time allowed: what it misses by is the p99. */
#define AIM          0.6
#define CHUNK_STEP   16u
#define LONGER_TIMES 2.0

/* ---- accounts ---- */
static struct account *find(struct account *list, const struct account *tenant, uint64_t key)
{
    while (list && (list->key != key || list->tenant != tenant))
        list = list->next;
    return list;
}

/* The least that any account beside it has had; 0: there is none. */
static double least_served(const struct account *list, const struct account *tenant)
{
    double least = -1;
    for (; list; list = list->next)
        if (list->tenant == tenant && (least < 0 || list->served < least))
            least = list->served;
    return least < 0 ? 0 : least;
}

static struct account *open_account(struct account **list, struct account *tenant, uint64_t key)
{
    struct account *a = find(*list, tenant, key);
    if (a) {
        a->n_jobs++;
        return a;
    }
    a = mem_try_new(1, sizeof *a);
    if (!a)
        return NULL;
    *a = (struct account){
        .tenant = tenant, .key = key, .n_jobs = 1, .served = least_served(*list, tenant)};
    a->next = *list;
    *list = a;
    return a;
}

static void close_account(struct account **list, struct account *a)
{
    CHECK(a->n_jobs > 0);
    if (--a->n_jobs > 0)
        return;
    while (*list != a)
        list = &(*list)->next;
    *list = a->next;
    mem_free(a);
}

enum status schedule_join(struct schedule *s, uint64_t tenant, uint64_t session,
                          struct account **out, struct err *e)
{
    struct account *t = open_account(&s->tenants, NULL, tenant);
    struct account *a = t ? open_account(&s->sessions, t, session) : NULL;
    if (t && !a)
        close_account(&s->tenants, t);
    *out = a;
    return a ? OK : err_set(e, E_NOMEM, "no memory for a request");
}

void schedule_leave(struct schedule *s, struct account *a)
{
    if (!a)
        return;
    struct account *tenant = a->tenant;
    close_account(&s->sessions, a);
    close_account(&s->tenants, tenant);
}

void schedule_charge(struct account *a, uint32_t n_tokens)
{
    a->served += n_tokens;
    a->tenant->served += n_tokens;
}

/* ---- order ---- */
static double rank(const struct schedule_claim *c)
{
    return (double)c->priority - (double)(int64_t)(c->waited_ms / SCHEDULE_AGE_MS);
}

bool schedule_before(const struct schedule_claim *a, const struct schedule_claim *b)
{
    /* Age matters between priorities only: among equals, shares are fair, not first come. */
    if (a->priority != b->priority && rank(a) != rank(b))
        return rank(a) < rank(b);
    const struct account *x = a->account, *y = b->account;
    if (x->tenant != y->tenant && x->tenant->served != y->tenant->served)
        return x->tenant->served < y->tenant->served;
    if (x != y && x->tenant == y->tenant && x->served != y->served)
        return x->served < y->served;
    if (a->n_rest != b->n_rest)
        return a->n_rest < b->n_rest;
    return a->id < b->id;
}

/* ---- chunks ---- */
uint32_t schedule_chunk(const struct schedule *s, double stall_ms, uint32_t most)
{
    if (s->token_ns <= 0)
        return most < SCHEDULE_CHUNK_FIRST ? most : SCHEDULE_CHUNK_FIRST;
    double allowed = stall_ms * 1e6;
    if (allowed < LONGER_TIMES * s->step_ns)
        allowed = LONGER_TIMES * s->step_ns;
    double tokens = (AIM * allowed - s->step_ns) / s->token_ns;
    if (tokens < SCHEDULE_CHUNK_MIN)
        tokens = SCHEDULE_CHUNK_MIN;
    if (tokens >= most)
        return most;
    uint32_t n = (uint32_t)tokens / CHUNK_STEP * CHUNK_STEP; /* kernels work in tiles of rows */
    return n < most ? n : most;
}

static void blend(double *mean, double sample)
{
    if (*mean <= 0) {
        *mean = sample;
        return;
    }
    if (sample > OUTLIER * *mean)
        sample = OUTLIER * *mean;
    *mean += WEIGHT_NEW * (sample - *mean);
}

void schedule_learn(struct schedule *s, uint32_t n_decoding, uint32_t n_prompt_tokens, double ns)
{
    if (n_prompt_tokens == 0) {
        blend(&s->step_ns, ns);
        return;
    }
    if (n_prompt_tokens < SCHEDULE_CHUNK_MIN && n_decoding == 0)
        return; /* the tail of a prompt: reading the weights is most of it */
    double own = n_decoding > 0 && ns > s->step_ns ? ns - s->step_ns : ns;
    blend(&s->token_ns, own / n_prompt_tokens);
}
