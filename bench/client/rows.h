/* SPDX-License-Identifier: MIT
 * rows.h — skald's evaluation: conversations with the answers that are right, eval.jsonl.xz.
 * Unpacked by xz(1). */
#ifndef KVASIR_BENCH_CLIENT_ROWS_H
#define KVASIR_BENCH_CLIENT_ROWS_H

#include "base/arena.h"
#include "text/json.h"

#define ROWS_MAX       4096u
#define ROWS_BYTES_MAX (256u << 20)

struct row {
    const char *id;
    uint32_t n_tokens;     /* of the rendered prompt */
    struct slice messages; /* as JSON */
    struct slice tools;    /* as JSON; empty: none */
    struct slice answer;
    const struct json *message; /* the parsed messages [n_messages] */
    size_t n_messages;
};

struct rows {
    struct arena arena;
    struct row *row;
    uint32_t n;
};

NODISCARD enum status rows_read(const char *path, struct rows *out, struct err *e);
void rows_release(struct rows *r);
const struct row *rows_find(const struct rows *r, const char *id); /* NULL: none */

#endif
