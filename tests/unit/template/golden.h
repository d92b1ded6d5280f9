/* SPDX-License-Identifier: MIT
 * golden.h — what the tests of the template room share: files of JSON lines, and one-call
 * rendering. Time is fixed at 2024-07-26 12:34:56, as in the golden files. */
#ifndef KVASIR_TESTS_TEMPLATE_GOLDEN_H
#define KVASIR_TESTS_TEMPLATE_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "template/template_chat.h"

static const struct template_now golden_now = {2024, 7, 26, 12, 34, 56};
static struct err last_error;
static size_t last_length; /* of the text that render_text_of() gave, which may hold NULs */

struct lines {
    struct arena arena;
    struct slice text;
    size_t at;
};

static inline struct lines lines_open(const char *path)
{
    struct lines l = {0};
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s (run in the source root)", path);
    arena_init(&l.arena, 256u << 20);
    fseek(f, 0, SEEK_END);
    size_t len = (size_t)ftell(f);
    rewind(f);
    char *text = arena_alloc(&l.arena, len + 1, 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, len, f), len);
    fclose(f);
    l.text = (struct slice){text, len};
    return l;
}

static inline void lines_close(struct lines *l)
{
    arena_release(&l->arena);
}

static inline bool lines_next(struct lines *l, struct slice *line)
{
    if (l->at >= l->text.len)
        return false;
    const char *start = l->text.ptr + l->at;
    const char *end = memchr(start, '\n', l->text.len - l->at);
    size_t len = end ? (size_t)(end - start) : l->text.len - l->at;
    *line = (struct slice){start, len};
    l->at += len + 1;
    return true;
}

static inline struct json *parse_json(struct lines *l, struct slice text)
{
    struct json *v = NULL;
    if (json_parse(text, &l->arena, &v, &last_error) != OK)
        fail_msg("%.*s: %s", (int)text.len, text.ptr, last_error.msg);
    return v;
}

/* The rendered text (mem_free it), or NULL; *status says why. */
static inline char *render_text_of(struct slice source, const struct json *variables,
                                   enum status *status)
{
    struct template *t = NULL;
    struct buf out;
    char *text = NULL;
    buf_init(&out, TEMPLATE_OUTPUT_MAX);
    enum status st = template_compile(source, &t, &last_error);
    if (st == OK)
        st = template_render(t, variables, golden_now, &out, &last_error);
    if (st == OK)
        text = buf_take(&out, &last_length);
    if (status)
        *status = st;
    buf_release(&out);
    template_free(t);
    return text;
}

#endif
