/* SPDX-License-Identifier: MIT
 * parse.c — reads one part's header.  Nothing in the file is believed: every count is held against
 * its ceiling and against the bytes that are left before it is used, every position against the
 * size of the file; sums and products are checked for overflow. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "gguf/gguf_int.h"

#define VERSION_MIN       2u
#define VERSION_MAX       3u
#define ALIGNMENT_DEFAULT 32u
#define ALIGNMENT_MAX     (1u << 30) /* a power of two; real files have 32 */
/* The least that one costs, so that a count beyond what the file can hold is refused at once. */
#define KEY_BYTES_MIN    (8 + 1 + 4 + 1)
#define TENSOR_BYTES_MIN (8 + 1 + 4 + 8 + 4 + 8)

struct reader {
    const struct part *part;
    uint64_t at;
    struct err *e;
    char where[112]; /* "key 3 \"general.name\": " */
};

struct shown show(struct slice name)
{
    struct shown s;
    size_t n = name.len < sizeof s.text - 1 ? name.len : sizeof s.text - 1;
    for (size_t i = 0; i < n; i++)
        s.text[i] = name.ptr[i] >= ' ' && name.ptr[i] <= '~' ? name.ptr[i] : '?';
    s.text[n] = '\0';
    return s;
}

enum status fail_at(const struct part *part, enum status code, uint64_t pos, struct err *e,
                    const char *fmt, ...)
{
    char what[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    /* Long names are cut, so that the position always fits. */
    return err_at(e, code, pos, "%.60s: %.140s at byte %llu", part->name, what,
                  (unsigned long long)pos);
}

PRINTF_LIKE(4, 5)
static enum status fail(struct reader *r, enum status code, uint64_t pos, const char *fmt, ...)
{
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return fail_at(r->part, code, pos, r->e, "%s%s", r->where, what);
}

/* *p = the next n bytes; NULL on failure. */
static enum status take(struct reader *r, uint64_t n, const char *field, const uint8_t **p)
{
    uint64_t left = r->part->size - r->at;
    *p = NULL;
    if (n > left)
        return fail(r, E_SYNTAX, r->at, "%s needs %llu bytes, %llu are left", field,
                    (unsigned long long)n, (unsigned long long)left);
    *p = r->part->bytes + r->at;
    r->at += n;
    return OK;
}

static enum status read_u32(struct reader *r, const char *field, uint32_t *v)
{
    const uint8_t *p;
    enum status st = take(r, 4, field, &p);
    *v = p ? get_le32(p) : 0;
    return st;
}

static enum status read_u64(struct reader *r, const char *field, uint64_t *v)
{
    const uint8_t *p;
    enum status st = take(r, 8, field, &p);
    *v = p ? get_le64(p) : 0;
    return st;
}

static enum status read_string(struct reader *r, const char *field, uint64_t max, struct slice *s)
{
    uint64_t pos = r->at, len;
    const uint8_t *p;
    enum status st = read_u64(r, field, &len);
    if (st != OK)
        return st;
    if (len > r->part->size - r->at)
        return fail(r, E_SYNTAX, pos, "%s of %llu bytes goes beyond the end of the file", field,
                    (unsigned long long)len);
    if (len > max)
        return fail(r, E_LIMIT, pos, "%s of %llu bytes (at most %llu)", field,
                    (unsigned long long)len, (unsigned long long)max);
    st = take(r, len, field, &p);
    if (st == OK)
        *s = (struct slice){(const char *)p, (size_t)len};
    return st;
}

/* Names are looked up as C strings. */
static enum status read_name(struct reader *r, uint64_t max, struct slice *name)
{
    uint64_t pos = r->at;
    enum status st = read_string(r, "name", max, name);
    if (st != OK)
        return st;
    if (name->len == 0)
        return fail(r, E_SYNTAX, pos, "name is empty");
    if (memchr(name->ptr, '\0', name->len))
        return fail(r, E_SYNTAX, pos, "name holds a zero byte");
    return OK;
}

/* ---- keys ---- */

/* Bytes of a number or bool; 0 for strings and arrays. */
static uint32_t scalar_bytes(uint32_t kind)
{
    switch (kind) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL:
        return 1;
    case GGUF_U16:
    case GGUF_I16:
        return 2;
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_F32:
        return 4;
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_F64:
        return 8;
    default:
        return 0;
    }
}

static enum status read_kind(struct reader *r, const char *field, enum gguf_kind *kind)
{
    uint64_t pos = r->at;
    uint32_t v;
    enum status st = read_u32(r, field, &v);
    if (st != OK)
        return st;
    if (v > GGUF_F64)
        return fail(r, E_SYNTAX, pos, "%s %u is unknown", field, v);
    *kind = (enum gguf_kind)v;
    return OK;
}

/* n elements of one byte to eight. */
static enum status read_scalars(struct reader *r, enum gguf_kind kind, uint64_t n)
{
    uint64_t pos = r->at;
    const uint8_t *p;
    enum status st = take(r, n * scalar_bytes(kind), "value", &p); /* n ≤ GGUF_ARRAY_MAX */
    if (st != OK || kind != GGUF_BOOL)
        return st;
    for (uint64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return fail(r, E_SYNTAX, pos + i, "bool is %u, not 0 or 1", p[i]);
    return OK;
}

static enum status read_array(struct reader *r, struct key *k)
{
    uint64_t pos = r->at;
    enum status st = read_kind(r, "array kind", &k->element_kind);
    if (st != OK)
        return st;
    if (k->element_kind == GGUF_ARRAY)
        return fail(r, E_UNSUPPORTED, pos, "an array of arrays is not supported");
    pos = r->at;
    st = read_u64(r, "array length", &k->count);
    if (st != OK)
        return st;
    if (k->count > GGUF_ARRAY_MAX)
        return fail(r, E_LIMIT, pos, "array length %llu (at most %u)", (unsigned long long)k->count,
                    GGUF_ARRAY_MAX);
    k->elements = r->part->bytes + r->at;
    if (k->element_kind != GGUF_STRING)
        return read_scalars(r, k->element_kind, k->count);
    for (uint64_t i = 0; i < k->count && st == OK; i++) {
        struct slice ignored;
        st = read_string(r, "string of an array", GGUF_STRING_MAX, &ignored);
    }
    return st;
}

static enum status read_value(struct reader *r, struct key *k)
{
    struct slice ignored;
    if (k->kind == GGUF_STRING)
        return read_string(r, "string", GGUF_STRING_MAX, &ignored);
    if (k->kind == GGUF_ARRAY)
        return read_array(r, k);
    return read_scalars(r, k->kind, 1);
}

static enum status read_key(struct reader *r, uint32_t i, struct key *k)
{
    snprintf(r->where, sizeof r->where, "key %u: ", i);
    k->pos = r->at;
    enum status st = read_name(r, GGUF_KEY_NAME_MAX, &k->name);
    if (st != OK)
        return st;
    snprintf(r->where, sizeof r->where, "key %u \"%s\": ", i, show(k->name).text);
    st = read_kind(r, "kind", &k->kind);
    if (st != OK)
        return st;
    k->data = r->part->bytes + r->at;
    st = read_value(r, k);
    k->bytes = (uint64_t)(r->part->bytes + r->at - k->data);
    return st;
}

static enum status read_keys(struct reader *r, uint32_t count, struct key_table *t)
{
    t->keys = mem_try_new(count, sizeof t->keys[0]);
    if (!t->keys)
        return err_set(r->e, E_NOMEM, "%s: %u keys", r->part->name, count);
    t->count = count;
    for (uint32_t i = 0; i < count; i++) {
        enum status st = read_key(r, i, &t->keys[i]);
        if (st != OK)
            return st;
    }
    r->where[0] = '\0';
    uint32_t twin;
    enum status st = name_index_build(&t->index, t->keys, sizeof t->keys[0], count, &twin);
    if (st != OK)
        return err_set(r->e, st, "%s: index of %u keys", r->part->name, count);
    if (twin != UINT32_MAX)
        return fail(r, E_SYNTAX, t->keys[twin].pos, "key %u \"%s\" is there twice", twin,
                    show(t->keys[twin].name).text);
    return OK;
}

void key_table_release(struct key_table *t)
{
    name_index_release(&t->index);
    mem_free(t->keys);
    *t = (struct key_table){0};
}

/* ---- tensors ---- */

static enum status read_dims(struct reader *r, struct gguf_tensor *t, uint64_t *n_elements)
{
    uint64_t pos = r->at;
    enum status st = read_u32(r, "number of dimensions", &t->n_dims);
    if (st != OK)
        return st;
    if (t->n_dims == 0 || t->n_dims > GGUF_DIMS_MAX)
        return fail(r, E_LIMIT, pos, "%u dimensions (1 to %u are possible)", t->n_dims,
                    GGUF_DIMS_MAX);
    *n_elements = 1;
    for (uint32_t d = 0; d < GGUF_DIMS_MAX; d++) {
        t->dims[d] = 1;
        if (d >= t->n_dims)
            continue;
        pos = r->at;
        st = read_u64(r, "dimension", &t->dims[d]);
        if (st != OK)
            return st;
        if (t->dims[d] == 0)
            return fail(r, E_SYNTAX, pos, "dimension %u is 0", d);
        if (__builtin_mul_overflow(*n_elements, t->dims[d], n_elements) || *n_elements > INT64_MAX)
            return fail(r, E_LIMIT, pos, "dimension %u: the number of elements overflows", d);
    }
    return OK;
}

static enum status read_type(struct reader *r, struct gguf_tensor *t, uint64_t n_elements)
{
    uint64_t pos = r->at;
    uint32_t type;
    enum status st = read_u32(r, "type", &type);
    if (st != OK)
        return st;
    const struct tensor_type_info *info = tensor_type_info(type);
    if (!info) {
        const char *name = tensor_type_name(type);
        return name ? fail(r, E_UNSUPPORTED, pos, "type %s is not supported", name)
                    : fail(r, E_UNSUPPORTED, pos, "type %u is unknown", type);
    }
    if (t->dims[0] % info->block_elements != 0)
        return fail(r, E_SYNTAX, pos, "rows of %llu elements are no whole blocks of %s (%u)",
                    (unsigned long long)t->dims[0], info->name, info->block_elements);
    t->type = info->type;
    if (__builtin_mul_overflow(n_elements / info->block_elements, info->block_bytes, &t->bytes))
        return fail(r, E_LIMIT, pos, "the size in bytes overflows");
    return OK;
}

static enum status read_tensor(struct reader *r, uint32_t i, struct tensor *t)
{
    snprintf(r->where, sizeof r->where, "tensor %u: ", i);
    t->pos = r->at;
    enum status st = read_name(r, GGUF_NAME_MAX, &t->pub.name);
    if (st != OK)
        return st;
    snprintf(r->where, sizeof r->where, "tensor %u \"%s\": ", i, show(t->pub.name).text);
    uint64_t n_elements = 0;
    st = read_dims(r, &t->pub, &n_elements);
    if (st == OK)
        st = read_type(r, &t->pub, n_elements);
    t->offset_pos = r->at;
    if (st == OK)
        st = read_u64(r, "offset", &t->offset);
    return st;
}

/* Places tensors in the data section that begins at start, and checks that they lie within it. */
static enum status place_tensors(struct reader *r, struct tensor *tensors, uint32_t count,
                                 uint64_t start, uint64_t alignment)
{
    const struct part *part = r->part;
    uint64_t data_bytes = part->size > start ? part->size - start : 0;
    for (uint32_t i = 0; i < count; i++) {
        struct tensor *t = &tensors[i];
        snprintf(r->where, sizeof r->where, "tensor %u \"%s\": ", i, show(t->pub.name).text);
        if (t->offset % alignment != 0)
            return fail(r, E_SYNTAX, t->offset_pos, "offset %llu is no multiple of %llu",
                        (unsigned long long)t->offset, (unsigned long long)alignment);
        if (t->offset > data_bytes || t->pub.bytes > data_bytes - t->offset)
            return fail(r, E_SYNTAX, t->offset_pos,
                        "offset %llu + %llu bytes goes beyond the %llu of data",
                        (unsigned long long)t->offset, (unsigned long long)t->pub.bytes,
                        (unsigned long long)data_bytes);
        t->pub.data = part->bytes + start + t->offset;
    }
    return OK;
}

static int by_data(const void *a, const void *b)
{
    const struct tensor *const *x = a, *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

static enum status refuse_overlaps(struct reader *r, const struct tensor *tensors, uint32_t count)
{
    const struct tensor **sorted = mem_try_new(count, sizeof(struct tensor *));
    if (!sorted)
        return err_set(r->e, E_NOMEM, "%s: order of %u tensors", r->part->name, count);
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, count, sizeof sorted[0], by_data);
    enum status st = OK;
    for (uint32_t i = 1; i < count && st == OK; i++) {
        const struct tensor *before = sorted[i - 1], *t = sorted[i];
        if (t->offset - before->offset < before->pub.bytes)
            st = fail_at(r->part, E_SYNTAX, t->offset_pos, r->e,
                         "tensors \"%.48s\" and \"%.48s\" overlap", show(before->pub.name).text,
                         show(t->pub.name).text);
    }
    mem_free(sorted);
    return st;
}

static enum status read_alignment(struct reader *r, const struct key_table *keys,
                                  uint64_t *alignment)
{
    bool found;
    enum status st = table_get_u64(r->part, keys, "general.alignment", alignment, &found, r->e);
    if (st != OK)
        return st;
    if (!found)
        *alignment = ALIGNMENT_DEFAULT;
    uint64_t a = *alignment;
    if (a == 0 || a > ALIGNMENT_MAX || (a & (a - 1)) != 0) {
        uint32_t i = name_index_find(&keys->index, SLICE_LIT("general.alignment"));
        return fail(r, E_SYNTAX, keys->keys[i].pos,
                    "general.alignment %llu is not a power of two up to %u", (unsigned long long)a,
                    ALIGNMENT_MAX);
    }
    return OK;
}

static enum status read_tensors(struct reader *r, struct gguf *g, uint32_t part_index,
                                uint32_t count, const struct key_table *keys)
{
    uint64_t alignment;
    enum status st = read_alignment(r, keys, &alignment);
    if (st != OK)
        return st;
    struct tensor *grown =
        mem_try_resize(g->tensors, (size_t)g->n_tensors + count, sizeof g->tensors[0]);
    if (!grown)
        return err_set(r->e, E_NOMEM, "%s: %u tensors", r->part->name, count);
    g->tensors = grown;
    struct tensor *tensors = grown + g->n_tensors;
    for (uint32_t i = 0; i < count; i++) {
        tensors[i] = (struct tensor){.part = part_index};
        st = read_tensor(r, i, &tensors[i]);
        if (st != OK)
            return st;
    }
    /* No overflow: at ≤ the size of a file or of memory, and the alignment is at most 2³⁰. */
    uint64_t start = (r->at + alignment - 1) & ~(alignment - 1);
    st = place_tensors(r, tensors, count, start, alignment);
    r->where[0] = '\0';
    if (st == OK)
        st = refuse_overlaps(r, tensors, count);
    if (st == OK)
        g->n_tensors += count;
    return st;
}

/* ---- the start of the file ---- */

struct counts {
    uint64_t tensors, keys;
};

static enum status read_version(struct reader *r)
{
    const uint8_t *magic;
    enum status st = take(r, 4, "magic", &magic);
    if (st != OK)
        return st;
    if (memcmp(magic, "GGUF", 4) != 0)
        return fail(r, E_SYNTAX, 0, "magic is not \"GGUF\": not a GGUF file");
    uint32_t version;
    st = read_u32(r, "version", &version);
    if (st != OK)
        return st;
    if (version >= VERSION_MIN && version <= VERSION_MAX)
        return OK;
    uint32_t swapped = __builtin_bswap32(version);
    if (swapped >= 1 && swapped <= VERSION_MAX)
        return fail(r, E_UNSUPPORTED, 4, "big-endian files are not supported");
    return fail(r, E_UNSUPPORTED, 4, "version %u is not supported (%u and %u are)", version,
                VERSION_MIN, VERSION_MAX);
}

static enum status read_count(struct reader *r, const char *field, uint64_t max, uint64_t *count)
{
    uint64_t pos = r->at;
    enum status st = read_u64(r, field, count);
    if (st == OK && *count > max)
        st = fail(r, E_LIMIT, pos, "%s %llu (at most %llu)", field, (unsigned long long)*count,
                  (unsigned long long)max);
    return st;
}

static enum status read_counts(struct reader *r, uint32_t n_tensors_before, struct counts *n)
{
    uint64_t pos = r->at;
    enum status st =
        read_count(r, "number of tensors", GGUF_TENSORS_MAX - n_tensors_before, &n->tensors);
    if (st == OK)
        st = read_count(r, "number of keys", GGUF_KEYS_MAX, &n->keys);
    if (st != OK)
        return st;
    uint64_t least = n->keys * KEY_BYTES_MIN + n->tensors * TENSOR_BYTES_MIN;
    if (least > r->part->size - r->at)
        return fail(r, E_SYNTAX, pos, "%llu tensors and %llu keys do not fit into the file",
                    (unsigned long long)n->tensors, (unsigned long long)n->keys);
    return OK;
}

enum status parse_part(struct gguf *g, uint32_t i, struct key_table *keys, struct err *e)
{
    CHECK(i < g->n_parts);
    struct reader r = {.part = &g->parts[i], .e = e};
    struct counts n;
    enum status st = read_version(&r);
    if (st == OK)
        st = read_counts(&r, g->n_tensors, &n);
    if (st == OK)
        st = read_keys(&r, (uint32_t)n.keys, keys);
    if (st == OK)
        st = read_tensors(&r, g, i, (uint32_t)n.tensors, keys);
    return st;
}
