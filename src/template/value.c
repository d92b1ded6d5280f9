/* SPDX-License-Identifier: MIT
 * value.c — truth, equality, order, membership and iteration, as Python has them. */
#include "template/value.h"

#include "template/number.h"
#include "template/render.h"
#include "template/unicode.h"

const struct value value_no_items[1];

/* ---- undefined ---- */

static struct value new_undefined(struct render *r, struct undefined u)
{
    struct undefined *box = render_alloc(r, 1, sizeof *box);
    if (box)
        *box = u;
    return (struct value){.kind = V_UNDEFINED, .undefined = box};
}

struct value value_undefined_named(struct render *r, struct slice name)
{
    return new_undefined(r, (struct undefined){.name = value_text(name)});
}

struct value value_undefined_of(struct render *r, struct value object, struct value name)
{
    return new_undefined(
        r, (struct undefined){.has_object = true, .object_kind = object.kind, .name = name});
}

struct value value_undefined_hint(struct render *r, struct slice hint)
{
    return new_undefined(r, (struct undefined){.hint = hint});
}

const char *value_type_name(struct value v)
{
    static const char *const names[] = {[V_UNDEFINED] = "Undefined",
                                        [V_NONE] = "NoneType",
                                        [V_BOOL] = "bool",
                                        [V_INT] = "int",
                                        [V_BIG] = "int",
                                        [V_FLOAT] = "float",
                                        [V_STRING] = "str",
                                        [V_LIST] = "list",
                                        [V_TUPLE] = "tuple",
                                        [V_DICT] = "dict",
                                        [V_RANGE] = "range",
                                        [V_VIEW] = "dict view",
                                        [V_ITERATOR] = "generator",
                                        [V_NAMESPACE] = "Namespace",
                                        [V_MACRO] = "Macro",
                                        [V_LOOP] = "LoopContext",
                                        [V_CYCLER] = "Cycler",
                                        [V_JOINER] = "Joiner",
                                        [V_FUNCTION] = "function",
                                        [V_METHOD] = "method"};
    return names[v.kind];
}

/* ---- truth and length ---- */

static int64_t range_count(const struct range *g)
{
    /* differences fit: globals.c refuses ranges beyond ±2^62 */
    if (g->step > 0)
        return g->start < g->stop ? (g->stop - g->start - 1) / g->step + 1 : 0;
    return g->start > g->stop ? (g->start - g->stop - 1) / -g->step + 1 : 0;
}

bool value_truth(struct value v)
{
    switch (v.kind) {
    case V_UNDEFINED:
    case V_NONE:
        return false;
    case V_BOOL:
        return v.boolean;
    case V_INT:
        return v.integer != 0;
    case V_FLOAT:
        return v.real != 0;
    case V_STRING:
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
        return v.len > 0;
    case V_RANGE:
        return range_count(v.range) > 0;
    default:
        return true;
    }
}

bool value_length(struct render *r, struct value v, int64_t *out)
{
    switch (v.kind) {
    case V_UNDEFINED:
        *out = 0;
        return true;
    case V_STRING:
        *out = (int64_t)unicode_count(value_slice(v));
        return render_steps(r, v.len / 64);
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
        *out = (int64_t)v.len;
        return true;
    case V_RANGE:
        *out = range_count(v.range);
        return true;
    case V_LOOP:
        return loop_length(r, v.loop, out);
    default:
        return render_fail(r, E_INVALID, "object of type '%s' has no len()", value_type_name(v));
    }
}

/* ---- equality ---- */

static bool equal_items(struct render *r, const struct value *a, const struct value *b, size_t n,
                        bool *out)
{
    *out = true;
    for (size_t i = 0; *out && i < n; i++)
        if (!value_equal(r, a[i], b[i], out))
            return false;
    return true;
}

static bool equal_dicts(struct render *r, struct value a, struct value b, bool *out)
{
    *out = a.len == b.len;
    for (size_t i = 0; *out && i < a.len; i++) {
        size_t at;
        *out = value_find(r, b.pairs, b.len, a.pairs[i].key, &at);
        if (*out && !value_equal(r, a.pairs[i].value, b.pairs[at].value, out))
            return false;
    }
    return true;
}

static bool equal_ranges(const struct range *a, const struct range *b)
{
    int64_t n = range_count(a);
    if (n != range_count(b))
        return false;
    return n == 0 || (a->start == b->start && (n == 1 || a->step == b->step));
}

static bool equal_same_kind(struct render *r, struct value a, struct value b, bool *out)
{
    switch (a.kind) {
    case V_UNDEFINED:
    case V_NONE:
        *out = true;
        return true;
    case V_STRING:
        *out = slice_equal(value_slice(a), value_slice(b));
        return render_steps(r, a.len / 64);
    case V_LIST:
    case V_TUPLE:
        *out = a.len == b.len;
        return !*out || equal_items(r, a.items, b.items, a.len, out);
    case V_DICT:
        return equal_dicts(r, a, b, out);
    case V_RANGE:
        *out = equal_ranges(a.range, b.range);
        return true;
    case V_VIEW:
        *out = a.items == b.items && a.len == b.len;
        return true;
    case V_METHOD:
        *out = a.method == b.method;
        return true;
    default: /* the others are equal to themselves only */
        *out = a.macro == b.macro;
        return true;
    }
}

bool value_equal(struct render *r, struct value a, struct value b, bool *out)
{
    *out = false;
    if (!render_steps(r, 1))
        return false;
    if (value_is_number(a) && value_is_number(b)) {
        int c;
        bool is_unordered;
        number_compare(a, b, &c, &is_unordered);
        *out = c == 0 && !is_unordered;
        return true;
    }
    if (a.kind != b.kind)
        return true;
    if (!render_enter(r))
        return false;
    bool ok = equal_same_kind(r, a, b, out);
    r->depth--;
    return ok;
}

/* ---- order ---- */

static bool compare_items(struct render *r, struct value a, struct value b, const char *op,
                          int *out, bool *is_unordered)
{
    size_t n = a.len < b.len ? a.len : b.len;
    for (size_t i = 0; i < n; i++) {
        bool equal;
        if (!value_equal(r, a.items[i], b.items[i], &equal))
            return false;
        if (!equal)
            return value_compare(r, a.items[i], b.items[i], op, out, is_unordered);
    }
    *out = (a.len > b.len) - (a.len < b.len);
    return true;
}

bool value_compare(struct render *r, struct value a, struct value b, const char *op, int *out,
                   bool *is_unordered)
{
    *is_unordered = false;
    if (!render_steps(r, 1))
        return false;
    if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED)
        return render_fail_undefined(r, a.kind == V_UNDEFINED ? a : b);
    if (value_is_number(a) && value_is_number(b)) {
        number_compare(a, b, out, is_unordered);
        return true;
    }
    if (a.kind == V_STRING && b.kind == V_STRING) {
        size_t n = a.len < b.len ? a.len : b.len;
        int c = n ? memcmp(a.text, b.text, n) : 0; /* bytes of UTF-8 sort as code points do */
        *out = c ? c : (a.len > b.len) - (a.len < b.len);
        return render_steps(r, n / 64);
    }
    if (a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) {
        if (!render_enter(r))
            return false;
        bool ok = compare_items(r, a, b, op, out, is_unordered);
        r->depth--;
        return ok;
    }
    return render_fail(r, E_INVALID, "'%s' not supported between instances of '%s' and '%s'", op,
                       value_type_name(a), value_type_name(b));
}

/* ---- membership ---- */

static bool contains_item(struct render *r, struct value item, const struct value *items, size_t n,
                          bool *out)
{
    *out = false;
    for (size_t i = 0; !*out && i < n; i++)
        if (!value_equal(r, items[i], item, out))
            return false;
    return true;
}

static bool contains_iterated(struct render *r, struct value item, struct iterator *it, bool *out)
{
    *out = false;
    while (!*out && it->at < it->count)
        if (!value_equal(r, it->items[it->at++], item, out))
            return false;
    return true;
}

bool value_contains(struct render *r, struct value item, struct value in, bool *out)
{
    const struct value *items;
    size_t n;
    switch (in.kind) {
    case V_STRING:
        if (item.kind != V_STRING)
            return render_fail(r, E_INVALID,
                               "'in <string>' requires string as left operand, not %s",
                               value_type_name(item));
        *out = memmem(in.text, in.len, item.text, item.len) != NULL;
        return render_steps(r, in.len / 64);
    case V_DICT:
        if (!value_hashable(r, item))
            return false;
        *out = value_find(r, in.pairs, in.len, item, &n);
        return r->status == OK;
    case V_ITERATOR:
        return contains_iterated(r, item, in.iterator, out);
    case V_UNDEFINED:
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
    case V_RANGE:
        return value_iterate(r, in, &items, &n) && contains_item(r, item, items, n, out);
    default:
        return render_fail(r, E_INVALID, "argument of type '%s' is not iterable",
                           value_type_name(in));
    }
}

bool value_hashable(struct render *r, struct value v)
{
    if (v.kind == V_LIST || v.kind == V_DICT)
        return render_fail(r, E_INVALID, "unhashable type: '%s'", value_type_name(v));
    if (v.kind != V_TUPLE)
        return true;
    if (!render_enter(r) || !render_steps(r, v.len))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && i < v.len; i++)
        ok = value_hashable(r, v.items[i]);
    r->depth--;
    return ok;
}

bool value_find(struct render *r, const struct pair *pairs, size_t n, struct value key, size_t *at)
{
    if (!render_steps(r, n / 8))
        return false;
    for (size_t i = 0; i < n; i++) {
        bool equal;
        if (key.kind == V_STRING && pairs[i].key.kind == V_STRING)
            equal = slice_equal(value_slice(key), value_slice(pairs[i].key));
        else if (!value_equal(r, pairs[i].key, key, &equal))
            return false;
        if (equal) {
            *at = i;
            return true;
        }
    }
    return false;
}

/* ---- iteration ---- */

static bool characters(struct render *r, struct value v, const struct value **items, size_t *n)
{
    *n = unicode_count(value_slice(v));
    struct value *list = render_alloc(r, *n, sizeof *list);
    if (!list)
        return false;
    size_t at = 0;
    for (size_t i = 0; i < *n; i++) {
        size_t start = at;
        (void)unicode_next(value_slice(v), &at, NULL);
        list[i] = value_text((struct slice){v.text + start, at - start});
    }
    *items = list;
    return render_steps(r, *n / 16);
}

static bool range_items(struct render *r, const struct range *g, const struct value **items,
                        size_t *n)
{
    *n = (size_t)range_count(g);
    struct value *list = render_alloc(r, *n, sizeof *list);
    if (!list)
        return false;
    for (size_t i = 0; i < *n; i++)
        list[i] = value_int(g->start + (int64_t)i * g->step);
    *items = list;
    return render_steps(r, *n / 16);
}

static bool dict_keys(struct render *r, struct value v, const struct value **items, size_t *n)
{
    struct value *list = render_alloc(r, v.len, sizeof *list);
    if (!list)
        return false;
    for (size_t i = 0; i < v.len; i++)
        list[i] = v.pairs[i].key;
    *items = list;
    *n = v.len;
    return render_steps(r, *n / 16);
}

bool value_iterate(struct render *r, struct value v, const struct value **items, size_t *n)
{
    *items = value_no_items;
    *n = 0;
    switch (v.kind) {
    case V_UNDEFINED:
        return true;
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        *items = v.items;
        *n = v.len;
        return true;
    case V_STRING:
        return characters(r, v, items, n);
    case V_DICT:
        return dict_keys(r, v, items, n);
    case V_RANGE:
        return range_items(r, v.range, items, n);
    case V_ITERATOR:
        *items = v.iterator->items + v.iterator->at;
        *n = v.iterator->count - v.iterator->at;
        v.iterator->at = v.iterator->count;
        return true;
    default:
        return render_fail(r, E_INVALID, "'%s' object is not iterable", value_type_name(v));
    }
}
