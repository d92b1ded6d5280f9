/* SPDX-License-Identifier: MIT
 * globals.c — the functions that every template has, as transformers sets them up. */
#include <time.h>

#include "template/render.h"
#include "template/strings.h"

#define GLOBAL(name)                                                             \
    static bool name(struct render *r, struct value self, const struct value *p, \
                     const struct call *c, struct value *out)

/* jinja2's sandbox makes no longer ones. */
#define RANGE_ITEMS_MAX 100000

GLOBAL(global_range)
{
    int64_t bounds[3] = {0, 0, 1}, n;
    size_t given = is_given(p[2]) ? 3 : is_given(p[1]) ? 2 : 1;
    (void)self;
    (void)c;
    for (size_t i = 0; i < given; i++)
        if (!strings_index(r, p[i], &bounds[given == 1 ? 1 : i]))
            return false;
    if (bounds[2] == 0)
        return render_fail(r, E_INVALID, "range() arg 3 must not be zero");
    struct range *g = render_alloc(r, 1, sizeof *g);
    if (!g)
        return false;
    *g = (struct range){bounds[0], bounds[1], bounds[2]};
    *out = (struct value){.kind = V_RANGE, .range = g};
    if (!value_length(r, *out, &n))
        return false;
    if (n > RANGE_ITEMS_MAX)
        return render_fail(r, E_INVALID, "Range too big. The sandbox blocks ranges larger than %d.",
                           RANGE_ITEMS_MAX);
    return true;
}

/* ---- dict and namespace ---- */

static bool put_pair(struct render *r, struct pair *pairs, size_t *n, struct value key,
                     struct value v)
{
    size_t at;
    if (!value_hashable(r, key))
        return false;
    if (value_find(r, pairs, *n, key, &at))
        pairs[at].value = v;
    else
        pairs[(*n)++] = (struct pair){key, v};
    return r->status == OK;
}

static bool put_items(struct render *r, struct pair *pairs, size_t *n, const struct value *items,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct value *pair;
        size_t two;
        if (!value_iterate(r, items[i], &pair, &two))
            return false;
        if (two != 2)
            return render_fail(r, E_INVALID,
                               "dictionary update sequence element has length %zu; 2 is required",
                               two);
        if (!put_pair(r, pairs, n, pair[0], pair[1]))
            return false;
    }
    return true;
}

/* dict(mapping or pairs, name=value, …) */
static bool make_pairs(struct render *r, const struct call *c, struct pair **out, size_t *n)
{
    const struct value *items = NULL;
    size_t count = 0;
    *n = 0;
    if (c->n_args > 1)
        return render_fail(r, E_INVALID, "dict expected at most 1 argument, got %zu", c->n_args);
    bool is_dict = c->n_args && c->args[0].kind == V_DICT;
    if (is_dict)
        count = c->args[0].len;
    else if (c->n_args && !value_iterate(r, c->args[0], &items, &count))
        return false;
    struct pair *pairs = render_alloc(r, count + c->n_named, sizeof *pairs);
    if (!pairs)
        return false;
    if (is_dict && count)
        memcpy(pairs, c->args[0].pairs, count * sizeof *pairs);
    *n = is_dict ? count : 0;
    if (!is_dict && !put_items(r, pairs, n, items, count))
        return false;
    for (size_t i = 0; i < c->n_named; i++)
        if (!put_pair(r, pairs, n, value_text(c->named[i].name), c->named[i].value))
            return false;
    *out = pairs;
    return render_steps(r, count / 4);
}

GLOBAL(global_dict)
{
    struct pair *pairs;
    size_t n;
    (void)self;
    (void)p;
    if (!make_pairs(r, c, &pairs, &n))
        return false;
    *out = (struct value){.kind = V_DICT, .len = n, .pairs = pairs};
    return true;
}

GLOBAL(global_namespace)
{
    struct namespace *ns = render_alloc(r, 1, sizeof *ns);
    (void)self;
    (void)p;
    if (!ns || !make_pairs(r, c, &ns->pairs, &ns->count))
        return false;
    ns->cap = ns->count;
    for (size_t i = 0; i < ns->count; i++) {
        struct value key = ns->pairs[i].key;
        if (key.kind == V_STRING && key.len && key.text[0] == '_')
            return render_fail(r, E_INVALID,
                               "a namespace cannot hold names that start with an underscore");
    }
    *out = (struct value){.kind = V_NAMESPACE, .space = ns};
    return true;
}

/* ---- cycler and joiner ---- */

GLOBAL(global_cycler)
{
    (void)self;
    (void)p;
    if (c->n_args == 0 || c->n_named)
        return render_fail(r, E_INVALID, "at least one item has to be provided");
    struct cycler *cycler = render_alloc(r, 1, sizeof *cycler);
    if (!cycler)
        return false;
    *cycler = (struct cycler){.items = c->args, .count = c->n_args};
    *out = (struct value){.kind = V_CYCLER, .cycler = cycler};
    return true;
}

GLOBAL(cycler_next)
{
    struct cycler *cycler = self.cycler;
    (void)r;
    (void)p;
    (void)c;
    *out = cycler->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->count;
    return true;
}

GLOBAL(cycler_reset)
{
    (void)r;
    (void)p;
    (void)c;
    self.cycler->at = 0;
    *out = value_none();
    return true;
}

GLOBAL(global_joiner)
{
    (void)self;
    (void)c;
    struct joiner *joiner = render_alloc(r, 1, sizeof *joiner);
    if (!joiner)
        return false;
    joiner->separator = is_given(p[0]) ? p[0] : value_text(SLICE_LIT(", "));
    *out = (struct value){.kind = V_JOINER, .joiner = joiner};
    return true;
}

/* ---- what transformers adds ---- */

GLOBAL(global_raise_exception)
{
    struct slice text;
    (void)self;
    (void)c;
    (void)out;
    if (!text_str(r, p[0], &text))
        return false;
    if (text.len > sizeof r->err.msg)
        text.len = sizeof r->err.msg;
    return render_fail(r, E_INVALID, SLICE_FMT, SLICE_ARG(text));
}

/* A conversion: % flags letter.  glibc's flags are let through, its widths are not: they would
 * write as much as they say. */
static size_t conversion_length(struct slice s, size_t at)
{
    size_t end = at + 1;
    while (end < s.len && s.ptr[end] && strchr("-_0^#", s.ptr[end]) && end - at < 4)
        end++;
    return end < s.len ? end + 1 - at : 0;
}

static void put_conversion(struct buf *b, const struct tm *tm, const char *text, size_t len)
{
    char how[8] = {0}, result[128];
    char letter = text[len - 1];
    memcpy(how, text, len);
    if (letter == 'f') {
        buf_add_text(b, "000000");
        return;
    }
    if (letter == 'z' || letter == 'Z') /* a naive datetime has none */
        return;
    if (!strchr("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%", letter)) {
        buf_add(b, text, len);
        return;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(result, sizeof result, how, tm);
#pragma GCC diagnostic pop
    buf_add(b, result, n);
}

GLOBAL(global_strftime_now)
{
    struct tm tm = {.tm_year = r->now.year - 1900,
                    .tm_mon = r->now.month - 1,
                    .tm_mday = r->now.day,
                    .tm_hour = r->now.hour,
                    .tm_min = r->now.minute,
                    .tm_sec = r->now.second};
    struct buf b;
    (void)self;
    (void)c;
    if (p[0].kind != V_STRING)
        return render_fail(r, E_INVALID, "strftime() argument 1 must be str, not %s",
                           value_type_name(p[0]));
    struct slice s = value_slice(p[0]);
    (void)timegm(&tm); /* sets the day of the week and of the year */
    if (!render_steps(r, s.len))
        return false;
    render_buf_init(r, &b);
    for (size_t at = 0; at < s.len;) {
        size_t len = s.ptr[at] == '%' ? conversion_length(s, at) : 0;
        if (len && s.ptr[at + len - 1]) {
            put_conversion(&b, &tm, s.ptr + at, len);
            at += len;
        } else {
            buf_add_char(&b, s.ptr[at++]);
        }
    }
    return render_buf(r, &b, out);
}

const struct builtin builtin_globals[] = {
    {"range", global_range, "/start stop step", 1},
    {"dict", global_dict, "*", 0},
    {"namespace", global_namespace, "*", 0},
    {"cycler", global_cycler, "*", 0},
    {"joiner", global_joiner, "sep", 0},
    {"raise_exception", global_raise_exception, "message", 1},
    {"strftime_now", global_strftime_now, "format", 1},
    {NULL, NULL, NULL, 0},
};

const struct builtin builtin_cycler_methods[] = {
    {"next", cycler_next, "", 0},
    {"reset", cycler_reset, "", 0},
    {NULL, NULL, NULL, 0},
};
