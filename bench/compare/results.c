/* SPDX-License-Identifier: MIT
 * results.c — samples, and what they sum up to. */
#include <stdlib.h>

#include "base/mem.h"
#include "bench/compare/compare_int.h"

struct sample *results_add(struct results *r, const struct sample *s)
{
    if (r->n_samples == r->samples_cap) {
        if (r->samples_cap >= SAMPLES_MAX)
            return NULL; /* results_write says so */
        r->samples_cap = r->samples_cap ? r->samples_cap * 2 : 256;
        r->samples = mem_resize(r->samples, r->samples_cap, sizeof r->samples[0]);
    }
    r->samples[r->n_samples] = *s;
    return &r->samples[r->n_samples++];
}

/* The row of that system, added where it is new; SYSTEMS_MAX: no room. */
static uint32_t system_row_of(struct results *r, const struct system_row *row)
{
    uint32_t i = 0;
    while (i < r->n_systems && strcmp(r->systems[i].name, row->name) != 0)
        i++;
    if (i == r->n_systems && i < SYSTEMS_MAX)
        r->systems[r->n_systems++] = *row;
    return i;
}

static uint32_t model_row_of(struct results *r, const struct model_row *row)
{
    uint32_t i = 0;
    while (i < r->n_models && (strcmp(r->models[i].name, row->name) != 0 ||
                               strcmp(r->models[i].sha256, row->sha256) != 0))
        i++;
    if (i == r->n_models && i < MODELS_MAX)
        r->models[r->n_models++] = *row;
    return i;
}

enum status results_merge(struct results *r, const struct results *more, struct err *e)
{
    uint32_t systems[SYSTEMS_MAX], models[MODELS_MAX];
    if (strcmp(r->host_cpu, more->host_cpu) != 0 || r->processors != more->processors)
        return err_set(e, E_INVALID, "runs of two machines are not one comparison: %s, %s",
                       r->host_cpu, more->host_cpu);
    for (uint32_t i = 0; i < more->n_systems; i++)
        if ((systems[i] = system_row_of(r, &more->systems[i])) == SYSTEMS_MAX)
            return err_set(e, E_LIMIT, "more than %u systems", SYSTEMS_MAX);
    for (uint32_t i = 0; i < more->n_models; i++)
        if ((models[i] = model_row_of(r, &more->models[i])) == MODELS_MAX)
            return err_set(e, E_LIMIT, "more than %u models", MODELS_MAX);
    for (uint32_t i = 0; i < more->n_samples; i++) {
        struct sample s = more->samples[i];
        s.system = systems[s.system];
        s.model = models[s.model];
        if (!results_add(r, &s))
            return err_set(e, E_LIMIT, "more than %u samples", SAMPLES_MAX);
    }
    size_t at = strlen(r->command);
    snprintf(r->command + at, sizeof r->command - at, "\n%s", more->command);
    r->seconds += more->seconds;
    if (r->repeats != more->repeats)
        r->repeats = 0;
    r->is_interrupted |= more->is_interrupted;
    return OK;
}

const char *label_of(const struct results *r, uint32_t system)
{
    for (uint32_t i = 0; i < r->n_samples; i++)
        if (r->samples[i].system == system)
            return label_names[r->samples[i].label];
    return label_names[LABEL_MEASURED];
}

void results_release(struct results *r)
{
    mem_free(r->samples);
    r->samples = NULL;
    r->n_samples = r->samples_cap = 0;
}

static int number_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void sort_numbers(double *v, uint32_t n)
{
    qsort(v, n, sizeof v[0], number_order);
}

uint32_t n_busy_samples(const struct results *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_samples; i++)
        n += (r->samples[i].flags & FLAG_BUSY) != 0;
    return n;
}

static bool is_bad(const struct sample *s)
{
    return s->outcome == OUTCOME_FAILED || s->outcome == OUTCOME_HUNG ||
           (s->outcome == OUTCOME_SKIPPED && s->note[0]) ||
           (s->flags & (FLAG_NOT_REUSED | FLAG_MISCONFIGURED | FLAG_OTHER_ODDS | FLAG_WARM));
}

bool is_first_trouble(const struct results *r, uint32_t sample)
{
    const struct sample *s = &r->samples[sample];
    bool is_told = !is_bad(s);
    for (uint32_t k = 0; !is_told && k < sample; k++) {
        const struct sample *o = &r->samples[k];
        if (!is_bad(o) || o->system != s->system || o->model != s->model ||
            o->outcome != s->outcome || strcmp(o->kase, s->kase) != 0)
            continue;
        /* One that is left alone is so for one reason in all scenarios. */
        is_told = o->scenario == s->scenario ||
                  (s->outcome == OUTCOME_SKIPPED && strcmp(o->note, s->note) == 0);
    }
    return !is_told;
}

double quantile(const double *v, uint32_t n, double q)
{
    if (n == 0)
        return -1;
    double at = q * (n - 1);
    uint32_t i = (uint32_t)at;
    return v[i] + (v[i + 1 < n ? i + 1 : i] - v[i]) * (at - i);
}

static bool is_in(const struct sample *s, const struct group *g)
{
    return s->model == g->model && s->scenario == g->scenario && s->x >= g->x && s->x <= g->x &&
           strcmp(s->kase, g->kase) == 0;
}

uint32_t groups_of(const struct results *r, struct group *groups)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        uint32_t j = 0;
        while (j < n && !is_in(s, &groups[j]))
            j++;
        if (j == n && n < GROUPS_MAX)
            groups[n++] = (struct group){s->model, s->scenario, s->kase, s->x};
    }
    return n;
}

static double median_of(const struct results *r, const struct group *g, uint32_t system,
                        bool with_busy, double (*value)(const struct sample *), double *all,
                        uint32_t *n)
{
    *n = 0;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        if (s->system == system && is_in(s, g) && s->outcome == OUTCOME_DONE &&
            (with_busy || !(s->flags & FLAG_BUSY)) && value(s) >= 0)
            all[(*n)++] = value(s);
    }
    sort_numbers(all, *n);
    return quantile(all, *n, 0.5);
}

static double key_of(const struct sample *s)
{
    return s->key_ms;
}
static double first_of(const struct sample *s)
{
    return s->first_ms;
}
static double ready_of(const struct sample *s)
{
    return s->ready_ms;
}
/* Once the first token is there; servers that answer in one piece have none. */
static double decode_of(const struct sample *s)
{
    double ms = s->total_ms - s->first_ms;
    return s->first_ms >= 0 && s->output_tokens > 1 && s->gap_p50_ms >= 0 && ms > 0
               ? (double)(s->output_tokens - 1) / ms * 1000
               : -1;
}
static double prompt_of(const struct sample *s)
{
    return (double)s->prompt_tokens;
}
static double cached_of(const struct sample *s)
{
    return (double)s->cached_tokens;
}

bool summary_of(const struct results *r, const struct group *g, uint32_t system,
                struct summary *out)
{
    *out =
        (struct summary){.odds_off = -1, .min = -1, .median = -1, .p95 = -1, .decode_median = -1};
    bool is_there = false;
    uint32_t n_done = 0, n;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        if (s->system != system || !is_in(s, g))
            continue;
        is_there = true;
        out->label = s->label;
        out->flags |= s->flags;
        if (s->outcome > out->worst)
            out->worst = s->outcome;
        if (s->outcome == OUTCOME_DONE) {
            n_done++;
            out->n_busy += (s->flags & FLAG_BUSY) != 0;
        } else if (s->outcome == OUTCOME_NO) {
            out->n_no++;
        } else {
            out->n_bad++;
        }
        if (s->odds_off > out->odds_off)
            out->odds_off = s->odds_off;
        if (!out->note && s->note[0])
            out->note = s->note;
    }
    if (!is_there || n_done == 0)
        return is_there;
    out->is_all_busy = out->n_busy == n_done;
    double *all = mem_new(n_done, sizeof *all);
    bool with_busy = out->is_all_busy;
    out->first_median = median_of(r, g, system, with_busy, first_of, all, &n);
    out->ready_median = median_of(r, g, system, with_busy, ready_of, all, &n);
    out->decode_median = median_of(r, g, system, with_busy, decode_of, all, &n);
    out->prompt_tokens = (int64_t)median_of(r, g, system, with_busy, prompt_of, all, &n);
    out->cached_tokens = (int64_t)median_of(r, g, system, with_busy, cached_of, all, &n);
    out->median = median_of(r, g, system, with_busy, key_of, all, &out->n);
    if (out->n) {
        out->min = all[0];
        out->p95 = quantile(all, out->n, 0.95);
    }
    mem_free(all);
    return true;
}

/* ---- concurrency ---- */
static double between_p50(const struct sample *s)
{
    return s->gap_p50_ms;
}
static double between_p95(const struct sample *s)
{
    return s->gap_p95_ms;
}
static double between_p99(const struct sample *s)
{
    return s->gap_p99_ms;
}
static double tokens_a_second(const struct sample *s)
{
    return s->total_ms > 0 ? (double)s->output_tokens / s->total_ms * 1000 : -1;
}

bool streams_of(const struct results *r, const struct group *g, uint32_t system,
                struct streams *out)
{
    static const double shares[3] = {0.50, 0.95, 0.99};
    static double (*const between[3])(const struct sample *) = {between_p50, between_p95,
                                                                between_p99};
    struct summary v;
    struct group whole = *g;
    if (g->scenario != SCENARIO_CONCURRENCY || strcmp(g->kase, "request") != 0 ||
        !summary_of(r, g, system, &v) || v.n == 0)
        return false;
    double *all = mem_new(r->n_samples + 1, sizeof *all);
    uint32_t n;
    *out = (struct streams){.n = v.n};
    for (int i = 0; i < 3; i++) {
        median_of(r, g, system, v.is_all_busy, key_of, all, &n);
        out->first_ms[i] = quantile(all, n, shares[i]);
        median_of(r, g, system, v.is_all_busy, between[i], all, &n);
        out->gap_ms[i] = quantile(all, n, shares[i]);
    }
    whole.kase = "all requests";
    out->tokens_a_second = median_of(r, &whole, system, v.is_all_busy, tokens_a_second, all, &n);
    mem_free(all);
    return true;
}
