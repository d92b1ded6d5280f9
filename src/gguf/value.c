/* SPDX-License-Identifier: MIT
 * value.c — metadata by key.  parse.c has checked that every value lies within the file. */
#include "base/check.h"
#include "base/endian.h"
#include "gguf/gguf_int.h"

const char *gguf_kind_name(enum gguf_kind kind)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (unsigned)kind < ARRAY_COUNT(names) ? names[kind] : "unknown kind";
}

bool gguf_kind_is_integer(enum gguf_kind kind)
{
    switch (kind) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_U16:
    case GGUF_I16:
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_U64:
    case GGUF_I64:
        return true;
    default:
        return false;
    }
}

bool gguf_kind_is_number(enum gguf_kind kind)
{
    return gguf_kind_is_integer(kind) || kind == GGUF_F32 || kind == GGUF_F64;
}

static bool is_signed(enum gguf_kind kind)
{
    return kind == GGUF_I8 || kind == GGUF_I16 || kind == GGUF_I32 || kind == GGUF_I64;
}

/* Element i of integers at p; negative ones keep their two's complement. */
static uint64_t integer_at(enum gguf_kind kind, const uint8_t *p, uint64_t i)
{
    switch (kind) {
    case GGUF_U8:
        return p[i];
    case GGUF_I8:
        return (uint64_t)(int64_t)(int8_t)p[i];
    case GGUF_U16:
        return get_le16(p + 2 * i);
    case GGUF_I16:
        return (uint64_t)(int64_t)(int16_t)get_le16(p + 2 * i);
    case GGUF_U32:
        return get_le32(p + 4 * i);
    case GGUF_I32:
        return (uint64_t)(int64_t)(int32_t)get_le32(p + 4 * i);
    default:
        CHECK(kind == GGUF_U64 || kind == GGUF_I64);
        return get_le64(p + 8 * i);
    }
}

static double number_at(enum gguf_kind kind, const uint8_t *p, uint64_t i)
{
    if (kind == GGUF_F32) {
        float f;
        memcpy(&f, p + 4 * i, sizeof f);
        return (double)f;
    }
    if (kind == GGUF_F64) {
        double d;
        memcpy(&d, p + 8 * i, sizeof d);
        return d;
    }
    uint64_t v = integer_at(kind, p, i);
    return is_signed(kind) ? (double)(int64_t)v : (double)v;
}

static const struct key *find_key(const struct key_table *t, const char *key)
{
    uint32_t i = name_index_find(&t->index, slice_of(key));
    return i == UINT32_MAX ? NULL : &t->keys[i];
}

static enum status wrong_kind(const struct part *part, const struct key *k, const char *wanted,
                              struct err *e)
{
    return fail_at(part, E_INVALID, k->pos, e, "key \"%s\" is of kind %s, not %s",
                   show(k->name).text, gguf_kind_name(k->kind), wanted);
}

enum status table_get_u64(const struct part *part, const struct key_table *t, const char *key,
                          uint64_t *out, bool *found, struct err *e)
{
    const struct key *k = find_key(t, key);
    *found = k != NULL;
    if (!k)
        return OK;
    if (!gguf_kind_is_integer(k->kind))
        return wrong_kind(part, k, "an integer", e);
    uint64_t v = integer_at(k->kind, k->data, 0);
    if (is_signed(k->kind) && (int64_t)v < 0)
        return fail_at(part, E_INVALID, k->pos, e, "key \"%s\" is negative: %lld",
                       show(k->name).text, (long long)(int64_t)v);
    *out = v;
    return OK;
}

enum status gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out, bool *found,
                         struct err *e)
{
    return table_get_u64(&g->parts[0], &g->keys, key, out, found, e);
}

enum status gguf_get_f64(const struct gguf *g, const char *key, double *out, bool *found,
                         struct err *e)
{
    const struct key *k = find_key(&g->keys, key);
    *found = k != NULL;
    if (!k)
        return OK;
    if (!gguf_kind_is_number(k->kind))
        return wrong_kind(&g->parts[0], k, "a number", e);
    *out = number_at(k->kind, k->data, 0);
    return OK;
}

enum status gguf_get_bool(const struct gguf *g, const char *key, bool *out, bool *found,
                          struct err *e)
{
    const struct key *k = find_key(&g->keys, key);
    *found = k != NULL;
    if (!k)
        return OK;
    if (k->kind != GGUF_BOOL)
        return wrong_kind(&g->parts[0], k, "bool", e);
    *out = k->data[0] != 0;
    return OK;
}

enum status gguf_get_string(const struct gguf *g, const char *key, struct slice *out, bool *found,
                            struct err *e)
{
    const struct key *k = find_key(&g->keys, key);
    *found = k != NULL;
    if (!k)
        return OK;
    if (k->kind != GGUF_STRING)
        return wrong_kind(&g->parts[0], k, "string", e);
    const uint8_t *at = k->data;
    *out = gguf_array_string(&at);
    return OK;
}

enum status gguf_get_array(const struct gguf *g, const char *key, struct gguf_array *out,
                           bool *found, struct err *e)
{
    const struct key *k = find_key(&g->keys, key);
    *found = k != NULL;
    if (!k)
        return OK;
    if (k->kind != GGUF_ARRAY)
        return wrong_kind(&g->parts[0], k, "array", e);
    *out = (struct gguf_array){.kind = k->element_kind, .count = k->count, .data = k->elements};
    return OK;
}

uint64_t gguf_array_u64(const struct gguf_array *a, uint64_t i)
{
    CHECK(i < a->count && (gguf_kind_is_integer(a->kind) || a->kind == GGUF_BOOL));
    return a->kind == GGUF_BOOL ? a->data[i] : integer_at(a->kind, a->data, i);
}

double gguf_array_f64(const struct gguf_array *a, uint64_t i)
{
    CHECK(i < a->count && gguf_kind_is_number(a->kind));
    return number_at(a->kind, a->data, i);
}

struct slice gguf_array_string(const uint8_t **at)
{
    uint64_t len = get_le64(*at);
    struct slice s = {(const char *)*at + 8, (size_t)len};
    *at += 8 + len;
    return s;
}

uint32_t gguf_key_count(const struct gguf *g)
{
    return g->keys.count;
}

struct gguf_key gguf_key_at(const struct gguf *g, uint32_t i)
{
    CHECK(i < g->keys.count);
    const struct key *k = &g->keys.keys[i];
    return (struct gguf_key){.name = k->name, .kind = k->kind, .data = k->data, .bytes = k->bytes};
}
