/* SPDX-License-Identifier: MIT
 * report.c — one page that needs nothing: no network, no script, light and dark, fit to print.
 * Made from the samples of results.json alone. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bench/compare/compare_int.h"
#include "bench/compare/svg.h"

#define FIRST_LEAST_MS 0.05 /* below, a logarithm says too much */

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#16202b;--soft:#5a6775;--line:#dfe4ea;"
    "--card:#f5f7fa;--bad:#b3261e;--warn:#8a5a00;--c0:#0b62d6;--c1:#d1590b;--c2:#16805a;"
    "--c3:#8a3fc0;--c4:#947000;--c5:#c22e5e;--c6:#4b6470;--c7:#6b4b2a}\n"
    "@media (prefers-color-scheme:dark){:root{--bg:#10161d;--fg:#e6ebf1;--soft:#9aa7b5;"
    "--line:#2b3642;--card:#18212b;--bad:#ff8a80;--warn:#f0c060;--c0:#5aa7ff;--c1:#ff9a55;"
    "--c2:#4fd09b;--c3:#c88cff;--c4:#e6c14d;--c5:#ff7da3;--c6:#9fb6c1;--c7:#c9a57e}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);"
    "font:16px/1.55 system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}"
    "main{max-width:960px;margin:0 auto;padding:28px 24px 64px}"
    "h1{font-size:15px;font-weight:600;letter-spacing:.02em;color:var(--soft);margin:0 0 10px}"
    ".headline{font-size:25px;line-height:1.32;font-weight:650;margin:0 0 12px;"
    "letter-spacing:-.01em;text-wrap:pretty}"
    "h2{font-size:21px;margin:44px 0 6px;padding-top:18px;border-top:1px solid var(--line)}"
    "h3{font-size:16.5px;margin:28px 0 2px}p{margin:6px 0 10px}.soft{color:var(--soft)}"
    ".small{font-size:13.5px;line-height:1.5}"
    ".facts{display:flex;flex-wrap:wrap;gap:4px 22px;margin:14px 0 0;padding:0;list-style:none;"
    "font-size:14px;color:var(--soft)}.facts b{color:var(--fg);font-weight:600}"
    ".card{background:var(--card);border-radius:10px;padding:14px 18px;margin:18px 0}"
    ".card.bad{border-left:4px solid var(--bad)}.card h3{margin:0 0 4px}"
    ".card ul{margin:4px 0;padding-left:20px}"
    "figure{margin:10px 0 6px}figcaption{font-size:13.5px;color:var(--soft)}"
    ".chart{width:100%;height:auto;display:block}"
    ".legend{display:flex;flex-wrap:wrap;gap:2px 20px;list-style:none;margin:8px 0 4px;padding:0;"
    "font-size:13.5px}.legend li{display:flex;align-items:center;gap:7px}"
    ".grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}"
    ".tick{font-size:12px;fill:var(--soft)}.title{font-size:12.5px;fill:var(--soft)}"
    ".group{font-size:13px;font-weight:600;fill:var(--fg)}"
    ".value{font-size:12.5px;fill:var(--fg);font-variant-numeric:tabular-nums}"
    ".bad{fill:var(--bad)}text.bad{font-size:12.5px}td.bad,span.bad{color:var(--bad)}"
    ".line{fill:none;stroke-width:2.2;stroke-linejoin:round}.dash{stroke-dasharray:6 4}"
    ".thin{stroke-width:1.1;stroke-dasharray:1.5 3.5}"
    "table{border-collapse:collapse;width:100%;font-size:13.5px;margin:8px 0;"
    "font-variant-numeric:tabular-nums}"
    "th{text-align:right;font-weight:600;color:var(--soft);border-bottom:1px solid var(--line);"
    "padding:4px 8px}th:first-child,td:first-child{text-align:left;padding-left:0}"
    "td{text-align:right;padding:3px 8px;border-bottom:1px solid var(--line);vertical-align:top}"
    "td.case{font-weight:600;padding-top:10px;border-bottom:0}td.note{text-align:left}"
    ".tag{display:inline-block;font-size:11.5px;padding:0 6px;border-radius:8px;"
    "border:1px solid currentColor;margin-left:4px;white-space:nowrap}"
    ".measured{color:var(--c2)}.simulated{color:var(--warn)}.computed{color:var(--c3)}"
    "details{margin:8px 0}summary{cursor:pointer;color:var(--c0);font-size:14.5px}"
    "pre{background:var(--card);padding:10px 14px;border-radius:8px;overflow-x:auto;"
    "font-size:12.5px;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".wide,figure{overflow-x:auto}.wide th,.wide td:not(.note){white-space:nowrap}"
    "@media (max-width:640px){main{padding:20px 14px 48px}.headline{font-size:20px}"
    ".chart{min-width:600px}.legend{gap:2px 14px}}\n"
    "@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--soft:#444;--line:#ccc;"
    "--card:#f5f5f5;--bad:#b3261e;--warn:#8a5a00;--c0:#0b62d6;--c1:#d1590b;--c2:#16805a;"
    "--c3:#8a3fc0;--c4:#947000;--c5:#c22e5e;--c6:#4b6470;--c7:#6b4b2a}"
    "details{display:block}details>*{display:block}"
    "details::details-content{content-visibility:visible;display:block}"
    ".wide,figure{overflow:visible}.wide th,.wide "
    "td{white-space:normal}figure,tr,.card{break-inside:avoid}"
    "main{max-width:none;padding:0}}\n";

static void write_colors(struct buf *out)
{
    for (unsigned i = 0; i < SVG_COLORS; i++)
        buf_printf(out,
                   ".line.c%u{stroke:var(--c%u)}.bar.c%u,.dot.c%u{fill:var(--c%u)}"
                   ".dot.open.c%u{fill:var(--bg);stroke:var(--c%u);stroke-width:2}",
                   i, i, i, i, i, i, i);
    buf_add_char(out, '\n');
}

struct page {
    const struct results *r;
    struct buf *out;
    struct group *groups;
    uint32_t n_groups;
    struct svg_chart *chart; /* large; used by one figure at a time */
};

/* ---- figures ---- */
static struct svg_chart *new_chart(struct page *p, const char *x, const char *y)
{
    memset(p->chart, 0, sizeof *p->chart);
    p->chart->x_title = x;
    p->chart->y_title = y;
    p->chart->y_is_ms = true;
    return p->chart;
}

static void figure(struct page *p, const char *title, const char *caption)
{
    bool has_any = false;
    for (uint32_t i = 0; i < p->chart->n; i++)
        has_any |= p->chart->series[i].n > 0;
    if (!has_any)
        return;
    buf_printf(p->out, "<h3>%s</h3><figure>\n", title);
    svg_write(p->chart, p->out);
    buf_printf(p->out, "<figcaption>%s</figcaption></figure>\n", caption);
}

static int point_order(const void *a, const void *b)
{
    double x = ((const struct svg_point *)a)->x, y = ((const struct svg_point *)b)->x;
    return x < y ? -1 : x > y;
}

/* Named, with its label. */
static struct svg_series *add_series(struct page *p, const char *name, uint32_t system)
{
    char text[128];
    snprintf(text, sizeof text, "%.100s (%s)", name, label_of(p->r, system));
    return svg_add(p->chart, text, system);
}

/* A system's medians of one case over x. */
static struct svg_series *add_case(struct page *p, uint32_t model, enum scenario_id id,
                                   const char *kase, uint32_t system, const char *name,
                                   bool wants_first)
{
    struct svg_series *s = add_series(p, name, system);
    for (uint32_t i = 0; s && i < p->n_groups; i++) {
        const struct group *g = &p->groups[i];
        struct summary v;
        if (g->model != model || g->scenario != id || strcmp(g->kase, kase) != 0 ||
            !summary_of(p->r, g, system, &v) || v.n == 0)
            continue;
        svg_point(s, g->x, fmax(wants_first ? v.first_median : v.median, FIRST_LEAST_MS));
    }
    if (s && s->n > 1)
        qsort(s->points, s->n, sizeof s->points[0], point_order);
    return s;
}

/* What the formula says of prefilling: N / rate, the rate of the longest cold prompt. */
static void add_formula(struct page *p, const struct svg_series *cold, uint32_t system)
{
    char name[128];
    if (!cold || cold->n < 2)
        return;
    struct svg_point last = cold->points[cold->n - 1], first = cold->points[0];
    snprintf(name, sizeof name, "%.60s: N / %.0f tok/s (computed)", p->r->systems[system].name,
             last.x / last.y * 1000);
    struct svg_series *s = svg_add(p->chart, name, system);
    if (!s)
        return;
    s->is_thin = true;
    svg_point(s, first.x, first.x * last.y / last.x);
    svg_point(s, last.x, last.y);
}

static void context_figure(struct page *p, uint32_t model, enum scenario_id id)
{
    struct svg_chart *c = new_chart(p, "prompt length in tokens", "time to first token");
    char name[128];
    c->is_log_x = c->is_log_y = true;
    for (uint32_t s = 0; s < p->r->n_systems; s++) {
        snprintf(name, sizeof name, "%.70s, cold", p->r->systems[s].name);
        struct svg_series *cold = add_case(p, model, id, "cold", s, name, false);
        if (cold)
            cold->is_dashed = true;
        snprintf(name, sizeof name, "%.70s, new turn after a restart", p->r->systems[s].name);
        add_case(p, model, id, "new turn after restart", s, name, false);
        add_formula(p, cold, s);
    }
    figure(p, "First token against prompt length",
           "Both axes are logarithmic. Dashed: nothing cached. Solid: a new turn of that "
           "conversation in a new process, the page cache dropped, what a system needs to take its "
           "state back included. Dotted: the formula N / rate.");
}

static void write_label(struct buf *out, const char *label)
{
    buf_printf(out, "<span class=\"tag %s\">%s</span>", label, label);
}

static void advantage_table(struct page *p, uint32_t model)
{
    const struct results *r = p->r;
    bool has_head = false;
    for (uint32_t i = 0; i < p->n_groups; i++) {
        const struct group *g = &p->groups[i];
        struct group cold = *g;
        struct summary ours, v;
        if (g->model != model || g->scenario != SCENARIO_CONTEXT ||
            strcmp(g->kase, "new turn after restart") != 0 || !summary_of(r, g, 0, &ours) ||
            ours.n == 0)
            continue;
        cold.kase = "cold";
        for (uint32_t s = 0; s < r->n_systems; s++) {
            if (!summary_of(r, &cold, s, &v) || v.n == 0)
                continue;
            if (!has_head)
                buf_add_text(p->out,
                             "<h3>What resuming saves</h3><div class=\"wide\"><table><tr><th>"
                             "tokens</th><th>against, cold</th><th>prefill</th><th>resumed"
                             "</th><th>advantage</th><th>(N/rate − load)/(N/rate),"
                             " computed</th></tr>\n");
            has_head = true;
            char a[24], b[24];
            show_ms(v.median, a, sizeof a);
            show_ms(ours.median, b, sizeof b);
            double rate = v.prompt_tokens > 0 ? (double)v.prompt_tokens / v.median : 0;
            double whole = rate > 0 ? g->x / rate : 0;
            buf_printf(p->out, "<tr><td>%.0f</td><td>", g->x);
            html_text(p->out, r->systems[s].name);
            write_label(p->out, label_of(r, s));
            buf_printf(p->out, "</td><td>%s</td><td>%s</td><td>%.1f %%</td><td>%.1f %%</td></tr>\n",
                       a, b, 100 * (v.median - ours.median) / v.median,
                       whole > 0 ? 100 * (whole - ours.median) / whole : 0);
        }
    }
    if (has_head)
        buf_add_text(p->out, "</table></div>\n");
}

static void bar_of(struct page *p, const struct group *g, uint32_t system, const char *group,
                   struct svg_bar *bar)
{
    struct summary v;
    *bar = (struct svg_bar){.color = system};
    snprintf(bar->group, sizeof bar->group, "%s", group);
    snprintf(bar->name, sizeof bar->name, "%.38s (%s)", p->r->systems[system].name,
             label_of(p->r, system));
    if (!summary_of(p->r, g, system, &v) || v.n == 0) {
        bar->is_bad = true;
        snprintf(bar->text, sizeof bar->text, "%s",
                 v.n_no                    ? "no"
                 : v.worst == OUTCOME_HUNG ? "hung, cut off"
                                           : "failed or not tried");
        return;
    }
    bar->value = v.median;
    char ms[24];
    show_ms(v.median, ms, sizeof ms);
    snprintf(bar->text, sizeof bar->text, "%s%s", ms,
             v.flags & FLAG_NOT_REUSED ? ", not reused" : "");
}

#define BARS_MAX 256u
static void bar_figure(struct page *p, uint32_t model, enum scenario_id id, const char *only,
                       const char *title, const char *caption)
{
    struct svg_bar *bars = mem_new(BARS_MAX, sizeof *bars);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_groups; i++) {
        char name[100];
        const struct group *g = &p->groups[i];
        if (g->model != model || g->scenario != id || strcmp(g->kase, "not tried") == 0 ||
            (only && strcmp(g->kase, only) != 0))
            continue;
        show_case(p->r, g, name, sizeof name);
        for (uint32_t s = 0; s < p->r->n_systems && n < BARS_MAX; s++)
            bar_of(p, g, s, name, &bars[n++]);
    }
    if (n) {
        buf_printf(p->out, "<h3>%s</h3><figure>\n", title);
        svg_bars(bars, n, p->out);
        buf_printf(p->out, "<figcaption>%s</figcaption></figure>\n", caption);
    }
    mem_free(bars);
}

static void line_figure(struct page *p, uint32_t model, enum scenario_id id, const char *kase,
                        const char *x, const char *title, const char *caption)
{
    struct svg_chart *c = new_chart(p, x, "time to first token");
    c->is_log_y = true;
    c->x_is_count = true;
    for (uint32_t s = 0; s < p->r->n_systems; s++)
        add_case(p, model, id, kase, s, p->r->systems[s].name, false);
    figure(p, title, caption);
}

/* Every sample of a scenario, ascending: what a median hides. */
static void quantile_figure(struct page *p, uint32_t model, enum scenario_id id, double x_least,
                            const char *title)
{
    const struct results *r = p->r;
    struct svg_chart *c = new_chart(p, "share of requests, %", "time to first token");
    double *all = mem_new(r->n_samples + 1, sizeof *all);
    c->is_log_y = true;
    for (uint32_t s = 0; s < r->n_systems; s++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < r->n_samples; i++) {
            const struct sample *v = &r->samples[i];
            if (v->model == model && v->scenario == id && v->system == s && v->x >= x_least &&
                v->outcome == OUTCOME_DONE && v->first_ms > 0)
                all[n++] = fmax(v->first_ms + fmax(v->late_ms, 0), FIRST_LEAST_MS);
        }
        if (n < 3)
            continue;
        sort_numbers(all, n);
        struct svg_series *series = add_series(p, r->systems[s].name, s);
        for (uint32_t k = 0; k <= 20; k++)
            svg_point(series, k * 5.0, quantile(all, n, k / 20.0));
    }
    mem_free(all);
    figure(p, title, "All samples in ascending order, those taken on a busy machine too.");
}

static void concurrency_figure(struct page *p, uint32_t model)
{
    struct svg_chart *c = new_chart(p, "streams offered at once", "first token after the due time");
    char name[128];
    c->is_log_y = true;
    c->is_log_x = true;
    for (uint32_t s = 0; s < p->r->n_systems; s++) {
        snprintf(name, sizeof name, "%.70s, median", p->r->systems[s].name);
        add_case(p, model, SCENARIO_CONCURRENCY, "request", s, name, false);
        snprintf(name, sizeof name, "%.70s, p95", p->r->systems[s].name);
        struct svg_series *p95 = add_series(p, name, s);
        for (uint32_t i = 0; p95 && i < p->n_groups; i++) {
            const struct group *g = &p->groups[i];
            struct summary v;
            if (g->model == model && g->scenario == SCENARIO_CONCURRENCY &&
                strcmp(g->kase, "request") == 0 && summary_of(p->r, g, s, &v) && v.n)
                svg_point(p95, g->x, fmax(v.p95, FIRST_LEAST_MS));
        }
        if (p95) {
            p95->is_dashed = true;
            qsort(p95->points, p95->n, sizeof p95->points[0], point_order);
        }
    }
    figure(p, "Streams that arrive on a schedule",
           "Open loop: requests are sent when they are due, whether or not those before were "
           "answered, and a time counts from when a request was due.");
}

/* ---- tables ---- */
static void table_row(struct page *p, const struct group *g, uint32_t system,
                      const struct summary *ours)
{
    struct summary v;
    char min[24], median[24], p95[24], first[24], decode[24], flags[120];
    if (!summary_of(p->r, g, system, &v))
        return;
    buf_add_text(p->out, "<tr><td>");
    html_text(p->out, p->r->systems[system].name);
    if (v.n == 0) {
        buf_printf(p->out, "</td><td class=\"note bad\" colspan=\"9\">%s",
                   v.n_no                    ? "no"
                   : v.worst == OUTCOME_HUNG ? "hung"
                                             : outcome_names[v.worst]);
        if (v.note) {
            buf_add_text(p->out, ": ");
            html_text(p->out, v.note);
        }
        buf_add_text(p->out, "</td></tr>\n");
        return;
    }
    show_ms(v.min, min, sizeof min);
    show_ms(v.median, median, sizeof median);
    show_ms(v.p95, p95, sizeof p95);
    show_ms(v.first_median, first, sizeof first);
    show_flags(v.flags & ~(unsigned)(FLAG_BUSY | FLAG_OTHER_ANSWER), flags, sizeof flags);
    write_label(p->out, label_names[v.label]);
    if (flags[0])
        buf_printf(p->out, "<span class=\"tag bad\">%s</span>", flags);
    if (v.odds_off >= 0)
        buf_printf(p->out, "<span class=\"tag\">off by %.3f nat</span>", v.odds_off);
    show_rate(v.decode_median, decode, sizeof decode);
    buf_printf(p->out, "</td><td>%s</td><td><b>%s</b></td><td>%s</td><td>%s</td><td>%s</td>", min,
               median, p95, first, decode);
    if (system && ours && ours->n && ours->median > 0)
        buf_printf(p->out, "<td>%.1f×</td>", v.median / ours->median);
    else
        buf_add_text(p->out, "<td></td>");
    if (v.prompt_tokens < 0)
        buf_add_text(p->out, "<td></td>");
    else if (v.cached_tokens >= 0)
        buf_printf(p->out, "<td>%lld / %lld</td>", (long long)v.cached_tokens,
                   (long long)v.prompt_tokens);
    else
        buf_printf(p->out, "<td>? / %lld</td>", (long long)v.prompt_tokens);
    buf_printf(p->out, "<td>%u</td><td>", v.n);
    if (v.n_busy)
        buf_printf(p->out, v.is_all_busy ? "all busy" : "+%u busy", v.n_busy);
    if (v.n_bad)
        buf_printf(p->out, " <span class=\"bad\">+%u failed</span>", v.n_bad);
    buf_add_text(p->out, "</td></tr>\n");
    if (v.note && (v.flags & (FLAG_NOT_REUSED | FLAG_MISCONFIGURED | FLAG_OTHER_ODDS))) {
        buf_add_text(p->out, "<tr><td></td><td class=\"note bad\" colspan=\"9\">");
        html_text(p->out, v.note);
        buf_add_text(p->out, "</td></tr>\n");
    }
}

static void scenario_table(struct page *p, uint32_t model, enum scenario_id id)
{
    bool has_head = false;
    for (uint32_t i = 0; i < p->n_groups; i++) {
        const struct group *g = &p->groups[i];
        char name[120];
        struct summary ours;
        if (g->model != model || g->scenario != id)
            continue;
        if (!has_head) {
            buf_printf(
                p->out,
                "<details><summary>All figures of %s: %s</summary><div class=\"wide\">"
                "<table><tr><th></th><th>least</th><th>median</th><th>p95</th><th>first token"
                "</th><th>then, tok/s</th><th>÷ ours</th><th>cached / "
                "prompt</th><th>n</th><th></th></tr>\n",
                scenarios[id].name, scenarios[id].key);
            has_head = true;
        }
        show_case(p->r, g, name, sizeof name);
        buf_add_text(p->out, "<tr><td class=\"case\" colspan=\"10\">");
        html_text(p->out, name);
        buf_add_text(p->out, "</td></tr>\n");
        bool has_ours = summary_of(p->r, g, 0, &ours);
        for (uint32_t s = 0; s < p->r->n_systems; s++)
            table_row(p, g, s, has_ours ? &ours : NULL);
    }
    if (has_head)
        buf_add_text(p->out, "</table></div></details>\n");
}

static void size_text(int64_t bytes, char *text, size_t size)
{
    if (bytes < 0)
        snprintf(text, size, "–");
    else
        snprintf(text, size, "%.1f MiB", (double)bytes / (1 << 20));
}

/* Memory and disk of whole runs. */
static void footprint(struct page *p, uint32_t model)
{
    const struct results *r = p->r;
    bool has_head = false;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        char memory[32], disk[32];
        if (s->model != model || s->scenario != SCENARIO_AGENTS ||
            strcmp(s->kase, "all steps") != 0 || s->outcome != OUTCOME_DONE || s->repeat != 0)
            continue;
        if (!has_head)
            buf_add_text(p->out,
                         "<table><tr><th>agents</th><th>all steps</th><th>memory (anonymous "
                         "and shared)</th><th>on disk</th></tr>\n");
        has_head = true;
        size_text(s->memory_bytes, memory, sizeof memory);
        size_text(s->disk_bytes, disk, sizeof disk);
        buf_add_text(p->out, "<tr><td>");
        html_text(p->out, r->systems[s->system].name);
        write_label(p->out, label_names[s->label]);
        buf_printf(p->out, "</td><td>%.2f s</td><td>%s</td><td>%s</td></tr>\n", s->key_ms / 1000,
                   memory, disk);
    }
    if (has_head)
        buf_add_text(p->out, "</table>\n");
}

static void streams_table(struct page *p, uint32_t model)
{
    bool has_head = false;
    for (uint32_t i = 0; i < p->n_groups; i++)
        for (uint32_t s = 0; s < p->r->n_systems; s++) {
            const struct group *g = &p->groups[i];
            struct streams v;
            char ms[24];
            if (g->model != model || !streams_of(p->r, g, s, &v))
                continue;
            if (!has_head)
                buf_add_text(p->out,
                             "<div class=\"wide\"><table><tr><th>streams</th><th></th><th>first "
                             "token p50</th><th>p95</th><th>p99</th><th>between tokens p50</th><th>"
                             "p95</th><th>p99</th><th>tokens/s</th></tr>\n");
            has_head = true;
            buf_printf(p->out, "<tr><td>%.0f</td><td>", g->x);
            html_text(p->out, p->r->systems[s].name);
            write_label(p->out, label_of(p->r, s));
            for (int k = 0; k < 6; k++) {
                show_ms(k < 3 ? v.first_ms[k] : v.gap_ms[k - 3], ms, sizeof ms);
                buf_printf(p->out, "</td><td>%s", ms);
            }
            buf_printf(p->out, "</td><td>%.1f</td></tr>\n", v.tokens_a_second);
        }
    if (has_head)
        buf_add_text(p->out, "</table></div>\n");
}

static void historic_table(struct page *p, uint32_t model)
{
    const struct results *r = p->r;
    struct historic rows[HISTORIC_MAX];
    for (uint32_t s = 1; s < r->n_systems; s++) {
        if (strcmp(r->systems[s].driver, "simulated") != 0)
            continue;
        uint32_t n = historic_rows(r, model, s, rows);
        if (n)
            buf_add_text(p->out, "<h3>The prototype’s table again</h3><div class=\"wide\"><table>"
                                 "<tr><th>prompt and answer together</th><th>ours");
        if (n)
            write_label(p->out, label_of(r, 0));
        if (n) {
            buf_add_text(p->out, "</th><th>rival");
            write_label(p->out, label_of(r, s));
            buf_add_text(p->out, "</th><th>(rival − ours) / rival</th><th>the prototype, "
                                 "on another machine</th></tr>\n");
        }
        for (uint32_t i = 0; i < n; i++) {
            char a[24], b[24];
            show_ms(rows[i].ours_ms, a, sizeof a);
            show_ms(rows[i].theirs_ms, b, sizeof b);
            buf_printf(p->out, "<tr><td>%s</td><td>%s</td><td>%s</td><td><b>%.1f %%</b></td><td>",
                       rows[i].what, a, b,
                       100 * (rows[i].theirs_ms - rows[i].ours_ms) / rows[i].theirs_ms);
            if (rows[i].old_percent >= 0)
                buf_printf(p->out, "%.0f %%", rows[i].old_percent);
            buf_add_text(p->out, "</td></tr>\n");
        }
        if (n)
            buf_add_text(p->out, "</table></div>\n");
    }
}

/* ---- parts of the page ---- */
/* One line a system, case and kind of trouble. */
static void troubles(struct page *p)
{
    const struct results *r = p->r;
    bool has_head = false;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        if (!is_first_trouble(r, i))
            continue;
        if (!has_head)
            buf_add_text(
                p->out, "<div class=\"card bad\"><h3>What did not work</h3><ul class=\"small\">\n");
        has_head = true;
        char name[120];
        struct group g = {s->model, s->scenario, s->kase, s->x};
        show_case(r, &g, name, sizeof name);
        buf_add_text(p->out, "<li><b>");
        html_text(p->out, r->systems[s->system].name);
        buf_add_text(p->out, "</b>, ");
        html_text(p->out, r->models[s->model].name);
        buf_printf(p->out, ", %s, ", scenarios[s->scenario].name);
        html_text(p->out, name);
        buf_printf(p->out,
                   " (%s): ", s->outcome == OUTCOME_DONE ? "done, but" : outcome_names[s->outcome]);
        html_text(p->out, s->note[0] ? s->note : "no reason was given");
        buf_add_text(p->out, "</li>\n");
    }
    if (has_head)
        buf_add_text(p->out, "</ul></div>\n");
}

static void goals_table(struct page *p)
{
    struct goal *goals = mem_new(GOALS_MAX, sizeof *goals);
    uint32_t n = goals_of(p->r, goals);
    char text[400];
    if (n)
        buf_add_text(p->out, "<h2>Goals</h2><table><thead><tr><th></th><th>measured</th>"
                             "<th>at least</th><th></th></tr></thead><tbody>\n");
    for (uint32_t i = 0; i < n; i++) {
        goal_text(p->r, &goals[i], text, sizeof text);
        buf_add_text(p->out, "<tr><td>");
        html_text(p->out, text);
        buf_printf(p->out, "</td><td>%.1f×</td><td>%.0f×</td><td%s</td></tr>\n", goals[i].ratio,
                   goals[i].least, goals[i].is_met ? ">met" : " class=\"bad\">missed");
    }
    if (n)
        buf_add_text(p->out, "</tbody></table>\n");
    mem_free(goals);
}

static void head(struct page *p)
{
    const struct results *r = p->r;
    char text[800];
    headline(r, text, sizeof text);
    buf_add_text(p->out, "<h1>kvasir bench: the same work, on one machine, timed on the wire</h1>\n"
                         "<p class=\"headline\">");
    html_text(p->out, text);
    buf_add_text(p->out, "</p>\n<p>");
    impact(r, text, sizeof text);
    html_text(p->out, text);
    buf_add_text(p->out, "</p>\n<ul class=\"facts\">");
    buf_add_text(p->out, "<li><b>");
    html_text(p->out, r->started);
    buf_add_text(p->out, "</b></li><li>");
    html_text(p->out, r->host_cpu);
    buf_printf(p->out, ", %u processors, %.0f GiB</li><li>%u threads each</li>", r->processors,
               (double)r->memory_bytes / (1 << 30), r->threads);
    if (r->repeats)
        buf_printf(p->out, "<li>%u repeats, order rotated</li>", r->repeats);
    buf_printf(p->out, "<li>%u samples, %u left out because others used the machine</li>",
               r->n_samples, n_busy_samples(r));
    if (r->is_interrupted)
        buf_add_text(p->out, "<li class=\"bad\">interrupted: incomplete</li>");
    buf_add_text(
        p->out,
        "</ul>\n<p class=\"small soft\">Labels: <span class=\"tag measured\">measured</span>"
        " timed here, in this run; <span class=\"tag simulated\">simulated</span> kvasir "
        "measured, the rival modelled; <span class=\"tag computed\">computed</span> a "
        "formula. Times are medians, from the request sent to the first byte of the first "
        "non-empty content, and include what it takes to restore saved state.</p>\n");
}

static void answers(struct page *p)
{
    bool has_head = false;
    for (uint32_t s = 1; s < p->r->n_systems; s++) {
        char text[800];
        if (!show_answers(p->r, s, text, sizeof text))
            continue;
        if (!has_head)
            buf_add_text(p->out,
                         "<h2>The same answers?</h2><p class=\"small\">Greedy text differs "
                         "between programs whose sums round otherwise, so equal text proves "
                         "no good restore and other text no bad one; probabilities after a "
                         "restored branch are compared in the branch scenario.</p><ul "
                         "class=\"small\">\n");
        has_head = true;
        buf_add_text(p->out, "<li>");
        html_text(p->out, text);
        buf_add_text(p->out, "</li>\n");
    }
    if (has_head)
        buf_add_text(p->out, "</ul>\n");
}

static void reproduce(struct page *p)
{
    const struct results *r = p->r;
    buf_add_text(p->out, "<h2>How to reproduce</h2><pre>");
    html_text(p->out, r->command);
    buf_add_text(p->out, "</pre><p class=\"small soft\">kvasir ");
    html_text(p->out, r->version);
    buf_add_text(p->out, ", ");
    html_text(p->out, r->kernel);
    buf_printf(p->out,
               ". Took %.0f s.</p>\n<div "
               "class=\"wide\"><table><tr><th>system</th><th>version</th></tr>\n",
               r->seconds);
    for (uint32_t i = 0; i < r->n_systems; i++) {
        buf_add_text(p->out, "<tr><td><b>");
        html_text(p->out, r->systems[i].name);
        buf_add_text(p->out, "</b></td><td class=\"note\">");
        html_text(p->out, r->systems[i].version);
        if (r->systems[i].note[0]) {
            buf_add_text(p->out, " <span class=\"bad\">");
            html_text(p->out, r->systems[i].note);
            buf_add_text(p->out, "</span>");
        }
        buf_add_text(p->out, "<br><code class=\"small\">");
        html_text(p->out, r->systems[i].command);
        buf_add_text(p->out, "</code></td></tr>\n");
    }
    buf_add_text(p->out, "</table></div>\n<div class=\"wide\"><table><tr><th>model</th><th>file, "
                         "SHA-256</th></tr>\n");
    for (uint32_t i = 0; i < r->n_models; i++) {
        const struct model_row *m = &r->models[i];
        const char *base = strrchr(m->path, '/');
        buf_add_text(p->out, "<tr><td><b>");
        html_text(p->out, m->name);
        buf_add_text(p->out, "</b></td><td class=\"note small\">");
        html_text(p->out, m->path[0] ? (base ? base + 1 : m->path) : "inside kvasir");
        if (m->bytes > 0) {
            buf_printf(p->out, ", %.1f MB, context %lld<br><code>", (double)m->bytes / 1e6,
                       (long long)m->context_tokens);
            html_text(p->out, m->sha256);
            buf_add_text(p->out, "</code>");
        }
        buf_add_text(p->out, "</td></tr>\n");
    }
    buf_add_text(p->out,
                 "</table></div>\n<p class=\"small soft\">Every raw sample is in results.json "
                 "beside this page; <code>kvasir bench --report results.json</code> makes the "
                 "page again.</p>\n");
}

static void model_part(struct page *p, uint32_t m)
{
    buf_add_text(p->out, "<h2>");
    html_text(p->out, p->r->models[m].name);
    buf_add_text(p->out, "</h2>\n");
    historic_table(p, m);
    context_figure(p, m, SCENARIO_CONTEXT);
    advantage_table(p, m);
    scenario_table(p, m, SCENARIO_CONTEXT);
    bar_figure(p, m, SCENARIO_RESUME, "session", "Sessions that resume",
               "Each session is a new process; the same long system prompt, a new question. Taking "
               "the state back, first token and answer together.");
    quantile_figure(p, m, SCENARIO_RESUME, 2, "Resumed sessions, all samples");
    scenario_table(p, m, SCENARIO_RESUME);
    line_figure(p, m, SCENARIO_CHAT, "turn", "turn", "A conversation in one process",
                "Every turn sends the whole history again, as the API demands. Median of the "
                "repeats.");
    quantile_figure(p, m, SCENARIO_CHAT, 2, "Turns of the conversation, all samples");
    scenario_table(p, m, SCENARIO_CHAT);
    bar_figure(p, m, SCENARIO_COLD_START, NULL, "From process start to first token",
               "Start of the process, loading of the model, one short question.");
    scenario_table(p, m, SCENARIO_COLD_START);
    bar_figure(p, m, SCENARIO_AGENTS, NULL, "Agents that share a system prompt",
               "Interleaved steps, then a child forked from each. Median over agents and repeats.");
    footprint(p, m);
    quantile_figure(p, m, SCENARIO_AGENTS, 2, "Agents' later steps, all samples");
    scenario_table(p, m, SCENARIO_AGENTS);
    line_figure(
        p, m, SCENARIO_TOOLS, "step", "step of the loop", "An agent loop with tools",
        "Schemas and results are a real MCP server's, recorded once, so that all systems see "
        "the same bytes.");
    scenario_table(p, m, SCENARIO_TOOLS);
    struct svg_chart *c =
        new_chart(p, "depth of the branch, % of the prompt", "restore + first token");
    c->is_log_y = true;
    for (uint32_t s = 0; s < p->r->n_systems; s++) {
        char name[128];
        snprintf(name, sizeof name, "%.70s, live", p->r->systems[s].name);
        struct svg_series *live = add_case(p, m, SCENARIO_BRANCH, "live branch", s, name, false);
        if (live)
            live->is_dashed = true;
        snprintf(name, sizeof name, "%.70s, after a restart", p->r->systems[s].name);
        add_case(p, m, SCENARIO_BRANCH, "branch after restart", s, name, false);
    }
    figure(p, "Branches of one session",
           "The prompt is edited at a depth and goes on otherwise. "
           "Dashed: while the session is live. Solid: restarted and "
           "restored.");
    scenario_table(p, m, SCENARIO_BRANCH);
    concurrency_figure(p, m);
    streams_table(p, m);
    quantile_figure(p, m, SCENARIO_CONCURRENCY, 1, "Scheduled requests, all samples");
    scenario_table(p, m, SCENARIO_CONCURRENCY);
    bar_figure(p, m, SCENARIO_SIZES, NULL, "One length", "Cold and resumed, one row a model.");
    scenario_table(p, m, SCENARIO_SIZES);
    scenario_table(p, m, SCENARIO_WARM_UP);
}

void report_write(const struct results *r, struct buf *out)
{
    struct page p = {.r = r, .out = out};
    p.groups = mem_new(GROUPS_MAX, sizeof *p.groups);
    p.chart = mem_new(1, sizeof *p.chart);
    p.n_groups = groups_of(r, p.groups);
    buf_add_text(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                      "style-src 'unsafe-inline'\">\n<title>kvasir bench</title>\n<style>");
    buf_add_text(out, style);
    write_colors(out);
    buf_add_text(out, "</style></head><body><main>\n");
    head(&p);
    troubles(&p);
    for (uint32_t m = 0; m < r->n_models; m++)
        model_part(&p, m);
    goals_table(&p);
    answers(&p);
    reproduce(&p);
    buf_add_text(out, "</main></body></html>\n");
    mem_free(p.groups);
    mem_free(p.chart);
}
