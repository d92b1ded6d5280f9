/* SPDX-License-Identifier: MIT
 * historic.c — the prototype's table again: sessions resumed, a conversation, three prompt lengths.
 * The prototype's percentages are those of whole times, prompt and answer together; they are shown
 * for orientation and never used as results. */
#include <math.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/compare/compare_int.h"

/* Its prefill and load, as told.  Nobody wrote down how long its answers, sessions and turns were:
 * these are what fits its percentages. */
#define OLD_RATE           219.0
#define OLD_LOAD_S         0.001
#define OLD_ANSWER_S       1.87
#define OLD_SESSION_TOKENS 140.0
#define OLD_TURN_TOKENS    75.0

static const struct {
    double tokens, percent;
} old_lengths[] = {{67, 14}, {2000, 83}, {20000, 98}};
#define OLD_SESSIONS         3u
#define OLD_SESSIONS_PERCENT 17.0
#define OLD_TURNS            10u
#define OLD_TURNS_PERCENT    41.0

/* ---- from samples ---- */
/* Median of restore + request to the end of the answer; -1: none. */
static double whole_ms(const struct results *r, const struct group *g, uint32_t system)
{
    double *all = mem_new(r->n_samples + 1, sizeof *all), median = -1;
    for (int pass = 0; pass < 2 && median < 0; pass++) { /* the busy ones if there are no others */
        uint32_t n = 0;
        for (uint32_t i = 0; i < r->n_samples; i++) {
            const struct sample *s = &r->samples[i];
            if (s->system == system && s->model == g->model && s->scenario == g->scenario &&
                strcmp(s->kase, g->kase) == 0 && s->x >= g->x && s->x <= g->x &&
                s->outcome == OUTCOME_DONE && (pass || !(s->flags & FLAG_BUSY)))
                all[n++] = s->total_ms + fmax(s->restore_ms, 0);
        }
        sort_numbers(all, n);
        median = quantile(all, n, 0.5);
    }
    mem_free(all);
    return median;
}

static void add_row(struct historic *rows, uint32_t *n, double ours, double theirs, double percent,
                    const char *what, double x)
{
    if (*n == HISTORIC_MAX || ours < 0 || theirs <= 0)
        return;
    struct historic *h = &rows[(*n)++];
    *h = (struct historic){.ours_ms = ours, .theirs_ms = theirs, .old_percent = percent};
    snprintf(h->what, sizeof h->what, "%.0f %s", x, what);
}

uint32_t historic_rows(const struct results *r, uint32_t model, uint32_t system,
                       struct historic *rows)
{
    struct group *groups = mem_new(GROUPS_MAX, sizeof *groups);
    uint32_t n_groups = groups_of(r, groups), n = 0, sessions = 0;
    double ours = 0, theirs = 0;
    for (uint32_t i = 0; i < n_groups; i++) {
        const struct group *g = &groups[i];
        if (g->model != model || g->scenario != SCENARIO_RESUME)
            continue;
        double a = whole_ms(r, g, 0), b = whole_ms(r, g, system);
        if (a < 0 || b < 0)
            continue;
        ours += a;
        theirs += b;
        sessions++;
    }
    if (sessions)
        add_row(rows, &n, ours, theirs, sessions == OLD_SESSIONS ? OLD_SESSIONS_PERCENT : -1,
                "sessions, the first cold", sessions);
    for (uint32_t i = 0; i < n_groups; i++) {
        const struct group *g = &groups[i];
        if (g->model != model)
            continue;
        if (g->scenario == SCENARIO_CHAT && strcmp(g->kase, "all turns") == 0)
            add_row(rows, &n, whole_ms(r, g, 0), whole_ms(r, g, system),
                    g->x >= OLD_TURNS && g->x <= OLD_TURNS ? OLD_TURNS_PERCENT : -1,
                    "turns of a conversation", g->x);
        if (g->scenario != SCENARIO_CONTEXT || strcmp(g->kase, "new turn after restart") != 0)
            continue;
        double percent = -1;
        for (size_t k = 0; k < ARRAY_COUNT(old_lengths); k++)
            if (fabs(g->x - old_lengths[k].tokens) < 0.5)
                percent = old_lengths[k].percent;
        add_row(rows, &n, whole_ms(r, g, 0), whole_ms(r, g, system), percent,
                "tokens and a new turn, resumed", g->x);
    }
    mem_free(groups);
    return n;
}

/* ---- from the formula ---- */
static double share(double saved_tokens, double tokens, double loads, double answers)
{
    double all = tokens / OLD_RATE + answers * OLD_ANSWER_S;
    return 100 * (saved_tokens / OLD_RATE - loads * OLD_LOAD_S) / all;
}

static void old_row(FILE *out, const char *what, double computed, double percent)
{
    fprintf(out, "  %-40s%13.1f %%%13.0f %%\n", what, computed, percent);
}

void historic_compute(FILE *out)
{
    char what[60];
    double turns = 0, kept = 0;
    fprintf(out,
            "\nthe prototype's table from one formula (computed): what was saved / (N / rate + "
            "answer),\nrate = %.0f tok/s, load = 1 ms, answer = %.2f s\n"
            "  %-40s%15s%15s\n",
            OLD_RATE, OLD_ANSWER_S, "", "computed", "prototype");
    for (size_t k = 0; k < ARRAY_COUNT(old_lengths); k++) {
        double n = old_lengths[k].tokens;
        snprintf(what, sizeof what, "%.0f tokens", n);
        old_row(out, what, share(n, n, 1, 1), old_lengths[k].percent);
    }
    snprintf(what, sizeof what, "%u sessions of %.0f tokens", OLD_SESSIONS, OLD_SESSION_TOKENS);
    old_row(out, what,
            share((OLD_SESSIONS - 1) * OLD_SESSION_TOKENS, OLD_SESSIONS * OLD_SESSION_TOKENS,
                  OLD_SESSIONS - 1, OLD_SESSIONS),
            OLD_SESSIONS_PERCENT);
    for (uint32_t i = 1; i <= OLD_TURNS; i++) {
        turns += i * OLD_TURN_TOKENS;
        kept += (i - 1) * OLD_TURN_TOKENS;
    }
    snprintf(what, sizeof what, "conversation of %u turns of %.0f tokens", OLD_TURNS,
             OLD_TURN_TOKENS);
    old_row(out, what, share(kept, turns, 0, OLD_TURNS), OLD_TURNS_PERCENT);
    fprintf(out, "Answer, session and turn are lengths that fit its percentages; nobody wrote them "
                 "down.\n");
}
