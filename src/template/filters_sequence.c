/* SPDX-License-Identifier: MIT
 * filters_sequence.c — filters on lists and dicts, after jinja2's filters.py (3.1.6).
 * What is a generator there is an iterator here: read once, no length.  Its items are made at once,
 * though, not when they are read. */
#include "template/number.h"
#include "template/render.h"
#include "template/strings.h"
#include "template/unicode.h"

#define FILTER(name)                                                             \
    static bool name(struct render *r, struct value self, const struct value *p, \
                     const struct call *c, struct value *out)
#define UNUSED_PARAMETERS \
    (void)p;              \
    (void)c

static bool new_iterator(struct render *r, const struct value *items, size_t n, struct value *out)
{
    struct iterator *it = render_alloc(r, 1, sizeof *it);
    if (!it)
        return false;
    *it = (struct iterator){.items = items ? items : value_no_items, .count = n};
    *out = (struct value){.kind = V_ITERATOR, .iterator = it};
    return true;
}

static bool flag(struct value v)
{
    return is_given(v) && value_truth(v);
}

/* A parameter that is None when it is not given. */
static struct value or_none(struct value v)
{
    return is_given(v) ? v : value_none();
}

static const struct value missing = {.kind = V_MISSING};

FILTER(filter_default)
{
    (void)r;
    (void)c;
    bool is_absent = self.kind == V_UNDEFINED || (flag(p[1]) && !value_truth(self));
    *out = !is_absent ? self : is_given(p[0]) ? p[0] : value_text((struct slice){"", 0});
    return true;
}

FILTER(filter_length)
{
    int64_t n;
    UNUSED_PARAMETERS;
    if (!value_length(r, self, &n))
        return false;
    *out = value_int(n);
    return true;
}

FILTER(filter_first)
{
    const struct value *items;
    size_t n;
    UNUSED_PARAMETERS;
    if (self.kind == V_ITERATOR) { /* takes one item, leaves the others */
        struct iterator *it = self.iterator;
        *out = it->at < it->count
                   ? it->items[it->at++]
                   : value_undefined_hint(r, SLICE_LIT("No first item, sequence was empty."));
        return r->status == OK;
    }
    if (!value_iterate(r, self, &items, &n))
        return false;
    *out = n ? items[0] : value_undefined_hint(r, SLICE_LIT("No first item, sequence was empty."));
    return r->status == OK;
}

FILTER(filter_last)
{
    const struct value *items;
    size_t n;
    UNUSED_PARAMETERS;
    if (self.kind == V_ITERATOR)
        return render_fail(r, E_INVALID, "'generator' object is not reversible");
    if (!value_iterate(r, self, &items, &n))
        return false;
    *out =
        n ? items[n - 1] : value_undefined_hint(r, SLICE_LIT("No last item, sequence was empty."));
    return r->status == OK;
}

/* A prompt must not change from run to run: "random" is a fixed sequence (multiplicative hashing of
 * a counter, TAOCP 6.4). */
FILTER(filter_random)
{
    int64_t n;
    UNUSED_PARAMETERS;
    if (!value_length(r, self, &n))
        return false;
    if (n == 0) {
        *out = value_undefined_hint(r, SLICE_LIT("No random item, sequence was empty."));
        return r->status == OK;
    }
    uint32_t draw = ++r->random_count * 2654435769u;
    return attribute_item(r, self, value_int((int64_t)((uint64_t)draw * (uint64_t)n >> 32)), out);
}

FILTER(filter_join)
{
    const struct value *items;
    struct slice separator = {"", 0};
    size_t n;
    struct buf b;
    bool ok = true;
    (void)c;
    if (is_given(p[0]) && !text_str(r, p[0], &separator))
        return false;
    if (!value_iterate(r, self, &items, &n))
        return false;
    render_buf_init(r, &b);
    for (size_t i = 0; ok && i < n; i++) {
        struct value v;
        struct slice text;
        ok = render_steps(r, 1) && attribute_path(r, items[i], p[1], missing, &v) &&
             text_str(r, v, &text);
        if (ok && i > 0)
            buf_add_slice(&b, separator);
        if (ok)
            buf_add_slice(&b, text);
    }
    if (!ok) {
        buf_release(&b);
        return false;
    }
    return render_buf(r, &b, out);
}

FILTER(filter_list)
{
    const struct value *items;
    size_t n;
    UNUSED_PARAMETERS;
    if (!value_iterate(r, self, &items, &n))
        return false;
    *out = value_items(V_LIST, items, n);
    return true;
}

FILTER(filter_items)
{
    UNUSED_PARAMETERS;
    struct value items;
    if (self.kind == V_UNDEFINED)
        return new_iterator(r, NULL, 0, out);
    if (self.kind != V_DICT)
        return render_fail(r, E_INVALID, "Can only get item pairs from a mapping.");
    struct call none = {0};
    const struct builtin *method = builtin_method(V_DICT, SLICE_LIT("items"));
    return builtin_run(r, method, self, &none, &items) &&
           new_iterator(r, items.items, items.len, out);
}

FILTER(filter_reverse)
{
    const struct value *items;
    size_t n;
    UNUSED_PARAMETERS;
    if (!value_iterate(r, self, &items, &n))
        return false;
    struct value *reversed = render_alloc(r, n, sizeof *reversed);
    if (!reversed || !render_steps(r, n / 4))
        return false;
    for (size_t i = 0; i < n; i++)
        reversed[i] = items[n - 1 - i];
    if (self.kind == V_ITERATOR) {
        *out = value_items(V_LIST, reversed, n);
        return true;
    }
    if (self.kind != V_STRING)
        return new_iterator(r, reversed, n, out);
    struct buf b;
    render_buf_init(r, &b);
    for (size_t i = 0; i < n; i++)
        buf_add_slice(&b, value_slice(reversed[i]));
    return render_buf(r, &b, out);
}

FILTER(filter_attr)
{
    (void)c;
    if (p[0].kind != V_STRING)
        return render_fail(r, E_INVALID, "attr wants a name");
    if (self.kind != V_DICT)
        return attribute_get(r, self, value_slice(p[0]), out);
    struct value bare = {.kind = V_DICT, .pairs = NULL}; /* methods, but no items */
    if (!attribute_get(r, bare, value_slice(p[0]), out))
        return false;
    if (out->kind == V_METHOD)
        return attribute_get(r, self, value_slice(p[0]), out);
    return true;
}

/* ---- map and select ---- */

struct item_call { /* a filter or test with the arguments behind its name */
    const struct builtin *builtin;
    struct call call;
};

static bool item_call(struct render *r, const struct call *c, size_t skip, bool is_filter,
                      struct item_call *out)
{
    struct value name = c->args[skip];
    if (name.kind != V_STRING)
        return render_fail(r, E_INVALID, "no %s by that name", is_filter ? "filter" : "test");
    out->builtin = is_filter ? builtin_filter(value_slice(name)) : builtin_test(value_slice(name));
    struct slice shown = {name.text, name.len > 80 ? 80 : name.len};
    if (!out->builtin)
        return render_fail(r, E_INVALID, "No %s named '" SLICE_FMT "'.",
                           is_filter ? "filter" : "test", SLICE_ARG(shown));
    out->call = (struct call){c->args + skip + 1, c->n_args - skip - 1, c->named, c->n_named};
    return true;
}

static bool named(const struct call *c, const char *name, struct value *out)
{
    for (size_t i = 0; i < c->n_named; i++) {
        if (slice_is(c->named[i].name, name)) {
            *out = c->named[i].value;
            return true;
        }
    }
    return false;
}

static bool map_attribute(struct render *r, const struct call *c, const struct value *items,
                          size_t n, struct value *mapped)
{
    struct value path, fallback = value_none();
    bool has_default = named(c, "default", &fallback);
    if (!named(c, "attribute", &path))
        return render_fail(r, E_INVALID, "map requires a filter argument");
    if (c->n_named > (has_default ? 2u : 1u))
        return render_fail(r, E_INVALID, "map: unexpected keyword argument");
    for (size_t i = 0; i < n; i++)
        if (!render_steps(r, 1) || !attribute_path(r, items[i], path, fallback, &mapped[i]))
            return false;
    return true;
}

FILTER(filter_map)
{
    const struct value *items = value_no_items;
    size_t n = 0;
    struct item_call f;
    (void)p;
    if (value_truth(self) && !value_iterate(r, self, &items, &n))
        return false;
    struct value *mapped = render_alloc(r, n, sizeof *mapped);
    if (!mapped)
        return false;
    if (n && c->n_args == 0) {
        if (!map_attribute(r, c, items, n, mapped))
            return false;
    } else if (n) {
        if (!item_call(r, c, 0, true, &f))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!render_steps(r, 1) || !builtin_run(r, f.builtin, items[i], &f.call, &mapped[i]))
                return false;
    }
    return new_iterator(r, mapped, n, out);
}

/* select, reject (of the items themselves) and selectattr, rejectattr (of an attribute of theirs).
 */
static bool select_items(struct render *r, struct value self, const struct call *c,
                         bool by_attribute, bool wanted, struct value *out)
{
    const struct value *items = value_no_items;
    size_t n = 0, kept = 0, skip = by_attribute ? 1 : 0;
    struct item_call f = {0};
    if (value_truth(self) && !value_iterate(r, self, &items, &n))
        return false;
    struct value *list = render_alloc(r, n, sizeof *list);
    if (!list)
        return false;
    if (n && c->n_args < skip)
        return render_fail(r, E_INVALID, "Missing parameter for attribute name");
    if (n && c->n_args > skip && !item_call(r, c, skip, false, &f))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct value v = items[i];
        if (!render_steps(r, 1) || (by_attribute && !attribute_path(r, v, c->args[0], missing, &v)))
            return false;
        if (f.builtin && !builtin_run(r, f.builtin, v, &f.call, &v))
            return false;
        if (value_truth(v) == wanted)
            list[kept++] = items[i];
    }
    return new_iterator(r, list, kept, out);
}

FILTER(filter_select)
{
    (void)p;
    return select_items(r, self, c, false, true, out);
}

FILTER(filter_reject)
{
    (void)p;
    return select_items(r, self, c, false, false, out);
}

FILTER(filter_selectattr)
{
    (void)p;
    return select_items(r, self, c, true, true, out);
}

FILTER(filter_rejectattr)
{
    (void)p;
    return select_items(r, self, c, true, false, out);
}

/* ---- order ---- */

static bool lowered(struct render *r, struct value v, struct value *out)
{
    struct buf b;
    *out = v;
    if (v.kind != V_STRING)
        return true;
    render_buf_init(r, &b);
    unicode_map(&b, value_slice(v), CASE_LOWER);
    return render_steps(r, v.len / 8) && render_buf(r, &b, out);
}

/* The key of one item by one attribute path. */
static bool key_of(struct render *r, struct value item, struct value path, bool is_sensitive,
                   struct value *out)
{
    return render_steps(r, 1) && attribute_path(r, item, path, missing, out) &&
           (is_sensitive || lowered(r, *out, out));
}

/* The key by "a,b.c": a list of one key each. */
static bool keys_of(struct render *r, struct value item, struct value paths, bool is_sensitive,
                    struct value *out)
{
    struct value_list keys = {0};
    struct slice rest = paths.kind == V_STRING ? value_slice(paths) : (struct slice){"", 0};
    for (bool more = true; more;) {
        const char *comma = paths.kind == V_STRING ? memchr(rest.ptr, ',', rest.len) : NULL;
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        struct value path =
            paths.kind == V_STRING ? value_text((struct slice){rest.ptr, len}) : paths;
        struct value key;
        if (!key_of(r, item, path, is_sensitive, &key) || !value_list_add(r, &keys, key))
            return false;
        more = comma != NULL;
        rest = (struct slice){rest.ptr + len + (more ? 1 : 0), rest.len - len - (more ? 1 : 0)};
    }
    *out = value_items(V_LIST, keys.items, keys.count);
    return true;
}

/* A copy of the items, and room for as many keys. */
static bool copy_items(struct render *r, struct value self, struct value **items,
                       struct value **keys, size_t *n)
{
    const struct value *from;
    if (!value_iterate(r, self, &from, n))
        return false;
    *items = render_alloc(r, *n, sizeof **items);
    *keys = render_alloc(r, *n, sizeof **keys);
    if (!*items || !*keys)
        return false;
    if (*n)
        memcpy(*items, from, *n * sizeof **items);
    return true;
}

FILTER(filter_sort)
{
    struct value *items, *keys;
    size_t n;
    (void)c;
    if (!copy_items(r, self, &items, &keys, &n))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!keys_of(r, items[i], or_none(p[2]), flag(p[1]), &keys[i]))
            return false;
    if (!sort_by_keys(r, items, keys, n, flag(p[0])))
        return false;
    *out = value_items(V_LIST, items, n);
    return true;
}

FILTER(filter_dictsort)
{
    struct slice by = SLICE_LIT("key");
    struct value view;
    struct value *items, *keys;
    size_t n;
    struct call none = {0};
    (void)c;
    if (self.kind == V_UNDEFINED)
        return render_fail_undefined(r, self);
    if (self.kind != V_DICT)
        return render_fail(r, E_INVALID, "'%s' object has no attribute 'items'",
                           value_type_name(self));
    if (is_given(p[1]) && !text_str(r, p[1], &by))
        return false;
    if (!slice_is(by, "key") && !slice_is(by, "value"))
        return render_fail(r, E_INVALID, "You can only sort by either \"key\" or \"value\"");
    if (!builtin_run(r, builtin_method(V_DICT, SLICE_LIT("items")), self, &none, &view) ||
        !copy_items(r, view, &items, &keys, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct value key = items[i].items[slice_is(by, "value") ? 1 : 0];
        if (flag(p[0]))
            keys[i] = key;
        else if (!lowered(r, key, &keys[i]))
            return false;
    }
    if (!sort_by_keys(r, items, keys, n, flag(p[2])))
        return false;
    *out = value_items(V_LIST, items, n);
    return true;
}

FILTER(filter_unique)
{
    struct value *items, *keys;
    size_t n, kept = 0;
    (void)c;
    if (!copy_items(r, self, &items, &keys, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        bool is_seen = false;
        struct value key;
        if (!key_of(r, items[i], or_none(p[1]), flag(p[0]), &key) || !value_hashable(r, key))
            return false;
        for (size_t k = 0; !is_seen && k < kept; k++)
            if (!value_equal(r, keys[k], key, &is_seen))
                return false;
        if (!is_seen) {
            keys[kept] = key;
            items[kept++] = items[i];
        }
    }
    return new_iterator(r, items, kept, out);
}

/* The first of the greatest or least. */
static bool extreme(struct render *r, struct value self, const struct value *p, bool want_max,
                    struct value *out)
{
    const struct value *items;
    size_t n;
    struct value best, key;
    if (!value_iterate(r, self, &items, &n))
        return false;
    if (n == 0) {
        *out = value_undefined_hint(r, SLICE_LIT("No aggregated item, sequence was empty."));
        return r->status == OK;
    }
    for (size_t i = 0; i < n; i++) {
        int order = 1;
        bool is_unordered = false;
        if (!key_of(r, items[i], or_none(p[1]), flag(p[0]), &key))
            return false;
        if (i > 0 && !value_compare(r, key, best, want_max ? ">" : "<", &order, &is_unordered))
            return false;
        if (i == 0 || (!is_unordered && (want_max ? order > 0 : order < 0))) {
            best = key;
            *out = items[i];
        }
    }
    return true;
}

FILTER(filter_min)
{
    (void)c;
    return extreme(r, self, p, false, out);
}

FILTER(filter_max)
{
    (void)c;
    return extreme(r, self, p, true, out);
}

FILTER(filter_sum)
{
    const struct value *items;
    size_t n;
    (void)c;
    struct value total = is_given(p[1]) ? p[1] : value_int(0);
    if (total.kind == V_STRING)
        return render_fail(r, E_INVALID, "sum() can't sum strings [use ''.join(seq) instead]");
    if (!value_iterate(r, self, &items, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct value v;
        if (!render_steps(r, 1) || !attribute_path(r, items[i], p[0], missing, &v) ||
            !operate(r, OP_ADD, total, v, &total))
            return false;
    }
    *out = total;
    return true;
}

/* ---- groups ---- */

FILTER(filter_groupby)
{
    struct value *items, *keys;
    struct value_list groups = {0};
    size_t n;
    (void)c;
    if (!copy_items(r, self, &items, &keys, &n))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!attribute_path(r, items[i], p[0], p[1], &keys[i]) ||
            (!flag(p[2]) && !lowered(r, keys[i], &keys[i])))
            return false;
    if (!sort_by_keys(r, items, keys, n, false))
        return false;
    for (size_t start = 0, end; start < n; start = end) {
        bool equal = true;
        for (end = start + 1; end < n; end++) {
            if (!value_equal(r, keys[start], keys[end], &equal))
                return false;
            if (!equal)
                break;
        }
        struct value *pair = render_alloc(r, 2, sizeof *pair);
        if (!pair || !attribute_path(r, items[start], p[0], p[1], &pair[0]))
            return false;
        pair[1] = value_items(V_LIST, items + start, end - start);
        struct value group = value_items(V_TUPLE, pair, 2);
        group.flag = TUPLE_GROUP;
        if (!value_list_add(r, &groups, group))
            return false;
    }
    *out = value_items(V_LIST, groups.items, groups.count);
    return true;
}

/* items[start, end) and as many fill values as make `size` of them. */
static bool add_row(struct render *r, struct value_list *rows, const struct value *items,
                    size_t count, size_t size, struct value fill)
{
    struct value *row = render_alloc(r, size > count ? size : count, sizeof *row);
    if (!row)
        return false;
    if (count)
        memcpy(row, items, count * sizeof *row);
    for (; count < size; count++)
        row[count] = fill;
    return render_steps(r, count) && value_list_add(r, rows, value_items(V_LIST, row, count));
}

FILTER(filter_batch)
{
    const struct value *items;
    struct value_list rows = {0};
    int64_t size;
    size_t n;
    (void)c;
    if (!strings_index(r, p[0], &size) || !value_iterate(r, self, &items, &n))
        return false;
    if (size <= 0) { /* jinja2: a row is never full */
        size = (int64_t)n + 1;
    }
    bool is_filled = is_given(p[1]) && p[1].kind != V_NONE;
    for (size_t start = 0; start < n; start += (size_t)size) {
        size_t left = n - start, count = left < (size_t)size ? left : (size_t)size;
        if (!add_row(r, &rows, items + start, count, is_filled ? (size_t)size : 0, p[1]))
            return false;
    }
    return new_iterator(r, rows.items, rows.count, out);
}

FILTER(filter_slice)
{
    const struct value *items;
    struct value_list rows = {0};
    int64_t slices;
    size_t n, start = 0;
    (void)c;
    if (!strings_index(r, p[0], &slices) || !value_iterate(r, self, &items, &n))
        return false;
    if (slices == 0)
        return render_fail(r, E_INVALID, "integer division or modulo by zero");
    bool is_filled = is_given(p[1]) && p[1].kind != V_NONE;
    for (int64_t i = 0; i < slices; i++) {
        size_t each = n / (size_t)slices, extra = n % (size_t)slices;
        bool has_extra = (size_t)i < extra;
        size_t count = each + (has_extra ? 1 : 0);
        if (!add_row(r, &rows, items + start, count, is_filled && !has_extra ? each + 1 : 0, p[1]))
            return false;
        start += count;
    }
    return new_iterator(r, rows.items, rows.count, out);
}

const struct builtin builtin_sequence_filters[] = {
    {"attr", filter_attr, "name", 1},
    {"batch", filter_batch, "linecount fill_with", 1},
    {"count", filter_length, "", 0},
    {"d", filter_default, "default_value boolean", 0},
    {"default", filter_default, "default_value boolean", 0},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0},
    {"first", filter_first, "", 0},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1},
    {"items", filter_items, "", 0},
    {"join", filter_join, "d attribute", 0},
    {"last", filter_last, "", 0},
    {"length", filter_length, "", 0},
    {"list", filter_list, "", 0},
    {"map", filter_map, "*", 0},
    {"max", filter_max, "case_sensitive attribute", 0},
    {"min", filter_min, "case_sensitive attribute", 0},
    {"random", filter_random, "", 0},
    {"reject", filter_reject, "*", 0},
    {"rejectattr", filter_rejectattr, "*", 0},
    {"reverse", filter_reverse, "", 0},
    {"select", filter_select, "*", 0},
    {"selectattr", filter_selectattr, "*", 0},
    {"slice", filter_slice, "slices fill_with", 1},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0},
    {"sum", filter_sum, "attribute start", 0},
    {"unique", filter_unique, "case_sensitive attribute", 0},
    {NULL, NULL, NULL, 0},
};
