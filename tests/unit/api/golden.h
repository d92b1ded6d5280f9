/* SPDX-License-Identifier: MIT
 * golden.h — replies kept in files: what is read from them, and how one is compared or written
 * anew. */
#ifndef KVASIR_TESTS_API_GOLDEN_H
#define KVASIR_TESTS_API_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/slice.h"
#include "text/json.h"

#define GOLDEN_BYTES_MAX (1u << 20)

/* A whole file, in the arena; ptr NULL: there is none. */
static inline struct slice golden_read(struct arena *arena, const char *path)
{
    static char text[GOLDEN_BYTES_MAX];
    FILE *f = fopen(path, "rb");
    if (!f)
        return (struct slice){NULL, 0};
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    char *copy = arena_text(arena, text, n);
    assert_non_null(copy);
    return (struct slice){copy, n};
}

static inline struct slice golden_text(const struct json *v, const char *key)
{
    const struct json *text = json_get(v, key);
    return text ? text->text : (struct slice){"", 0};
}

static inline void golden_compare(struct arena *arena, const char *path, struct slice got,
                                  bool is_writing)
{
    if (is_writing) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(got.ptr, 1, got.len, f), got.len);
        assert_int_equal(fclose(f), 0);
        return;
    }
    struct slice expected = golden_read(arena, path);
    if (!expected.ptr)
        fail_msg("%s is missing", path);
    if (!slice_equal(expected, got))
        fail_msg("%s: got\n%.*s\nexpected\n%.*s", path, SLICE_ARG(got), SLICE_ARG(expected));
}

#endif
