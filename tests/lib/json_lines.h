/* SPDX-License-Identifier: MIT
 * json_lines.h — the values of a file of JSON lines, for tests.  Exits with a reason on failure. */
#ifndef KVASIR_TESTS_JSON_LINES_H
#define KVASIR_TESTS_JSON_LINES_H

#include "base/arena.h"
#include "golden_vocab.h"
#include "text/json.h"

#define JSON_LINES_MAX 2048

struct json_lines {
    struct arena arena;
    char *bytes;
    const struct json *line[JSON_LINES_MAX];
    size_t count;
};

static inline void json_lines_open(struct json_lines *l, const char *path)
{
    size_t len;
    *l = (struct json_lines){0};
    l->bytes = golden_read(path, &len);
    arena_init(&l->arena, 64u << 20);
    for (const char *p = l->bytes, *end = p + len; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        struct json *value;
        struct err e = {0};
        stop = stop ? stop : end;
        if (l->count == JSON_LINES_MAX)
            golden_fail("read", path, "too many lines");
        if (json_parse((struct slice){p, (size_t)(stop - p)}, &l->arena, &value, &e) != OK)
            golden_fail("parse", path, e.msg);
        l->line[l->count++] = value;
        p = stop + 1;
    }
}

static inline void json_lines_close(struct json_lines *l)
{
    arena_release(&l->arena);
    free(l->bytes);
}

#endif
