/* SPDX-License-Identifier: MIT
 * demo_show.h — what the demo writes: lines, a progress line while something takes long, a table.
 * The progress line is drawn on terminals only, by a thread of its own. */
#ifndef KVASIR_BENCH_DEMO_SHOW_H
#define KVASIR_BENCH_DEMO_SHOW_H

#include "bench/client/chat.h"

void show_line(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* "  said    …": the first line of a text, cut where it is long. */
void show_quote(const char *label, struct slice text);
void show_failure(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Between these two a line "what … 42 %  11 s" is kept up to date. */
void show_work_begin(const char *what);
void show_work_progress(void *arg, int64_t done, int64_t total); /* a chat_ask's progress */
void show_work_end(void);

struct show_row {
    const char *name;
    const struct chat_reply *reply;
    const char *verdict; /* "right", "WRONG", "–" */
};
void show_table(const struct show_row *rows, size_t n);

/* 20926 → "20,926"; from a ring of eight texts. */
const char *show_count(int64_t n);
/* 12345.6 ms → "12.3 s", 0.4123 → "0.41 ms". */
const char *show_ms(double ms);

#endif
