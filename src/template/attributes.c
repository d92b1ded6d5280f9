/* SPDX-License-Identifier: MIT
 * attributes.c — a.b, a['b'], a[1], a[1:2] by the rules of jinja2's sandbox: a.b prefers what
 * Python gives an object (methods), then items; a['b'] the other way round; what is missing is
 * undefined, and what the sandbox forbids (dunder names, methods that change a list) is undefined
 * too. */
#include "template/number.h"
#include "template/render.h"
#include "template/unicode.h"

static bool unsafe(struct render *r, struct value v, struct slice name, struct value *out)
{
    struct slice shown = {name.ptr, name.len > 80 ? 80 : name.len};
    char *hint =
        arena_printf(&r->arena, "access to attribute '" SLICE_FMT "' of '%s' object is unsafe.",
                     SLICE_ARG(shown), value_type_name(v));
    if (!hint)
        return render_fail(r, E_LIMIT, "the template uses too much memory");
    *out = value_undefined_hint(r, slice_of(hint));
    return r->status == OK;
}

static bool bind_method(struct render *r, struct value v, const struct builtin *b,
                        struct value *out)
{
    struct method *m = render_alloc(r, 1, sizeof *m);
    if (!m)
        return false;
    *m = (struct method){v, b};
    *out = (struct value){.kind = V_METHOD, .method = m};
    return true;
}

/* What Python's getattr finds.  *found false: nothing. */
static bool python_attribute(struct render *r, struct value v, struct slice name, bool *found,
                             struct value *out)
{
    const struct builtin *method = builtin_method(v.kind, name);
    size_t at;
    *found = true;
    if (method)
        return bind_method(r, v, method, out);
    if (builtin_is_refused_method(v.kind, name))
        return unsafe(r, v, name, out);
    switch (v.kind) {
    case V_LOOP:
        return loop_attribute(r, v.loop, name, found, out);
    case V_NAMESPACE:
        *found = value_find(r, v.space->pairs, v.space->count, value_text(name), &at);
        if (*found)
            *out = v.space->pairs[at].value;
        return r->status == OK;
    case V_CYCLER:
        *found = slice_is(name, "current");
        if (*found)
            *out = v.cycler->items[v.cycler->at];
        return true;
    case V_TUPLE:
        *found = v.flag == TUPLE_GROUP && (slice_is(name, "grouper") || slice_is(name, "list"));
        if (*found)
            *out = v.items[slice_is(name, "list") ? 1 : 0];
        return true;
    case V_MACRO:
        *found = slice_is(name, "name");
        if (*found)
            *out = value_text(v.macro->signature->name);
        return true;
    default:
        *found = false;
        return true;
    }
}

static bool is_dunder(struct slice name)
{
    return name.len >= 2 && name.ptr[0] == '_' && name.ptr[1] == '_';
}

bool attribute_get(struct render *r, struct value v, struct slice name, struct value *out)
{
    bool found;
    size_t at;
    if (v.kind == V_UNDEFINED)
        return render_fail_undefined(r, v);
    if (!python_attribute(r, v, name, &found, out))
        return false;
    if (found)
        return true;
    if (v.kind == V_DICT) {
        if (value_find(r, v.pairs, v.len, value_text(name), &at)) {
            *out = v.pairs[at].value;
            return true;
        }
        if (r->status != OK)
            return false;
    }
    if (is_dunder(name))
        return unsafe(r, v, name, out);
    *out = value_undefined_of(r, v, value_text(name));
    return r->status == OK;
}

/* ---- items ---- */

/* Index of a sequence of n; false: out of range. */
static bool resolve_index(struct value key, int64_t n, size_t *at)
{
    int64_t i = key.kind == V_BOOL ? key.boolean : key.integer;
    if (key.kind == V_BIG || i >= n || i < -n)
        return false;
    *at = (size_t)(i < 0 ? i + n : i);
    return true;
}

static bool find_item(struct render *r, struct value v, struct value key, bool *found,
                      struct value *out)
{
    size_t at;
    int64_t n;
    *found = false;
    switch (v.kind) {
    case V_LIST:
    case V_TUPLE:
        *found = value_is_whole(key) && resolve_index(key, (int64_t)v.len, &at);
        if (*found)
            *out = v.items[at];
        return true;
    case V_STRING:
        if (!value_is_whole(key))
            return true;
        if (!value_length(r, v, &n))
            return false;
        *found = resolve_index(key, n, &at);
        if (*found) {
            size_t start = unicode_offset(value_slice(v), at), end = start;
            (void)unicode_next(value_slice(v), &end, NULL);
            *out = value_text((struct slice){v.text + start, end - start});
        }
        return true;
    case V_RANGE:
        if (!value_is_whole(key) || !value_length(r, v, &n))
            return r->status == OK;
        *found = resolve_index(key, n, &at);
        if (*found)
            *out = value_int(v.range->start + (int64_t)at * v.range->step);
        return true;
    case V_DICT:
        if (key.kind == V_LIST || key.kind == V_DICT)
            return true; /* unhashable: not there */
        *found = value_find(r, v.pairs, v.len, key, &at);
        if (*found)
            *out = v.pairs[at].value;
        return r->status == OK;
    default:
        return true;
    }
}

bool attribute_item(struct render *r, struct value v, struct value key, struct value *out)
{
    bool found;
    if (v.kind == V_UNDEFINED)
        return render_fail_undefined(r, v);
    if (!find_item(r, v, key, &found, out))
        return false;
    if (!found && key.kind == V_STRING) {
        if (!python_attribute(r, v, value_slice(key), &found, out))
            return false;
        if (!found && is_dunder(value_slice(key)))
            return unsafe(r, v, value_slice(key), out);
    }
    if (!found)
        *out = value_undefined_of(r, v, key);
    return r->status == OK;
}

/* ---- slices ---- */

struct bounds {
    int64_t start, stop, step;
    size_t count;
};

static int64_t bound(struct value v, int64_t missing)
{
    const int64_t most = INT64_MAX / 4;
    if (v.kind == V_NONE)
        return missing;
    if (v.kind == V_BIG)
        return number_sign(v) < 0 ? -most : most;
    int64_t i = v.kind == V_BOOL ? v.boolean : v.integer;
    return i < -most ? -most : i > most ? most : i;
}

static int64_t clamp(int64_t i, int64_t low, int64_t high)
{
    return i < low ? low : i > high ? high : i;
}

/* PySlice_AdjustIndices; a step of 0 is none. */
static struct bounds resolve_slice(const struct value given[3], int64_t n)
{
    struct bounds b = {.step = bound(given[2], 1)};
    bool up = b.step > 0;
    int64_t low = up ? 0 : -1, high = up ? n : n - 1;
    b.start = bound(given[0], up ? low : high);
    b.stop = bound(given[1], up ? high : low);
    if (b.start < 0 && given[0].kind != V_NONE)
        b.start += n;
    if (b.stop < 0 && given[1].kind != V_NONE)
        b.stop += n;
    b.start = clamp(b.start, low, high);
    b.stop = clamp(b.stop, low, high);
    int64_t distance = up ? b.stop - b.start : b.start - b.stop;
    int64_t step = up ? b.step : -b.step;
    b.count = distance > 0 && step ? (size_t)((distance - 1) / step + 1) : 0;
    return b;
}

static bool slice_items(struct render *r, struct value v, struct bounds b, struct value *out)
{
    if (b.step == 1) { /* values are immutable: a window of them will do */
        *out = value_items(v.kind, v.items + b.start, b.count);
        return true;
    }
    struct value *items = render_alloc(r, b.count, sizeof *items);
    if (!items || !render_steps(r, b.count / 4))
        return false;
    for (size_t i = 0; i < b.count; i++)
        items[i] = v.items[b.start + (int64_t)i * b.step];
    *out = value_items(v.kind, items, b.count);
    return true;
}

static bool slice_string(struct render *r, struct value v, struct bounds b, struct value *out)
{
    struct slice s = value_slice(v);
    const struct value *chars;
    size_t n;
    if (b.step == 1) {
        size_t start = unicode_offset(s, (size_t)b.start);
        struct slice rest = {s.ptr + start, s.len - start};
        *out = value_text((struct slice){rest.ptr, unicode_offset(rest, b.count)});
        return true;
    }
    if (!value_iterate(r, v, &chars, &n))
        return false;
    struct buf text;
    render_buf_init(r, &text);
    for (size_t i = 0; i < b.count; i++)
        buf_add_slice(&text, value_slice(chars[b.start + (int64_t)i * b.step]));
    return render_buf(r, &text, out);
}

static bool slice_range(struct render *r, struct value v, struct bounds b, struct value *out)
{
    struct range *g = render_alloc(r, 1, sizeof *g);
    if (!g)
        return false;
    g->start = v.range->start + b.start * v.range->step;
    g->stop = v.range->start + b.stop * v.range->step;
    if (__builtin_mul_overflow(v.range->step, b.step, &g->step)) /* then at most one item is left */
        g->step = b.step < 0 ? -1 : 1;
    *out = (struct value){.kind = V_RANGE, .range = g};
    return true;
}

static bool can_bound(struct value v)
{
    return v.kind == V_NONE || value_is_whole(v);
}

/* Unlike a[b], this fails where Python does. */
bool attribute_slice(struct render *r, struct value v, const struct value given[3],
                     struct value *out)
{
    int64_t n;
    if (v.kind == V_UNDEFINED)
        return render_fail_undefined(r, v);
    bool can_slice =
        v.kind == V_STRING || v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_RANGE;
    if (!can_slice)
        return render_fail(r, E_INVALID, "'%s' object cannot be sliced", value_type_name(v));
    if (!can_bound(given[0]) || !can_bound(given[1]) || !can_bound(given[2]))
        return render_fail(r, E_INVALID, "slice indices must be integers or None");
    if (!value_length(r, v, &n))
        return false;
    struct bounds b = resolve_slice(given, n);
    if (b.step == 0)
        return render_fail(r, E_INVALID, "slice step cannot be zero");
    if (v.kind == V_STRING)
        return slice_string(r, v, b, out);
    return v.kind == V_RANGE ? slice_range(r, v, b, out) : slice_items(r, v, b, out);
}

/* ---- paths ---- */

/* A part of digits is an index. */
static struct value path_part(struct slice part)
{
    int64_t i = 0;
    if (part.len == 0 || part.len > 18)
        return value_text(part);
    for (size_t k = 0; k < part.len; k++) {
        if (part.ptr[k] < '0' || part.ptr[k] > '9')
            return value_text(part);
        i = i * 10 + (part.ptr[k] - '0');
    }
    return value_int(i);
}

bool attribute_path(struct render *r, struct value v, struct value path, struct value missing,
                    struct value *out)
{
    struct slice rest = path.kind == V_STRING ? value_slice(path) : (struct slice){"", 0};
    *out = v;
    if (path.kind == V_NONE || !is_given(path))
        return true;
    for (bool more = true; more;) {
        const char *dot = path.kind == V_STRING ? memchr(rest.ptr, '.', rest.len) : NULL;
        size_t len = dot ? (size_t)(dot - rest.ptr) : rest.len;
        struct value part = path.kind == V_STRING ? path_part((struct slice){rest.ptr, len}) : path;
        if (!render_steps(r, 1) || !attribute_item(r, *out, part, out))
            return false;
        if (out->kind == V_UNDEFINED && is_given(missing) && missing.kind != V_NONE)
            *out = missing;
        more = dot != NULL;
        rest = (struct slice){rest.ptr + len + (more ? 1 : 0), rest.len - len - (more ? 1 : 0)};
    }
    return true;
}
