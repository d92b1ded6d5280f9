/* SPDX-License-Identifier: MIT
 * speculate.c — see speculate.h.
 *
 *   tokens of a step   n_base + Σ over guesses taken of P(it and those before it are right)
 *   cost of a step     dearer(n_base, guesses) × a plain step
 *
 * Guesses are taken likeliest first over all choices; of all their numbers the one with the most
 * tokens per cost wins, none included.  (More guesses can be cheaper than fewer: kernels work in
 * tiles of rows.)  Costs are means that age: a plain step is made again after PLAIN_STEPS, so that
 * guessing always compares with today; a number of guesses that was not tried for FRESH_STEPS is
 * reckoned from its nearest neighbour, and thus tried again. */
#include "engine/speculate.h"

#include <stddef.h>

#define PLAIN_STEPS 64u
#define FRESH_STEPS 1000u
#define WEIGHT_NEW  0.2f
#define OUTLIER     3.0f  /* a sample counts for at most this many times the mean */
#define GAIN_MIN    1.03f /* less than that is noise */
/* Before any was measured: a further row costs this share of a step.  From SmolLM2 and Gemma 270M
 * on two cores: 0.1 to 0.25. */
#define ROW_PRIOR 0.15f

static uint32_t base_of(uint32_t n_base)
{
    return n_base <= 8 ? n_base - 1 : n_base <= 16 ? 8 : n_base <= 32 ? 9 : n_base <= 64 ? 10 : 11;
}

static bool is_fresh(const struct speculate_cost *c, uint64_t now, uint64_t steps)
{
    return c->at != 0 && now - c->at <= steps;
}

/* How much dearer a step is with n guesses. */
static float dearer_by(const struct speculation *s, struct speculate_step step, uint32_t n)
{
    if (step.n_beside > 0) /* a prompt's chunk is bound by arithmetic: each row costs the same */
        return 1 + (float)n / (float)(step.n_base + step.n_beside);
    const struct speculate_cost *costs = s->dearer[base_of(step.n_base)];
    for (uint32_t away = 0; away < SPECULATE_ROWS_MAX; away++) {
        const uint32_t near[] = {n + away, n > away ? n - away : 0};
        for (uint32_t i = 0; i < 2; i++)
            if (near[i] >= 1 && near[i] <= SPECULATE_ROWS_MAX &&
                is_fresh(&costs[near[i]], step.number, FRESH_STEPS))
                return 1 + (costs[near[i]].mean - 1) * (float)n / (float)near[i];
    }
    return 1 + ROW_PRIOR * (float)n;
}

void speculate_choose(const struct speculation *s, struct speculate_step step,
                      struct speculate_offer *offers, uint32_t n)
{
    float chance[SPECULATE_CHOICES_MAX]; /* that the next guess of a choice is used */
    uint32_t taken_by[SPECULATE_ROWS_MAX];
    uint32_t n_taken = 0, n_best = 0;
    for (uint32_t i = 0; i < n; i++) {
        offers[i].n_taken = 0;
        chance[i] = offers[i].n_offered ? offers[i].right[0] : 0;
    }
    if (step.n_base == 0 || (step.n_beside == 0 &&
                             !is_fresh(&s->plain[base_of(step.n_base)], step.number, PLAIN_STEPS)))
        return;
    float tokens = (float)step.n_base, best = tokens * GAIN_MIN;
    while (n_taken < SPECULATE_ROWS_MAX) {
        uint32_t next = 0;
        for (uint32_t i = 1; i < n; i++)
            if (chance[i] > chance[next])
                next = i;
        if (n == 0 || chance[next] <= 0)
            break;
        tokens += chance[next];
        struct speculate_offer *o = &offers[next];
        o->n_taken++;
        chance[next] = o->n_taken < o->n_offered ? chance[next] * o->right[o->n_taken] : 0;
        taken_by[n_taken++] = next;
        float value = tokens / dearer_by(s, step, n_taken);
        if (value > best) {
            best = value;
            n_best = n_taken;
        }
    }
    while (n_taken > n_best)
        offers[taken_by[--n_taken]].n_taken--;
}

static void blend(struct speculate_cost *c, float sample, uint64_t now)
{
    if (!is_fresh(c, now, FRESH_STEPS)) {
        c->mean = sample;
    } else {
        if (sample > OUTLIER * c->mean)
            sample = OUTLIER * c->mean;
        c->mean += WEIGHT_NEW * (sample - c->mean);
    }
    c->at = now;
}

void speculate_learn(struct speculation *s, struct speculate_step step, uint32_t n_guesses,
                     double ns)
{
    if (step.n_base == 0 || step.n_beside > 0 || n_guesses > SPECULATE_ROWS_MAX)
        return;
    struct speculate_cost *plain = &s->plain[base_of(step.n_base)];
    if (n_guesses == 0) {
        blend(plain, (float)ns, step.number);
    } else if (plain->at != 0) {
        float dearer = (float)ns / plain->mean;
        blend(&s->dearer[base_of(step.n_base)][n_guesses], dearer > 1 ? dearer : 1, step.number);
    }
}
