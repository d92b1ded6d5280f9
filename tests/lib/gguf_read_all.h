/* SPDX-License-Identifier: MIT
 * gguf_read_all.h — touches all that an open GGUF offers: every key by every getter, every element,
 * every byte of every tensor.  For the fuzz target and the tests of damaged files: whatever opens
 * must be readable to the end.  Returns a sum, so that no read is optimized away. */
#ifndef KVASIR_TESTS_GGUF_READ_ALL_H
#define KVASIR_TESTS_GGUF_READ_ALL_H

#include "base/check.h"
#include "gguf/gguf.h"

static inline uint64_t gguf_read_array(const struct gguf_array *a)
{
    uint64_t sum = 0;
    const uint8_t *at = a->data;
    for (uint64_t i = 0; i < a->count; i++) {
        if (a->kind == GGUF_STRING) {
            struct slice s = gguf_array_string(&at);
            for (size_t j = 0; j < s.len; j++)
                sum += (unsigned char)s.ptr[j];
        } else if (gguf_kind_is_integer(a->kind) || a->kind == GGUF_BOOL) {
            sum += gguf_array_u64(a, i);
        } else {
            sum += gguf_array_f64(a, i) > 0;
        }
    }
    return sum;
}

static inline uint64_t gguf_read_key(const struct gguf *g, const struct gguf_key *k)
{
    char name[512];
    struct err e = {0};
    bool found = false, b = false;
    uint64_t sum = 0, u = 0;
    double f = 0;
    struct slice s = {0};
    struct gguf_array a = {0};
    for (uint64_t i = 0; i < k->bytes; i++)
        sum += k->data[i];
    if (k->name.len >= sizeof name)
        return sum;
    memcpy(name, k->name.ptr, k->name.len);
    name[k->name.len] = '\0';
    enum status st = gguf_get_u64(g, name, &u, &found, &e);
    CHECK(found && (st == OK || st == E_INVALID));
    st = gguf_get_f64(g, name, &f, &found, &e);
    CHECK(found && (st == OK) == gguf_kind_is_number(k->kind));
    st = gguf_get_bool(g, name, &b, &found, &e);
    CHECK(found && (st == OK) == (k->kind == GGUF_BOOL));
    st = gguf_get_string(g, name, &s, &found, &e);
    CHECK(found && (st == OK) == (k->kind == GGUF_STRING));
    for (size_t i = 0; i < s.len; i++)
        sum += (unsigned char)s.ptr[i];
    st = gguf_get_array(g, name, &a, &found, &e);
    CHECK(found && (st == OK) == (k->kind == GGUF_ARRAY));
    return sum + u + b + (f > 0) + gguf_read_array(&a);
}

static inline uint64_t gguf_read_all(const struct gguf *g)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < gguf_key_count(g); i++) {
        struct gguf_key k = gguf_key_at(g, i);
        sum += gguf_read_key(g, &k);
    }
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[GGUF_NAME_MAX + 1];
        memcpy(name, t->name.ptr, t->name.len);
        name[t->name.len] = '\0';
        CHECK(gguf_find_tensor(g, name) == t);
        CHECK(tensor_row_bytes(t->type, t->dims[0]) * t->dims[1] * t->dims[2] * t->dims[3] ==
              t->bytes);
        for (uint64_t j = 0; j < t->bytes; j++)
            sum += ((const uint8_t *)t->data)[j];
    }
    return sum;
}

#endif
