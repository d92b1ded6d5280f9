/* SPDX-License-Identifier: MIT
 * svg.c — see svg.h. */
#include "bench/compare/svg.h"

#include <math.h>
#include <stdio.h>

#include "bench/compare/compare_int.h"

#define WIDTH  860.0
#define HEIGHT 340.0
#define LEFT   74.0
#define RIGHT  18.0
#define TOP    14.0
#define BOTTOM 46.0
#define BAR    17.0
#define GAP    5.0
#define NAME   250.0
#define VALUE  110.0

void html_text(struct buf *out, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '<':
            buf_add_text(out, "&lt;");
            break;
        case '>':
            buf_add_text(out, "&gt;");
            break;
        case '&':
            buf_add_text(out, "&amp;");
            break;
        case '"':
            buf_add_text(out, "&quot;");
            break;
        default:
            if ((unsigned char)*text >= 0x20 || *text == '\n')
                buf_add_char(out, *text);
        }
}

struct svg_series *svg_add(struct svg_chart *c, const char *name, uint32_t color)
{
    if (c->n == SVG_SERIES_MAX)
        return NULL;
    struct svg_series *s = &c->series[c->n++];
    *s = (struct svg_series){.color = color % SVG_COLORS};
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

void svg_point(struct svg_series *s, double x, double y)
{
    if (s && s->n < SVG_POINTS_MAX)
        s->points[s->n++] = (struct svg_point){x, y};
}

/* ---- axes ---- */
struct axis {
    double least, most;
    bool is_log;
    double from, to; /* on paper */
};

static double place_of(const struct axis *a, double v)
{
    double low = a->is_log ? log10(a->least) : a->least;
    double high = a->is_log ? log10(a->most) : a->most;
    double at = a->is_log ? log10(v > a->least ? v : a->least) : v;
    return a->from + (high > low ? (at - low) / (high - low) : 0.5) * (a->to - a->from);
}

static void widen(struct axis *a)
{
    if (a->is_log) {
        a->least = a->least > 0 ? a->least / 1.25 : 1;
        a->most *= 1.25;
    } else {
        a->least = a->least > 0 && a->least > a->most * 0.5 ? a->least : 0;
        a->most *= 1.06;
    }
    if (a->most <= a->least)
        a->most = a->least + 1;
}

static void count_text(double v, char *text, size_t size)
{
    if (v >= 10000)
        snprintf(text, size, "%.0fk", v / 1000);
    else if (v >= 100)
        snprintf(text, size, "%.0f", v);
    else
        snprintf(text, size, "%.3g", v);
}

static void ms_text(double v, char *text, size_t size)
{
    if (v >= 1000)
        snprintf(text, size, "%.3g s", v / 1000);
    else
        snprintf(text, size, "%.3g ms", v);
}

static void tick_y(struct buf *out, const struct axis *y, double v, bool is_ms)
{
    char text[32];
    double at = place_of(y, v);
    if (v < y->least || v > y->most)
        return;
    (is_ms ? ms_text : count_text)(v, text, sizeof text);
    buf_printf(out,
               "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
               "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
               LEFT, WIDTH - RIGHT, at, at, LEFT - 8, at + 4, text);
}

static double round_step(double span)
{
    double unit = pow(10, floor(log10(span > 0 ? span : 1)));
    double steps[] = {0.2, 0.5, 1, 2};
    for (size_t i = 0; i < 4; i++)
        if (span / (unit * steps[i]) <= 6)
            return unit * steps[i];
    return unit * 2;
}

static void ticks_y(struct buf *out, const struct axis *y, bool is_ms)
{
    if (!y->is_log) {
        double step = round_step(y->most - y->least);
        for (double v = ceil(y->least / step) * step; v <= y->most; v += step)
            tick_y(out, y, v, is_ms);
        return;
    }
    double decades = log10(y->most / y->least);
    for (double unit = pow(10, floor(log10(y->least))); unit <= y->most; unit *= 10) {
        tick_y(out, y, unit, is_ms);
        if (decades < 2.5)
            tick_y(out, y, unit * 3, is_ms);
    }
}

/* Below the axis: the values there are, unless they would stand on each other. */
static void ticks_x(struct buf *out, const struct svg_chart *c, const struct axis *x)
{
    double last = -1e9, seen = -1e18;
    for (;;) {
        double next = INFINITY;
        for (uint32_t i = 0; i < c->n; i++)
            for (uint32_t k = 0; k < c->series[i].n && !c->series[i].is_thin; k++)
                if (c->series[i].points[k].x > seen && c->series[i].points[k].x < next)
                    next = c->series[i].points[k].x;
        if (!isfinite(next))
            return;
        seen = next;
        double at = place_of(x, next);
        if (at - last < 34)
            continue;
        last = at;
        char text[32];
        count_text(next, text, sizeof text);
        buf_printf(out,
                   "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                   "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                   at, at, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 5, at, HEIGHT - BOTTOM + 19, text);
    }
}

static bool find_axes(const struct svg_chart *c, struct axis *x, struct axis *y)
{
    *x = (struct axis){INFINITY, -INFINITY, c->is_log_x, LEFT, WIDTH - RIGHT};
    *y = (struct axis){INFINITY, -INFINITY, c->is_log_y, HEIGHT - BOTTOM, TOP};
    for (uint32_t i = 0; i < c->n; i++)
        for (uint32_t k = 0; k < c->series[i].n; k++) {
            struct svg_point p = c->series[i].points[k];
            x->least = fmin(x->least, p.x);
            x->most = fmax(x->most, p.x);
            y->least = fmin(y->least, p.y);
            y->most = fmax(y->most, p.y);
        }
    if (!(x->most >= x->least))
        return false;
    if (c->is_log_x) {
        x->least /= 1.1;
        x->most *= 1.1;
    } else {
        double pad = (x->most - x->least) * 0.03;
        x->least -= pad > 0 ? pad : 0.5;
        x->most += pad > 0 ? pad : 0.5;
    }
    widen(y);
    return true;
}

static void legend(struct buf *out, const struct svg_chart *c)
{
    buf_add_text(out, "<ul class=\"legend\">");
    for (uint32_t i = 0; i < c->n; i++) {
        const struct svg_series *s = &c->series[i];
        if (!s->n)
            continue;
        buf_printf(out,
                   "<li><svg width=\"30\" height=\"10\" aria-hidden=\"true\"><line class=\"line "
                   "c%u%s%s\" x1=\"1\" x2=\"29\" y1=\"5\" y2=\"5\"/></svg>",
                   s->color, s->is_dashed ? " dash" : "", s->is_thin ? " thin" : "");
        html_text(out, s->name);
        buf_add_text(out, "</li>");
    }
    buf_add_text(out, "</ul>\n");
}

static void draw_series(struct buf *out, const struct svg_chart *c, const struct svg_series *s,
                        const struct axis *x, const struct axis *y)
{
    buf_printf(out, "<polyline class=\"line c%u%s%s\" points=\"", s->color,
               s->is_dashed ? " dash" : "", s->is_thin ? " thin" : "");
    for (uint32_t k = 0; k < s->n; k++)
        buf_printf(out, "%.1f,%.1f ", place_of(x, s->points[k].x), place_of(y, s->points[k].y));
    buf_add_text(out, "\"/>\n");
    for (uint32_t k = 0; k < s->n && !s->is_thin; k++) {
        char value[32], at[32];
        (c->y_is_ms ? ms_text : count_text)(s->points[k].y, value, sizeof value);
        count_text(s->points[k].x, at, sizeof at);
        buf_printf(out, "<circle class=\"dot c%u%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\"><title>",
                   s->color, s->is_dashed ? " open" : "", place_of(x, s->points[k].x),
                   place_of(y, s->points[k].y));
        html_text(out, s->name);
        buf_printf(out, ": %s at %s</title></circle>\n", value, at);
    }
}

void svg_write(const struct svg_chart *c, struct buf *out)
{
    struct axis x, y;
    if (!find_axes(c, &x, &y))
        return;
    legend(out, c);
    buf_printf(out, "<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"",
               WIDTH, HEIGHT);
    html_text(out, c->y_title);
    buf_add_text(out, " against ");
    html_text(out, c->x_title);
    buf_add_text(out, "\">\n");
    ticks_y(out, &y, c->y_is_ms);
    ticks_x(out, c, &x);
    buf_printf(out,
               "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n"
               "<text class=\"title\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
               LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2,
               HEIGHT - 8);
    html_text(out, c->x_title);
    buf_printf(out,
               "</text><text class=\"title\" transform=\"translate(13 %.1f) rotate(-90)\" "
               "text-anchor=\"middle\">",
               (TOP + HEIGHT - BOTTOM) / 2);
    html_text(out, c->y_title);
    buf_add_text(out, "</text>\n");
    for (uint32_t i = 0; i < c->n; i++)
        if (c->series[i].n)
            draw_series(out, c, &c->series[i], &x, &y);
    buf_add_text(out, "</svg>\n");
}

/* ---- bars: from zero, the figure at their end ---- */
void svg_bars(const struct svg_bar *bars, uint32_t n, struct buf *out)
{
    double most = 0, height = 4;
    for (uint32_t i = 0; i < n; i++) {
        most = fmax(most, bars[i].value);
        height += BAR + GAP;
        if (i == 0 || strcmp(bars[i].group, bars[i - 1].group) != 0)
            height += BAR + 8;
    }
    buf_printf(out,
               "<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
               "aria-label=\"bars\">\n",
               WIDTH, height);
    double y = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(bars[i].group, bars[i - 1].group) != 0) {
            y += 8 + BAR;
            buf_printf(out, "<text class=\"group\" x=\"0\" y=\"%.1f\">", y - 5);
            html_text(out, bars[i].group);
            buf_add_text(out, "</text>\n");
        }
        double w = most > 0 ? bars[i].value / most * (WIDTH - NAME - VALUE) : 0;
        buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">",
                   NAME - 10, y + 13);
        html_text(out, bars[i].name);
        buf_add_text(out, "</text>");
        if (!bars[i].is_bad)
            buf_printf(out,
                       "<rect class=\"bar c%u\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                       "height=\"%.1f\" rx=\"2\"/>",
                       bars[i].color % SVG_COLORS, NAME, y, fmax(w, 1.5), BAR);
        buf_printf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">",
                   bars[i].is_bad ? "bad" : "value", NAME + (bars[i].is_bad ? 0 : fmax(w, 1.5)) + 7,
                   y + 13);
        html_text(out, bars[i].text);
        buf_add_text(out, "</text>\n");
        y += BAR + GAP;
    }
    buf_add_text(out, "</svg>\n");
}
