/* SPDX-License-Identifier: MIT
 * table.c — the terminal's table, the headline and the impact, from samples alone. */
#include <math.h>

#include "base/mem.h"
#include "bench/compare/compare_int.h"

#define NAME_COLUMN 34

/* Milliseconds as a person reads them. */
void show_ms(double ms, char *text, size_t size)
{
    if (ms < 0)
        snprintf(text, size, "–");
    else if (ms < 10)
        snprintf(text, size, "%.2f ms", ms);
    else if (ms < 1000)
        snprintf(text, size, "%.0f ms", ms);
    else if (ms < 10000)
        snprintf(text, size, "%.2f s", ms / 1000);
    else
        snprintf(text, size, "%.1f s", ms / 1000);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

void show_case(const struct results *r, const struct group *g, char *text, size_t size)
{
    (void)r;
    switch (g->scenario) {
    case SCENARIO_WARM_UP:
    case SCENARIO_COLD_START:
        snprintf(text, size, "%s", g->kase);
        break;
    case SCENARIO_CONTEXT:
    case SCENARIO_SIZES:
        snprintf(text, size, "%.0f tokens, %s%s", g->x, g->kase,
                 ends_with(g->kase, "after restart") ? ", pages dropped" : "");
        break;
    case SCENARIO_CONCURRENCY:
        snprintf(text, size, "%.0f streams, %s", g->x, g->kase);
        break;
    case SCENARIO_BRANCH:
        snprintf(text, size, "%s at %.0f %% of the prompt", g->kase, g->x);
        break;
    case SCENARIO_CHAT:
    case SCENARIO_RESUME:
    case SCENARIO_AGENTS:
    case SCENARIO_TOOLS:
    case SCENARIO_COUNT:
    default:
        if (strcmp(g->kase, "all turns") == 0 || g->x <= 0)
            snprintf(text, size, "%s", g->kase);
        else
            snprintf(text, size, "%s %.0f", g->kase, g->x);
    }
}

/* Tokens a second after the first one. */
void show_rate(double rate, char *text, size_t size)
{
    if (rate < 0)
        snprintf(text, size, "–");
    else
        snprintf(text, size, rate < 10 ? "%.1f" : "%.0f", rate);
}

/* Printed width of UTF-8: code points. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0u) != 0x80u;
    return n;
}

static void pad(FILE *out, const char *text, int width, bool is_right)
{
    int n = width - width_of(text);
    if (is_right)
        fprintf(out, "%*s%s", n > 0 ? n : 0, "", text);
    else
        fprintf(out, "%s%*s", text, n > 0 ? n : 0, "");
}

void show_flags(unsigned flags, char *text, size_t size)
{
    size_t at = 0;
    text[0] = '\0';
    for (int i = 0; i < FLAG_COUNT && at < size; i++)
        if (flags & (1u << i))
            at += (size_t)snprintf(text + at, size - at, "%s%s", at ? ", " : "", flag_names[i]);
}

static void print_row(FILE *out, const struct results *r, uint32_t system, const struct summary *s,
                      const struct summary *ours)
{
    char min[24], median[24], p95[24], first[24], decode[24], flags[120], ratio[24] = "";
    pad(out, r->systems[system].name, NAME_COLUMN, false);
    if (s->n == 0) {
        fprintf(out, "  %s%s%s\n",
                s->n_no                    ? "no"
                : s->worst == OUTCOME_HUNG ? "hung"
                                           : outcome_names[s->worst],
                s->note ? ": " : "", s->note ? s->note : "");
        return;
    }
    show_ms(s->min, min, sizeof min);
    show_ms(s->median, median, sizeof median);
    show_ms(s->p95, p95, sizeof p95);
    show_ms(s->first_median, first, sizeof first);
    show_flags(s->flags & ~(unsigned)(FLAG_BUSY | FLAG_OTHER_ANSWER), flags, sizeof flags);
    if (ours && ours != s && ours->n && ours->median > 0)
        snprintf(ratio, sizeof ratio, "%.1f×", s->median / ours->median);
    pad(out, min, 10, true);
    pad(out, median, 10, true);
    pad(out, p95, 10, true);
    pad(out, ratio, 9, true);
    pad(out, first, 12, true);
    show_rate(s->decode_median, decode, sizeof decode);
    pad(out, decode, 9, true);
    char tokens[32] = "";
    if (s->cached_tokens >= 0 && s->prompt_tokens >= 0)
        snprintf(tokens, sizeof tokens, "%lld/%lld", (long long)s->cached_tokens,
                 (long long)s->prompt_tokens);
    else if (s->prompt_tokens >= 0)
        snprintf(tokens, sizeof tokens, "?/%lld", (long long)s->prompt_tokens);
    pad(out, tokens, 14, true);
    fprintf(out, "  %u", s->n);
    if (s->n_busy)
        fprintf(out,
                s->is_all_busy ? " (all taken while others used the machine)"
                               : " (+%u left out, machine busy)",
                s->n_busy);
    if (s->n_bad)
        fprintf(out, " (+%u failed)", s->n_bad);
    if (s->odds_off >= 0)
        fprintf(out, "  odds off by %.3f nat", s->odds_off);
    fprintf(out, "  %s%s%s", label_names[s->label], flags[0] ? ", " : "", flags);
    fputc('\n', out);
    if (s->note && (s->flags & (FLAG_NOT_REUSED | FLAG_MISCONFIGURED | FLAG_OTHER_ODDS)))
        fprintf(out, "%*s  %s\n", 4, "", s->note);
}

/* How many of a system's answers are the first one's, to the byte (rule 3). */
bool show_answers(const struct results *r, uint32_t system, char *text, size_t size)
{
    uint32_t n = 0, n_other = 0;
    const char *first = NULL;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        if (s->system != system || s->outcome != OUTCOME_DONE || !s->answer[0])
            continue;
        n++;
        n_other += (s->flags & FLAG_OTHER_ANSWER) != 0;
        if (!first && (s->flags & FLAG_OTHER_ANSWER) && strncmp(s->note, "answer differs", 14) == 0)
            first = s->note;
    }
    if (n == 0 || system == 0)
        return false;
    snprintf(text, size, "%s: %u of %u answers are %s's to the byte%s%s", r->systems[system].name,
             n - n_other, n, r->systems[0].name, first ? "; the first that is not: " : "",
             first ? first : "");
    return true;
}

static void print_streams(FILE *out, const struct results *r, const struct group *groups,
                          uint32_t n)
{
    bool has_head = false;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t s = 0; s < r->n_systems; s++) {
            struct streams v;
            char name[120], ms[24];
            if (!streams_of(r, &groups[i], s, &v))
                continue;
            if (!has_head)
                fprintf(out,
                        "\nstreams (first token after the due time; between tokens)\n%*s%10s%10s"
                        "%10s%12s%10s%10s%12s\n",
                        NAME_COLUMN + 2, "", "p50", "p95", "p99", "between p50", "p95", "p99",
                        "tokens/s");
            has_head = true;
            snprintf(name, sizeof name, "%.40s, %.0f, %.24s", r->models[groups[i].model].name,
                     groups[i].x, r->systems[s].name);
            pad(out, name, NAME_COLUMN + 2, false);
            for (int k = 0; k < 6; k++) {
                show_ms(k < 3 ? v.first_ms[k] : v.gap_ms[k - 3], ms, sizeof ms);
                pad(out, ms, k == 3 ? 12 : 10, true);
            }
            fprintf(out, "%12.1f  %s\n", v.tokens_a_second, label_of(r, s));
        }
}

static void print_historic(FILE *out, const struct results *r, uint32_t model, uint32_t system)
{
    struct historic rows[HISTORIC_MAX];
    const char *label = label_of(r, system);
    if (strcmp(r->systems[system].driver, "simulated") != 0)
        return;
    uint32_t n = historic_rows(r, model, system, rows);
    if (!n)
        return;
    fprintf(out,
            "\n%s · the prototype's table again: whole times, prompt and answer; "
            "advantage = (rival - ours) / rival\n",
            r->models[model].name);
    pad(out, "", NAME_COLUMN + 8, false);
    fprintf(out, "%10s %-11s%10s %-12s%11s%23s\n", "ours", label_of(r, 0), "rival", label,
            "advantage", "prototype, elsewhere");
    for (uint32_t i = 0; i < n; i++) {
        char a[24], b[24];
        show_ms(rows[i].ours_ms, a, sizeof a);
        show_ms(rows[i].theirs_ms, b, sizeof b);
        pad(out, rows[i].what, NAME_COLUMN + 8, false);
        pad(out, a, 10, true);
        fprintf(out, " %-11s", "");
        pad(out, b, 10, true);
        fprintf(out, " %-12s%9.1f %%", "",
                100 * (rows[i].theirs_ms - rows[i].ours_ms) / rows[i].theirs_ms);
        if (rows[i].old_percent >= 0)
            fprintf(out, "%21.0f %%", rows[i].old_percent);
        fputc('\n', out);
    }
}

static void print_goals(FILE *out, const struct results *r)
{
    struct goal *goals = mem_new(GOALS_MAX, sizeof *goals);
    uint32_t n = goals_of(r, goals);
    char text[400];
    if (n)
        fprintf(out, "\ngoals\n");
    for (uint32_t i = 0; i < n; i++) {
        goal_text(r, &goals[i], text, sizeof text);
        fprintf(out, "  %s: %.1f× (at least %.0f×: %s)\n", text, goals[i].ratio, goals[i].least,
                goals[i].is_met ? "met" : "MISSED");
    }
    mem_free(goals);
}

void table_print(FILE *out, const struct results *r)
{
    struct group *groups = mem_new(GROUPS_MAX, sizeof *groups);
    uint32_t n = groups_of(r, groups);
    char text[800];
    headline(r, text, sizeof text);
    fprintf(out, "\n%s\n", text);
    for (uint32_t i = 0; i < n; i++) {
        const struct group *g = &groups[i];
        struct summary ours, theirs;
        bool has_ours = summary_of(r, g, 0, &ours);
        if (i == 0 || g->model != groups[i - 1].model || g->scenario != groups[i - 1].scenario) {
            fprintf(out, "\n%s · %s (%s)\n", r->models[g->model].name, scenarios[g->scenario].name,
                    scenarios[g->scenario].key);
            fprintf(out, "%*s%10s%10s%10s%9s%12s%9s%14s  n\n", NAME_COLUMN + 2, "", "min", "median",
                    "p95", "ratio", "first token", "then/s", "cached/prompt");
        }
        show_case(r, g, text, sizeof text);
        fprintf(out, "%s\n", text);
        for (uint32_t s = 0; s < r->n_systems; s++)
            if (summary_of(r, g, s, &theirs)) {
                fputs("  ", out);
                print_row(out, r, s, s ? &theirs : &ours, has_ours && s ? &ours : NULL);
            }
    }
    print_streams(out, r, groups, n);
    for (uint32_t m = 0; m < r->n_models; m++)
        for (uint32_t s = 1; s < r->n_systems; s++)
            print_historic(out, r, m, s);
    print_goals(out, r);
    fputc('\n', out);
    for (uint32_t s = 1; s < r->n_systems; s++)
        if (show_answers(r, s, text, sizeof text))
            fprintf(out, "%s\n", text);
    impact(r, text, sizeof text);
    fprintf(out, "\n%s\n", text);
    mem_free(groups);
}

/* ---- sentences ---- */
/* A rival's best median in a case; false: none has one. */
static bool best_rival(const struct results *r, const struct group *g, uint32_t *system,
                       struct summary *out)
{
    bool is_found = false;
    for (uint32_t s = 1; s < r->n_systems; s++) {
        struct summary theirs;
        if (!summary_of(r, g, s, &theirs) || theirs.n == 0 ||
            (is_found && theirs.median >= out->median))
            continue;
        *out = theirs;
        *system = s;
        is_found = true;
    }
    return is_found;
}

/* The longest prompt that was resumed, beside computing it again: of several rivals the fastest,
 * so that it is no boast. */
void headline(const struct results *r, char *text, size_t size)
{
    static const char after[] = "new turn after restart";
    struct group *groups = mem_new(GROUPS_MAX, sizeof *groups);
    uint32_t n = groups_of(r, groups), rival = 0;
    const struct group *best = NULL;
    struct summary ours = {0}, theirs = {0}, cold = {0};
    bool has_rival = false, is_beside = false; /* a rival did what best is, too */
    for (uint32_t i = 0; i < r->n_samples; i++)
        has_rival |= r->samples[i].system != 0 && r->samples[i].label == LABEL_MEASURED &&
                     r->samples[i].outcome == OUTCOME_DONE;
    for (uint32_t i = 0; i < n; i++) {
        bool is_context =
            groups[i].scenario == SCENARIO_CONTEXT && strcmp(groups[i].kase, after) == 0;
        bool is_resume = groups[i].scenario == SCENARIO_RESUME && groups[i].x > 1 &&
                         (!best || best->scenario == SCENARIO_RESUME);
        if (!(is_context || is_resume) || !summary_of(r, &groups[i], 0, &ours) || !ours.n)
            continue;
        bool has_other = best_rival(r, &groups[i], &rival, &theirs);
        bool is_better =
            !best || (is_context && best->scenario == SCENARIO_RESUME) || groups[i].x > best->x;
        if (best && has_other != is_beside)
            is_better = has_other;
        if (is_better) {
            best = &groups[i];
            is_beside = has_other;
        }
    }
    size_t at = (size_t)snprintf(text, size, "%s", has_rival ? "" : "No rival was measured. ");
    if (!best) {
        snprintf(text + at, size - at,
                 "No prompt was resumed (scenarios resume and context), so "
                 "there is no headline.");
        mem_free(groups);
        return;
    }
    struct group first = *best;
    bool is_context = best->scenario == SCENARIO_CONTEXT;
    char a[24], b[24];
    first.kase = is_context ? "cold" : best->kase;
    first.x = is_context ? best->x : 1;
    summary_of(r, best, 0, &ours);
    show_ms(ours.median, a, sizeof a);
    at +=
        (size_t)snprintf(text + at, size - at,
                         is_context ? "%s, %.0f tokens: after a restart, the page cache dropped, "
                                      "%s's next answer begins "
                                      "after %s"
                                    : "%s, session %.0f: after a restart %s has answered after %s",
                         r->models[best->model].name, best->x, r->systems[0].name, a);
    if (at < size && best_rival(r, best, &rival, &theirs)) {
        show_ms(theirs.median, b, sizeof b);
        at += (size_t)snprintf(text + at, size - at, ", %s%s after %s (%.1f×%s)",
                               is_context ? "that of " : "", r->systems[rival].name, b,
                               theirs.median / ours.median,
                               theirs.label != ours.label ? ", simulated" : "");
    }
    at += at < size ? (size_t)snprintf(text + at, size - at, ". From nothing it takes") : 0;
    if (at < size && summary_of(r, &first, 0, &cold) && cold.n) {
        show_ms(cold.median, b, sizeof b);
        at += (size_t)snprintf(text + at, size - at, " %s %s (%.0f×)", r->systems[0].name, b,
                               cold.median / ours.median);
    }
    if (at < size && best_rival(r, &first, &rival, &theirs)) {
        show_ms(theirs.median, b, sizeof b);
        at += (size_t)snprintf(text + at, size - at, ", %s %s (%.0f×)", r->systems[rival].name, b,
                               theirs.median / ours.median);
    }
    if (at < size)
        snprintf(text + at, size - at, " (%s%s).", label_names[ours.label],
                 ours.is_all_busy || theirs.is_all_busy ? ", while others used the machine" : "");
    mem_free(groups);
}

static bool is_cold(const struct sample *s)
{
    bool is_length = s->scenario == SCENARIO_CONTEXT || s->scenario == SCENARIO_SIZES;
    return s->outcome == OUTCOME_DONE && s->first_ms > 0 &&
           ((is_length && strcmp(s->kase, "cold") == 0) ||
            (s->scenario == SCENARIO_RESUME && s->x <= 1));
}

/* The longest cold prompt of a model, or of one system with it. */
static double longest_cold(const struct results *r, uint32_t model, int64_t system)
{
    double longest = 0;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        if (is_cold(s) && s->model == model && (system < 0 || s->system == system))
            longest = fmax(longest, (double)s->prompt_tokens);
    }
    return longest;
}

/* The median rate of the longest cold prefill of one system; 0: none. */
static double cold_rate(const struct results *r, uint32_t model, uint32_t system)
{
    double *rates = mem_new(r->n_samples + 1, sizeof *rates);
    double longest = longest_cold(r, model, system);
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        if (is_cold(s) && s->model == model && s->system == system &&
            (double)s->prompt_tokens > longest * 0.9)
            rates[n++] = (double)s->prompt_tokens / s->first_ms * 1000;
    }
    sort_numbers(rates, n);
    double rate = n ? quantile(rates, n, 0.5) : 0;
    mem_free(rates);
    return rate;
}

/* Prompt tokens × sessions a day ÷ rate: computed, from the fastest rival's rate (ours where there
 * is none), as measured over the longest cold prompt of the first model that had one. */
void impact(const struct results *r, char *text, size_t size)
{
    uint32_t which = 0, model = 0;
    for (uint32_t m = 1; m < r->n_models; m++)
        if (longest_cold(r, m, -1) > longest_cold(r, model, -1))
            model = m;
    double rate = cold_rate(r, model, 0);
    for (uint32_t s = 1; s < r->n_systems; s++) {
        double v = cold_rate(r, model, s);
        if (v > 0 && (which == 0 || v > rate)) {
            rate = v;
            which = s;
        }
    }
    if (rate <= 0) {
        snprintf(text, size, "Impact: not computed, no cold prefill was measured.");
        return;
    }
    double seconds = r->impact_tokens / rate, a_day = seconds * r->impact_sessions;
    snprintf(text, size,
             "Impact (computed): %.0f tokens at %.0f tokens a second, the cold rate of %s with "
             "%s, are %.1f s a session; %.3g sessions a day make %.1f minutes a day, %.0f hours a "
             "year.",
             r->impact_tokens, rate, r->systems[which].name, r->models[model].name, seconds,
             r->impact_sessions, a_day / 60, a_day * 365 / 3600);
}
