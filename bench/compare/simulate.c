/* SPDX-License-Identifier: MIT
 * simulate.c — without a rival: kvasir measured beside a system that computes every prompt again
 * (simulated), and the formulas alone (computed). */
#include <math.h>

#include "base/mem.h"
#include "bench/compare/compare_int.h"
#include "os/fs.h"

#define SIMULATED  "a recomputing rival"
#define COLD_LEAST 32 /* tokens: shorter prompts tell no rate */

static double rate_of(const struct results *r)
{
    double *rates = mem_new(r->n_samples + 1, sizeof *rates);
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        bool is_cold = (s->scenario == SCENARIO_CONTEXT && strcmp(s->kase, "cold") == 0) ||
                       (s->scenario == SCENARIO_RESUME && s->x <= 1);
        if (is_cold && s->outcome == OUTCOME_DONE && s->prompt_tokens >= COLD_LEAST &&
            s->first_ms > 0)
            rates[n++] = (double)s->prompt_tokens / s->first_ms * 1000;
    }
    sort_numbers(rates, n);
    double rate = n ? quantile(rates, n, 0.5) : 0;
    mem_free(rates);
    return rate;
}

/* Our own cold time at this length where it was measured: a longer prompt is slower a token. */
static double cold_ms(const struct results *r, const struct sample *of, double rate)
{
    for (uint32_t i = 0; i < r->n_samples && of->scenario == SCENARIO_CONTEXT; i++) {
        const struct sample *s = &r->samples[i];
        if (s->scenario == of->scenario && s->model == of->model && s->repeat == of->repeat &&
            s->system == 0 && s->x >= of->x && s->x <= of->x && s->outcome == OUTCOME_DONE &&
            strcmp(s->kase, "cold") == 0 && s->prompt_tokens > 0)
            return s->first_ms * (double)of->prompt_tokens / (double)s->prompt_tokens;
    }
    return (double)of->prompt_tokens / rate * 1000;
}

/* A row that computes its prompts again and is as fast as kvasir in all else. */
static enum status add_simulated(struct results *r, const struct options *o, struct err *e)
{
    uint32_t n = r->n_samples, row = r->n_systems;
    double rate = o->rate > 0 ? o->rate : rate_of(r);
    if (rate <= 0 || row >= SYSTEMS_MAX)
        return err_set(e, E_INVALID,
                       "nothing to simulate from: no cold prompt was measured "
                       "(scenarios resume, context), and no --rate was given");
    struct system_row *system = &r->systems[r->n_systems++];
    *system = (struct system_row){0};
    snprintf(system->name, sizeof system->name, "%s, %.0f tok/s", SIMULATED, rate);
    snprintf(system->driver, sizeof system->driver, "simulated");
    snprintf(system->note, sizeof system->note,
             o->rate > 0 ? "prompt tokens / %.0f tok/s, as given by --rate"
                         : "prompt tokens / %.0f tok/s, as kvasir itself computed them cold",
             rate);
    for (uint32_t i = 0; i < n; i++) {
        struct sample s = r->samples[i];
        double whole = 0;
        if (s.system != 0 || s.outcome != OUTCOME_DONE || s.scenario == SCENARIO_WARM_UP ||
            s.scenario == SCENARIO_COLD_START || s.prompt_tokens < 0)
            continue;
        if (s.scenario == SCENARIO_CHAT && strcmp(s.kase, "all turns") == 0) {
            for (uint32_t k = n; k < r->n_samples; k++)
                if (r->samples[k].scenario == SCENARIO_CHAT && r->samples[k].repeat == s.repeat &&
                    r->samples[k].model == s.model && r->samples[k].system == row)
                    whole += r->samples[k].total_ms;
            s.key_ms = s.total_ms = whole;
        } else {
            double first =
                o->rate > 0 ? (double)s.prompt_tokens / rate * 1000 : cold_ms(r, &s, rate);
            double rest = s.total_ms - s.first_ms;
            s.first_ms = first;
            s.total_ms = first + rest;
            s.key_ms = s.scenario == SCENARIO_RESUME ? s.total_ms : first;
        }
        s.system = row;
        s.label = LABEL_SIMULATED;
        s.cached_tokens = 0;
        s.restore_ms = s.save_ms = s.ready_ms = -1;
        s.memory_bytes = s.disk_bytes = -1;
        s.flags = 0;
        s.note[0] = s.answer[0] = s.opening[0] = '\0';
        if (!results_add(r, &s))
            return err_set(e, E_LIMIT, "more than %u samples", SAMPLES_MAX);
    }
    return OK;
}

static enum status rewrite(const struct options *o, const struct results *r, struct err *e)
{
    char path[PLACE_PATH_BYTES];
    struct buf json;
    buf_init(&json, 1u << 30);
    results_write(r, &json);
    snprintf(path, sizeof path, "%.1000s/results.json", o->out);
    enum status st = json.failed ? err_set(e, E_LIMIT, "results too large")
                                 : fs_write_file(os_fs_real(), path, json.ptr, json.len, e);
    buf_release(&json);
    return st;
}

enum status simulate(struct run *r, struct err *e)
{
    enum status st = run_all(r, e);
    if (st == OK)
        st = add_simulated(r->results, r->options, e);
    return st == OK ? rewrite(r->options, r->results, e) : st;
}

/* ---- formulas ---- */
static double seconds_of(double tokens, double rate)
{
    return tokens / rate;
}

int compute(const struct options *o)
{
    static const double rates[] = {30, 150, 219, 230};
    double given[] = {o->rate};
    const double *list = o->rate > 0 ? given : rates;
    size_t n = o->rate > 0 ? 1 : sizeof rates / sizeof rates[0];
    printf("Computed; nothing was measured. load = %.3g ms.\n\n"
           "advantage = (N / rate - load) / (N / rate)\n\n%10s",
           o->load_ms, "tokens");
    for (size_t k = 0; k < n; k++)
        printf("   %5.0f tok/s: prefill, advantage", list[k]);
    printf("\n");
    for (uint32_t i = 0; i < o->n_lengths; i++) {
        printf("%10u", o->lengths[i]);
        for (size_t k = 0; k < n; k++) {
            double s = seconds_of(o->lengths[i], list[k]);
            printf("   %15.2f s, %10.2f %%  ", s, 100 * (s - o->load_ms / 1000) / s);
        }
        printf("\n");
    }
    printf("\nimpact = tokens / rate * sessions a day: %.0f tokens, %.3g sessions a day\n",
           o->tokens_a_session, o->sessions_a_day);
    for (size_t k = 0; k < n; k++) {
        double day = seconds_of(o->tokens_a_session, list[k]) * o->sessions_a_day;
        printf("  at %5.0f tok/s: %6.1f s a session, %7.2f minutes a day, %7.1f hours a year\n",
               list[k], day / o->sessions_a_day, day / 60, day * 365 / 3600);
    }
    historic_compute(stdout);
    return 0;
}
