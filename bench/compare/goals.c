/* SPDX-License-Identifier: MIT
 * goals.c — what kvasir set out to reach when a long prompt comes back after a restart, and what it
 * did reach.  A ratio that falls short stands beside the others. */
#include "base/check.h"
#include "base/mem.h"
#include "bench/compare/compare_int.h"

/* Shorter prompts are waited for less: most of what is left is the answer's own arithmetic. */
#define GOAL_TOKENS_LEAST 7000

static const struct {
    const char *what, *rival_case, *our_case;
    double least;
} goals[] = {
    {"its cold prefill ÷ our new turn", "cold", "new turn after restart", 300},
    {"its restore + new turn ÷ ours", "new turn after restart", "new turn after restart", 3},
    {"its restore + repeat ÷ ours", "repeat after restart", "repeat after restart", 20},
};

static double median_of_case(const struct results *r, uint32_t model, uint32_t system,
                             const char *kase, bool is_warm, double x)
{
    char text[64];
    bool is_cold = strcmp(kase, "cold") == 0;
    snprintf(text, sizeof text, "%s%s", kase, is_warm && !is_cold ? ", pages warm" : "");
    const struct group g = {model, SCENARIO_CONTEXT, text, x};
    struct summary s;
    return summary_of(r, &g, system, &s) && s.n && !(s.flags & FLAG_NOT_REUSED) ? s.median : -1;
}

/* The longest prompt of a model that both have met cold; 0: none is long enough. */
static double longest_of(const struct results *r, uint32_t model, uint32_t system)
{
    double longest = 0;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        if (s->model == model && s->system == system && s->scenario == SCENARIO_CONTEXT &&
            s->outcome == OUTCOME_DONE && strcmp(s->kase, "cold") == 0 && s->x > longest &&
            median_of_case(r, model, 0, "cold", false, s->x) > 0)
            longest = s->x;
    }
    return longest >= GOAL_TOKENS_LEAST ? longest : 0;
}

uint32_t goals_of(const struct results *r, struct goal *out)
{
    uint32_t n = 0;
    for (uint32_t m = 0; m < r->n_models; m++)
        for (uint32_t s = 1; s < r->n_systems; s++) {
            double x = longest_of(r, m, s);
            for (int is_warm = 0; x > 0 && is_warm < 2; is_warm++)
                for (size_t i = 0; i < ARRAY_COUNT(goals) && n < GOALS_MAX; i++) {
                    double theirs = median_of_case(r, m, s, goals[i].rival_case, is_warm, x);
                    double ours = median_of_case(r, m, 0, goals[i].our_case, is_warm, x);
                    if (theirs <= 0 || ours <= 0)
                        continue;
                    out[n++] = (struct goal){.what = goals[i].what,
                                             .model = m,
                                             .system = s,
                                             .tokens = x,
                                             .is_warm = is_warm,
                                             .ratio = theirs / ours,
                                             .least = goals[i].least,
                                             .is_met = theirs / ours >= goals[i].least};
                }
        }
    return n;
}

void goal_text(const struct results *r, const struct goal *g, char *text, size_t size)
{
    snprintf(text, size, "%s, %.0f tokens, %s, page cache %s: %s", r->models[g->model].name,
             g->tokens, r->systems[g->system].name, g->is_warm ? "warm" : "dropped", g->what);
}
