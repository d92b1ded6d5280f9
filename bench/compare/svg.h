/* SPDX-License-Identifier: MIT
 * svg.h — charts as plain SVG: they print, diff, and work without scripts.  Colours come from the
 * page's style sheet (classes c0 … c7), so that light and dark are one drawing. */
#ifndef KVASIR_BENCH_COMPARE_SVG_H
#define KVASIR_BENCH_COMPARE_SVG_H

#include "base/buf.h"

#define SVG_SERIES_MAX 24u
#define SVG_POINTS_MAX 128u
#define SVG_COLORS     8u

struct svg_point {
    double x, y;
};
struct svg_series {
    char name[128];
    uint32_t color;
    bool is_dashed, is_thin; /* thin: no marks */
    uint32_t n;
    struct svg_point points[SVG_POINTS_MAX];
};
struct svg_chart {
    const char *x_title, *y_title;
    bool is_log_x, is_log_y;
    bool x_is_count; /* whole numbers: one tick each */
    bool y_is_ms;
    uint32_t n;
    struct svg_series series[SVG_SERIES_MAX];
};
struct svg_series *svg_add(struct svg_chart *c, const char *name, uint32_t color); /* NULL: full */
void svg_point(struct svg_series *s, double x, double y);
void svg_write(const struct svg_chart *c, struct buf *out); /* with a legend in HTML above */

struct svg_bar {
    char group[100], name[100], text[48]; /* text stands at its end */
    uint32_t color;
    double value;
    bool is_bad; /* no figure: text says why */
};
void svg_bars(const struct svg_bar *bars, uint32_t n, struct buf *out);

void html_text(struct buf *out, const char *text); /* escaped */

#endif
