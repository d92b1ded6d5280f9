/* SPDX-License-Identifier: MIT
 * methods.c — methods of list, tuple, range, dict and float. */
#include <math.h>

#include "template/render.h"
#include "template/strings.h"

#define METHOD(name)                                                             \
    static bool name(struct render *r, struct value self, const struct value *p, \
                     const struct call *c, struct value *out)

/* ---- list, tuple, range ---- */

METHOD(list_count)
{
    const struct value *items;
    size_t n;
    int64_t count = 0;
    (void)c;
    if (!value_iterate(r, self, &items, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        bool equal;
        if (!value_equal(r, items[i], p[0], &equal))
            return false;
        count += equal;
    }
    *out = value_int(count);
    return true;
}

static int64_t from_end(int64_t i, int64_t n)
{
    return i >= 0 ? i : i + n < 0 ? 0 : i + n;
}

METHOD(list_index)
{
    const struct value *items;
    size_t n;
    int64_t from = 0, to = INT64_MAX;
    (void)c;
    if (!value_iterate(r, self, &items, &n) || (is_given(p[1]) && !strings_index(r, p[1], &from)) ||
        (is_given(p[2]) && !strings_index(r, p[2], &to)))
        return false;
    from = from_end(from, (int64_t)n);
    to = from_end(to, (int64_t)n);
    for (int64_t i = from; i < (int64_t)n && i < to; i++) {
        bool equal;
        if (!value_equal(r, items[i], p[0], &equal))
            return false;
        if (equal) {
            *out = value_int(i);
            return true;
        }
    }
    return render_fail(r, E_INVALID, "value is not in %s", value_type_name(self));
}

METHOD(list_copy)
{
    (void)p;
    (void)c;
    if (self.kind != V_LIST)
        return render_fail(r, E_INVALID, "'%s' object has no attribute 'copy'",
                           value_type_name(self));
    *out = self;
    return true;
}

const struct builtin builtin_list_methods[] = {
    {"copy", list_copy, "/", 0},
    {"count", list_count, "/value", 1},
    {"index", list_index, "/value start stop", 1},
    {NULL, NULL, NULL, 0},
};

/* ---- dict ---- */

METHOD(dict_get)
{
    size_t at;
    (void)c;
    if (!value_hashable(r, p[0]))
        return false;
    bool found = value_find(r, self.pairs, self.len, p[0], &at);
    *out = found ? self.pairs[at].value : is_given(p[1]) ? p[1] : value_none();
    return r->status == OK;
}

static bool view(struct render *r, struct value self, enum view_flag flag, struct value *out)
{
    struct value *items = render_alloc(r, self.len, sizeof *items);
    struct value *pairs = flag == VIEW_ITEMS ? render_alloc(r, self.len * 2, sizeof *pairs) : items;
    if (!items || !pairs || !render_steps(r, self.len / 4))
        return false;
    for (size_t i = 0; i < self.len; i++) {
        if (flag == VIEW_ITEMS) {
            pairs[2 * i] = self.pairs[i].key;
            pairs[2 * i + 1] = self.pairs[i].value;
            items[i] = value_items(V_TUPLE, &pairs[2 * i], 2);
        } else {
            items[i] = flag == VIEW_KEYS ? self.pairs[i].key : self.pairs[i].value;
        }
    }
    *out = value_items(V_VIEW, items, self.len);
    out->flag = (uint8_t)flag;
    return true;
}

METHOD(dict_keys)
{
    (void)p;
    (void)c;
    return view(r, self, VIEW_KEYS, out);
}

METHOD(dict_values)
{
    (void)p;
    (void)c;
    return view(r, self, VIEW_VALUES, out);
}

METHOD(dict_items)
{
    (void)p;
    (void)c;
    return view(r, self, VIEW_ITEMS, out);
}

METHOD(dict_copy)
{
    (void)r;
    (void)p;
    (void)c;
    *out = self;
    return true;
}

const struct builtin builtin_dict_methods[] = {
    {"copy", dict_copy, "/", 0},     {"get", dict_get, "/key default", 1},
    {"items", dict_items, "/", 0},   {"keys", dict_keys, "/", 0},
    {"values", dict_values, "/", 0}, {NULL, NULL, NULL, 0},
};

/* ---- float ---- */

METHOD(float_is_integer)
{
    (void)r;
    (void)p;
    (void)c;
    *out = value_bool(isfinite(self.real) && floor(self.real) == self.real);
    return true;
}

const struct builtin builtin_float_methods[] = {
    {"is_integer", float_is_integer, "/", 0},
    {NULL, NULL, NULL, 0},
};
