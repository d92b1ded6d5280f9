/* SPDX-License-Identifier: MIT
 * strings.h — what methods and filters on text share. */
#ifndef KVASIR_TEMPLATE_STRINGS_H
#define KVASIR_TEMPLATE_STRINGS_H

#include "template/render.h"

/* A whole number argument; huge ones are clamped to ±2^62. */
NODISCARD bool strings_index(struct render *r, struct value v, int64_t *out);
/* The first `count` occurrences (-1: all); an empty `old` stands between all characters. */
NODISCARD bool strings_replace(struct render *r, struct slice s, struct slice old, struct slice new,
                               int64_t count, struct value *out);
enum pad { PAD_LEFT, PAD_RIGHT, PAD_CENTER }; /* where the text goes */
NODISCARD bool strings_pad(struct render *r, struct slice s, int64_t width, struct slice fill,
                           enum pad where, struct value *out);
/* str.splitlines() */
NODISCARD bool strings_lines(struct render *r, struct slice s, bool keep_ends,
                             const struct value **items, size_t *n);

/* A list that grows. */
struct value_list {
    struct value *items;
    size_t count, cap;
};
NODISCARD bool value_list_add(struct render *r, struct value_list *l, struct value v);

#endif
