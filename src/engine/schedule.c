/* SPDX-License-Identifier: MIT
 * schedule.c — see schedule.h. */
#include "engine/schedule.h"

#include "base/check.h"
#include "base/mem.h"

#define WEIGHT_NEW 0.25
#define OUTLIER    3.0
/* A chunk aims at this share of the time allowed: what it misses by is the p99.  On a machine that
 * others use, where steps take now and then twice as long, it aims at less: a step that took too
 * long costs LOST_BY_MISS, one that did not wins back a hundredth of that, so that about one in a
 * hundred misses, as far as LOST_MAX reaches. */
#define AIM           0.6
#define LOST_MAX      0.25
#define LOST_BY_MISS  0.05
#define WON_BY_HIT    (LOST_BY_MISS / 100)
#define CHUNK_STEP    16u
#define LONGER_TIMES  2.0
#define DEPTH_SHALLOW 512u /* attention to so few costs little beside the weights */

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
static uint32_t crowd_of(uint32_t n_decoding)
{
    uint32_t crowd = 0;
    while (n_decoding >> crowd && crowd + 1 < SCHEDULE_CROWDS)
        crowd++;
    return crowd;
}

static uint32_t depth_class(double depth)
{
    uint32_t class = 0;
    for (double limit = DEPTH_SHALLOW; depth >= limit && class + 1 < SCHEDULE_DEPTHS; limit *= 2)
        class ++;
    return class;
}

/* A step of so many streams alone; what was not seen is taken for what fewer take: too short a time
 * makes the chunk shorter.  0: none was seen. */
static double step_ns(const struct schedule *s, uint32_t n_decoding)
{
    uint32_t crowd = crowd_of(n_decoding);
    while (crowd > 0 && s->step_ns[crowd] <= 0)
        crowd--;
    return s->step_ns[crowd];
}

/* A prompt token at that depth.  Where none was seen: at most twice as much as at half the depth,
 * or else no more than deeper down.  0: none was seen at all. */
static double token_ns(const struct schedule *s, double depth)
{
    const uint32_t class = depth_class(depth);
    double times = 1;
    for (uint32_t i = class + 1; i-- > 0; times *= 2)
        if (s->token_ns[i] > 0)
            return times * s->token_ns[i];
    for (uint32_t i = class + 1; i < SCHEDULE_DEPTHS; i++)
        if (s->token_ns[i] > 0)
            return s->token_ns[i];
    return 0;
}

static double allowed_ns(const struct schedule *s, struct schedule_beside b)
{
    const double longer = LONGER_TIMES * step_ns(s, b.n_decoding);
    return b.stall_ms * 1e6 > longer ? b.stall_ms * 1e6 : longer;
}

double schedule_budget(const struct schedule *s, struct schedule_beside b)
{
    double left = (AIM - s->lost) * allowed_ns(s, b) - step_ns(s, b.n_decoding);
    return left > 0 ? left : 0;
}

double schedule_cost(const struct schedule *s, uint32_t depth, uint32_t n_tokens)
{
    return token_ns(s, depth) * n_tokens;
}

uint32_t schedule_fit(const struct schedule *s, uint32_t depth, double budget_ns, bool is_first,
                      uint32_t most)
{
    const double each = token_ns(s, depth);
    double tokens = each > 0 ? budget_ns / each : is_first ? SCHEDULE_CHUNK_FIRST : 0;
    if (is_first && tokens < SCHEDULE_CHUNK_MIN)
        tokens = SCHEDULE_CHUNK_MIN;
    if (tokens >= most)
        return most;
    return (uint32_t)tokens / CHUNK_STEP * CHUNK_STEP; /* kernels work in tiles of rows */
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

void schedule_learn(struct schedule *s, struct schedule_step step)
{
    const uint32_t n_decoding = step.beside.n_decoding;
    if (step.n_prompt_tokens == 0) {
        blend(&s->step_ns[crowd_of(n_decoding)], step.ns);
        return;
    }
    if (step.n_prompt_tokens < SCHEDULE_CHUNK_MIN && n_decoding == 0)
        return; /* the tail of a prompt: reading the weights is most of it */
    if (n_decoding > 0) {
        s->lost += step.ns > allowed_ns(s, step.beside) ? LOST_BY_MISS : -WON_BY_HIT;
        s->lost = s->lost < 0 ? 0 : s->lost > LOST_MAX ? LOST_MAX : s->lost;
    }
    const double without = n_decoding > 0 ? step_ns(s, n_decoding) : 0;
    const double own = step.ns > without ? step.ns - without : step.ns;
    blend(&s->token_ns[depth_class(step.depth)], own / step.n_prompt_tokens);
}
