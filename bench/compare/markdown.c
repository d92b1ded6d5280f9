/* SPDX-License-Identifier: MIT
 * markdown.c — report.md: the tables of a run as text for a document or a thread; a row a case, a
 * column a system. */
#include "base/mem.h"
#include "bench/compare/compare_int.h"

#define CELL_BYTES 400u

struct document {
    const struct results *r;
    struct buf *out;
    struct group *groups;
    uint32_t n_groups;
};

static bool is_left_alone(const char *kase)
{
    return strcmp(kase, "not tried") == 0;
}

/* Of a conversation's turns and a loop's steps the first two and the last: the page has them all.
 */
static bool is_shown(const struct document *d, const struct group *g)
{
    if (is_left_alone(g->kase))
        return false;
    if (strcmp(g->kase, "turn") != 0 && strcmp(g->kase, "step") != 0)
        return true;
    double last = 0;
    for (uint32_t i = 0; i < d->n_groups; i++) {
        const struct group *o = &d->groups[i];
        if (o->model == g->model && o->scenario == g->scenario && strcmp(o->kase, g->kase) == 0 &&
            o->x > last)
            last = o->x;
    }
    return g->x <= 2 || g->x >= last;
}

/* "|" would end the cell. */
static void add_cell(struct buf *out, const char *text)
{
    buf_add_text(out, " ");
    for (const char *c = text; *c; c++)
        if (*c == '|')
            buf_add_text(out, "\\|");
        else
            buf_add(out, c, 1);
    buf_add_text(out, " |");
}

static void figure_of(const struct summary *s, char *text, size_t size)
{
    char median[24], min[24], p95[24], flags[120];
    if (s->n == 0) {
        snprintf(text, size, "%s%s%s", s->n_no ? "no" : outcome_names[s->worst],
                 s->note ? ": " : "", s->note ? s->note : "");
        return;
    }
    show_ms(s->median, median, sizeof median);
    size_t at = (size_t)snprintf(text, size, "%s", median);
    if (s->n > 1) {
        show_ms(s->min, min, sizeof min);
        show_ms(s->p95, p95, sizeof p95);
        at += (size_t)snprintf(text + at, size - at, " (%s–%s)", min, p95);
    }
    if (s->cached_tokens >= 0 && s->prompt_tokens >= 0)
        at += (size_t)snprintf(text + at, size - at, ", %lld of %lld", (long long)s->cached_tokens,
                               (long long)s->prompt_tokens);
    if (s->odds_off >= 0)
        at += (size_t)snprintf(text + at, size - at, ", odds off by %.3f nat", s->odds_off);
    if (s->is_all_busy)
        at += (size_t)snprintf(text + at, size - at, ", while others used the machine");
    show_flags(s->flags & ~(unsigned)(FLAG_BUSY | FLAG_OTHER_ANSWER), flags, sizeof flags);
    if (flags[0])
        snprintf(text + at, size - at, " **%s**", flags);
}

/* Systems that have a sample in this model's scenario; one that was left alone has its line among
 * what did not work. */
static unsigned systems_of(const struct document *d, uint32_t model, enum scenario_id id)
{
    unsigned there = 0;
    for (uint32_t i = 0; i < d->r->n_samples; i++) {
        const struct sample *s = &d->r->samples[i];
        if (s->model == model && s->scenario == id && !is_left_alone(s->kase))
            there |= 1u << s->system;
    }
    return there;
}

static void add_row(struct document *d, const struct group *g, unsigned there)
{
    char text[CELL_BYTES], ratios[CELL_BYTES] = "";
    struct summary ours, s;
    size_t at = 0;
    bool has_ours = summary_of(d->r, g, 0, &ours) && ours.n && ours.median > 0;
    show_case(d->r, g, text, sizeof text);
    buf_add_text(d->out, "|");
    add_cell(d->out, text);
    for (uint32_t i = 0; i < d->r->n_systems; i++) {
        if (!(there & (1u << i)))
            continue;
        bool is_there = summary_of(d->r, g, i, &s);
        snprintf(text, sizeof text, "%s", d->r->is_interrupted ? "not reached" : "");
        if (is_there)
            figure_of(&s, text, sizeof text);
        add_cell(d->out, text);
        if (i == 0 || at >= sizeof ratios)
            continue;
        at += (size_t)snprintf(ratios + at, sizeof ratios - at, at ? " / " : "");
        if (is_there && s.n && has_ours)
            at += (size_t)snprintf(ratios + at, sizeof ratios - at, "%.1f", s.median / ours.median);
        else
            at += (size_t)snprintf(ratios + at, sizeof ratios - at, "–");
    }
    add_cell(d->out, ratios);
    buf_add_text(d->out, "\n");
}

static void scenario_part(struct document *d, uint32_t model, enum scenario_id id)
{
    unsigned there = systems_of(d, model, id);
    uint32_t n_columns = 0;
    if (!there)
        return;
    buf_printf(d->out, "\n**%s** (%s)\n\n| |", scenarios[id].name, scenarios[id].key);
    for (uint32_t i = 0; i < d->r->n_systems; i++)
        if (there & (1u << i)) {
            add_cell(d->out, d->r->systems[i].name);
            n_columns++;
        }
    buf_printf(d->out, " rival ÷ %s |\n|---|", d->r->systems[0].name);
    for (uint32_t i = 0; i <= n_columns; i++)
        buf_add_text(d->out, "---|");
    buf_add_text(d->out, "\n");
    for (uint32_t i = 0; i < d->n_groups; i++)
        if (d->groups[i].model == model && d->groups[i].scenario == id &&
            is_shown(d, &d->groups[i]))
            add_row(d, &d->groups[i], there);
}

static void streams_part(struct document *d, uint32_t model)
{
    bool has_head = false;
    for (uint32_t i = 0; i < d->n_groups; i++)
        for (uint32_t s = 0; s < d->r->n_systems; s++) {
            struct streams v;
            char ms[6][24];
            if (d->groups[i].model != model || !streams_of(d->r, &d->groups[i], s, &v))
                continue;
            if (!has_head)
                buf_add_text(d->out, "\n| streams | | first token p50 | p95 | p99 | between tokens "
                                     "p50 | p95 | p99 | tokens/s |\n"
                                     "|---|---|---|---|---|---|---|---|---|\n");
            has_head = true;
            buf_printf(d->out, "| %.0f |", d->groups[i].x);
            add_cell(d->out, d->r->systems[s].name);
            for (int k = 0; k < 6; k++) {
                show_ms(k < 3 ? v.first_ms[k] : v.gap_ms[k - 3], ms[k], sizeof ms[k]);
                add_cell(d->out, ms[k]);
            }
            buf_printf(d->out, " %.1f |\n", v.tokens_a_second);
        }
}

static void goals_part(struct document *d)
{
    struct goal *goals = mem_new(GOALS_MAX, sizeof *goals);
    uint32_t n = goals_of(d->r, goals);
    char text[CELL_BYTES];
    if (n)
        buf_add_text(d->out, "\n## Goals\n\n| | measured | at least | |\n|---|---|---|---|\n");
    for (uint32_t i = 0; i < n; i++) {
        goal_text(d->r, &goals[i], text, sizeof text);
        buf_add_text(d->out, "|");
        add_cell(d->out, text);
        buf_printf(d->out, " %.1f× | %.0f× | %s |\n", goals[i].ratio, goals[i].least,
                   goals[i].is_met ? "met" : "**missed**");
    }
    mem_free(goals);
}

static void troubles_part(struct document *d)
{
    const struct results *r = d->r;
    bool has_head = false;
    char text[CELL_BYTES];
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        struct group g = {s->model, s->scenario, s->kase, s->x};
        if (!is_first_trouble(r, i))
            continue;
        if (!has_head)
            buf_add_text(d->out, "\n## What did not work\n\n");
        has_head = true;
        show_case(r, &g, text, sizeof text);
        buf_printf(d->out, "- %s, %s, %s, %s (%s): %s\n", r->systems[s->system].name,
                   r->models[s->model].name, scenarios[s->scenario].name, text,
                   s->outcome == OUTCOME_DONE ? "done, but" : outcome_names[s->outcome],
                   s->note[0] ? s->note : "no reason was given");
    }
}

static void head_part(struct document *d)
{
    const struct results *r = d->r;
    char text[800];
    headline(r, text, sizeof text);
    buf_printf(d->out, "%s\n\n", text);
    buf_printf(d->out, "%s on %s, %u processors, %.0f GiB, %u threads each.", r->started,
               r->host_cpu, r->processors, (double)r->memory_bytes / (1u << 30), r->threads);
    for (uint32_t s = 0; s < r->n_systems; s++)
        if (r->systems[s].version[0])
            buf_printf(d->out, " %s: %s.", r->systems[s].name, r->systems[s].version);
    buf_printf(d->out,
               " %u samples, %u of them taken while others used the machine. Median, in brackets "
               "least and 95th percentile; then prompt tokens that came from a cache.%s\n",
               r->n_samples, n_busy_samples(r),
               r->is_interrupted ? " It was ended before all was measured." : "");
}

void markdown_write(const struct results *r, struct buf *out)
{
    struct document d = {.r = r, .out = out};
    char text[800];
    d.groups = mem_new(GROUPS_MAX, sizeof *d.groups);
    d.n_groups = groups_of(r, d.groups);
    head_part(&d);
    for (uint32_t m = 0; m < r->n_models; m++) {
        buf_printf(out, "\n## %s\n", r->models[m].name);
        for (int id = SCENARIO_WARM_UP + 1; id < SCENARIO_COUNT; id++) {
            scenario_part(&d, m, (enum scenario_id)id);
            if (id == SCENARIO_CONCURRENCY)
                streams_part(&d, m);
        }
    }
    goals_part(&d);
    troubles_part(&d);
    buf_add_text(out, "\n");
    for (uint32_t s = 1; s < r->n_systems; s++)
        if (show_answers(r, s, text, sizeof text))
            buf_printf(out, "%s.\n", text);
    impact(r, text, sizeof text);
    buf_printf(out, "\n%s\n", text);
    mem_free(d.groups);
}
