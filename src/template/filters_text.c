/* SPDX-License-Identifier: MIT
 * filters_text.c — filters on text and numbers, after jinja2's filters.py (3.1.6). */
#include <math.h>
#include <stdio.h>

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

/* The filtered value's text; soft_str() in jinja2. */
static bool soft_text(struct render *r, struct value v, struct slice *out)
{
    return text_str(r, v, out);
}

static bool mapped(struct render *r, struct value self, void (*map)(struct buf *, struct slice),
                   struct value *out)
{
    struct slice s;
    struct buf b;
    if (!soft_text(r, self, &s) || !render_steps(r, s.len / 8))
        return false;
    render_buf_init(r, &b);
    map(&b, s);
    return render_buf(r, &b, out);
}

static void to_upper(struct buf *b, struct slice s)
{
    unicode_map(b, s, CASE_UPPER);
}

static void to_lower(struct buf *b, struct slice s)
{
    unicode_map(b, s, CASE_LOWER);
}

/* Words begin behind blanks, hyphens and opening brackets; not as str.title(). */
static void to_title(struct buf *b, struct slice s)
{
    bool at_start = true;
    for (size_t at = 0; at < s.len;) {
        size_t start = at;
        uint32_t cp = unicode_next(s, &at, NULL);
        struct slice one = {s.ptr + start, at - start};
        bool is_break = unicode_is_space(cp) || (cp < 128 && memchr("-({[<", (int)cp, 5));
        if (is_break)
            buf_add_slice(b, one);
        else
            unicode_map(b, one, at_start ? CASE_UPPER : CASE_LOWER);
        at_start = is_break;
    }
}

FILTER(filter_upper)
{
    UNUSED_PARAMETERS;
    return mapped(r, self, to_upper, out);
}

FILTER(filter_lower)
{
    UNUSED_PARAMETERS;
    return mapped(r, self, to_lower, out);
}

FILTER(filter_title)
{
    UNUSED_PARAMETERS;
    return mapped(r, self, to_title, out);
}

FILTER(filter_capitalize)
{
    UNUSED_PARAMETERS;
    return mapped(r, self, unicode_capitalize, out);
}

FILTER(filter_trim)
{
    struct slice s, set;
    (void)c;
    if (!soft_text(r, self, &s) || !render_steps(r, s.len / 64))
        return false;
    if (!is_given(p[0]) || p[0].kind == V_NONE) {
        *out = value_text(unicode_strip(s, true, true));
        return true;
    }
    if (p[0].kind != V_STRING)
        return render_fail(r, E_INVALID, "strip arg must be None or str");
    set = value_slice(p[0]);
    *out = value_text(unicode_strip_set(s, set, true, true));
    return render_steps(r, (s.len - out->len) * set.len / 64);
}

FILTER(filter_replace)
{
    struct slice s, old, new;
    int64_t count = -1;
    (void)c;
    if (!soft_text(r, self, &s) || !text_str(r, p[0], &old) || !text_str(r, p[1], &new))
        return false;
    if (is_given(p[2]) && p[2].kind != V_NONE && !strings_index(r, p[2], &count))
        return false;
    return strings_replace(r, s, old, new, count, out);
}

FILTER(filter_center)
{
    struct slice s;
    int64_t width = 80;
    (void)c;
    if (!soft_text(r, self, &s) || (is_given(p[0]) && !strings_index(r, p[0], &width)))
        return false;
    return strings_pad(r, s, width, (struct slice){" ", 1}, PAD_CENTER, out);
}

FILTER(filter_string)
{
    struct slice s;
    UNUSED_PARAMETERS;
    if (self.kind == V_STRING) {
        *out = self;
        return true;
    }
    if (!text_str(r, self, &s))
        return false;
    *out = value_text(s);
    return true;
}

FILTER(filter_escape)
{
    struct slice s;
    UNUSED_PARAMETERS;
    if (self.kind == V_STRING && self.flag & STRING_SAFE) {
        *out = self;
        return true;
    }
    return text_str(r, self, &s) && text_escape(r, s, out);
}

FILTER(filter_forceescape)
{
    struct slice s;
    UNUSED_PARAMETERS;
    return text_str(r, self, &s) && text_escape(r, s, out);
}

FILTER(filter_safe)
{
    struct slice s;
    UNUSED_PARAMETERS;
    if (!text_str(r, self, &s))
        return false;
    *out = value_text(s);
    out->flag = STRING_SAFE;
    return true;
}

/* ---- lines and words ---- */

static bool indentation(struct render *r, struct value v, struct slice *out)
{
    int64_t width = 4;
    struct value spaces;
    if (v.kind == V_STRING) {
        *out = value_slice(v);
        return true;
    }
    if (is_given(v) && !strings_index(r, v, &width))
        return false;
    if (!strings_pad(r, (struct slice){"", 0}, width, (struct slice){" ", 1}, PAD_RIGHT, &spaces))
        return false;
    *out = value_slice(spaces);
    return true;
}

FILTER(filter_indent)
{
    struct slice indent;
    struct value text;
    const struct value *lines;
    size_t n;
    bool first = is_given(p[1]) && value_truth(p[1]), blank = is_given(p[2]) && value_truth(p[2]);
    (void)c;
    if (self.kind != V_STRING)
        return self.kind == V_UNDEFINED ? render_fail_undefined(r, self)
                                        : render_fail(r, E_INVALID, "indent wants a string, not %s",
                                                      value_type_name(self));
    if (!indentation(r, p[0], &indent) || !text_concat(r, self, SLICE_LIT("\n"), &text) ||
        !strings_lines(r, value_slice(text), false, &lines, &n))
        return false;
    struct buf b;
    render_buf_init(r, &b);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_add_char(&b, '\n');
        if (i == 0 ? first : blank || lines[i].len > 0)
            buf_add_slice(&b, indent);
        buf_add_slice(&b, value_slice(lines[i]));
    }
    return render_buf(r, &b, out);
}

/* Anything with a length is given back as it is when it is short enough. */
FILTER(filter_truncate)
{
    int64_t length = 255, leeway = 5, n;
    struct slice end = SLICE_LIT("...");
    (void)c;
    if ((is_given(p[0]) && !strings_index(r, p[0], &length)) ||
        (is_given(p[2]) && !text_str(r, p[2], &end)) ||
        (is_given(p[3]) && p[3].kind != V_NONE && !strings_index(r, p[3], &leeway)) ||
        !value_length(r, self, &n))
        return false;
    int64_t end_length = (int64_t)unicode_count(end);
    if (length < end_length || leeway < 0)
        return render_fail(r, E_INVALID, "truncate: length below that of its end");
    if (n <= length || n - length <= leeway) {
        *out = self;
        return true;
    }
    if (self.kind != V_STRING)
        return render_fail(r, E_INVALID, "truncate wants a string, not %s", value_type_name(self));
    struct slice s = value_slice(self);
    s.len = unicode_offset(s, (size_t)(length - end_length));
    bool kill_words = is_given(p[1]) && value_truth(p[1]);
    const char *blank = kill_words || s.len == 0 ? NULL : memrchr(s.ptr, ' ', s.len);
    if (blank)
        s.len = (size_t)(blank - s.ptr);
    struct value kept;
    return render_text(r, s, &kept) && text_concat(r, kept, end, out);
}

FILTER(filter_wordcount)
{
    struct slice s;
    int64_t words = 0;
    bool in_word = false;
    UNUSED_PARAMETERS;
    if (!soft_text(r, self, &s) || !render_steps(r, s.len / 8))
        return false;
    for (size_t at = 0; at < s.len;) {
        uint32_t cp = unicode_next(s, &at, NULL);
        bool is_word = cp == '_' || (unicode_class(cp) & UNI_ALNUM);
        words += is_word && !in_word;
        in_word = is_word;
    }
    *out = value_int(words);
    return true;
}

FILTER(filter_format)
{
    struct slice s;
    (void)p;
    if (c->n_args && c->n_named)
        return render_fail(r, E_INVALID,
                           "can't handle positional and keyword arguments at the same time");
    if (!soft_text(r, self, &s))
        return false;
    struct value args = value_items(V_TUPLE, c->args, c->n_args);
    if (c->n_named) {
        struct pair *pairs = render_alloc(r, c->n_named, sizeof *pairs);
        if (!pairs)
            return false;
        for (size_t i = 0; i < c->n_named; i++)
            pairs[i] = (struct pair){value_text(c->named[i].name), c->named[i].value};
        args = (struct value){.kind = V_DICT, .len = c->n_named, .pairs = pairs};
    }
    return format_percent(r, s, args, out);
}

/* ---- URLs ---- */

static void quote(struct buf *b, struct slice s, bool for_query)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char ch = (unsigned char)s.ptr[i];
        bool is_plain = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') ||
                        (ch && strchr("_.-~", ch)) || (ch == '/' && !for_query);
        if (is_plain)
            buf_add_char(b, (char)ch);
        else if (ch == ' ' && for_query)
            buf_add_char(b, '+');
        else
            buf_printf(b, "%%%02X", ch);
    }
}

static bool quote_pair(struct render *r, struct buf *b, struct value key, struct value value)
{
    struct slice k, v;
    if (!text_str(r, key, &k) || !text_str(r, value, &v) || !render_steps(r, (k.len + v.len) / 8))
        return false;
    if (b->len)
        buf_add_char(b, '&');
    quote(b, k, true);
    buf_add_char(b, '=');
    quote(b, v, true);
    return true;
}

static bool quote_items(struct render *r, struct buf *b, struct value self)
{
    const struct value *items;
    size_t n;
    bool ok = true;
    if (self.kind == V_DICT) {
        for (size_t i = 0; ok && i < self.len; i++)
            ok = quote_pair(r, b, self.pairs[i].key, self.pairs[i].value);
        return ok;
    }
    if (!value_iterate(r, self, &items, &n))
        return false;
    for (size_t i = 0; ok && i < n; i++) {
        const struct value *pair;
        size_t two;
        ok = value_iterate(r, items[i], &pair, &two) &&
             (two == 2 || render_fail(r, E_INVALID, "urlencode wants pairs")) &&
             quote_pair(r, b, pair[0], pair[1]);
    }
    return ok;
}

FILTER(filter_urlencode)
{
    struct buf b;
    struct slice s;
    bool ok;
    bool is_items = value_is_sequence(self) || self.kind == V_DICT || self.kind == V_ITERATOR ||
                    self.kind == V_RANGE;
    UNUSED_PARAMETERS;
    render_buf_init(r, &b);
    if (is_items) {
        ok = quote_items(r, &b, self);
    } else {
        ok = text_str(r, self, &s) && render_steps(r, s.len / 8);
        if (ok)
            quote(&b, s, false);
    }
    if (!ok) {
        buf_release(&b);
        return false;
    }
    return render_buf(r, &b, out);
}

/* ---- numbers ---- */

/* int("0x1f", 16): blanks around, underscores between digits, a prefix that fits the base. */
static bool int_of_text(struct render *r, struct slice s, int64_t base, struct value *out)
{
    char digits[1024 * 5];
    size_t n = 0, at = 0;
    s = unicode_strip(s, true, true);
    if (at < s.len && (s.ptr[at] == '+' || s.ptr[at] == '-'))
        digits[n++] = s.ptr[at++];
    if (at + 1 < s.len && s.ptr[at] == '0') {
        char prefix = (char)(s.ptr[at + 1] | 32);
        int64_t of = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
        if (of && (base == of || base == 0)) {
            base = of;
            at += 2;
            at += at < s.len && s.ptr[at] == '_';
        }
    }
    base = base == 0 ? 10 : base;
    if (at == s.len || s.ptr[at] == '_' || s.ptr[s.len - 1] == '_' || base < 2 || base > 36)
        return false;
    for (; at < s.len; at++) {
        if (s.ptr[at] == '_' && s.ptr[at - 1] != '_')
            continue;
        if (n == sizeof digits)
            return false;
        digits[n++] = s.ptr[at];
    }
    return number_parse_int(&r->arena, (struct slice){digits, n}, (int)base, out);
}

/* float(value); false: it can't be converted. */
static bool float_of(struct value v, double *out)
{
    if (value_is_number(v)) {
        *out = number_to_double(v);
        return true;
    }
    return v.kind == V_STRING && number_parse_float(unicode_strip(value_slice(v), true, true), out);
}

FILTER(filter_int)
{
    int64_t base = 10;
    double d;
    (void)c;
    if (self.kind == V_UNDEFINED)
        return render_fail_undefined(r, self);
    if (is_given(p[1]) && !strings_index(r, p[1], &base))
        return false;
    if (value_is_whole(self))
        return operate_positive(r, self, out);
    if (self.kind == V_STRING && int_of_text(r, value_slice(self), base, out))
        return render_steps(r, self.len);
    if (self.kind == V_FLOAT && isinf(self.real))
        return render_fail(r, E_INVALID, "cannot convert float infinity to integer");
    if (float_of(self, &d) && isfinite(d) && number_from_double(&r->arena, d, out))
        return true;
    *out = is_given(p[0]) ? p[0] : value_int(0);
    return true;
}

FILTER(filter_float)
{
    double d;
    (void)c;
    if (self.kind == V_UNDEFINED)
        return render_fail_undefined(r, self);
    *out = float_of(self, &d) ? value_float(d) : is_given(p[0]) ? p[0] : value_float(0);
    return true;
}

FILTER(filter_abs)
{
    UNUSED_PARAMETERS;
    if (self.kind == V_FLOAT) {
        *out = value_float(fabs(self.real));
        return true;
    }
    if (!value_is_whole(self))
        return render_fail(r, E_INVALID, "bad operand type for abs(): '%s'", value_type_name(self));
    return number_sign(self) < 0 ? operate_negate(r, self, out) : operate_positive(r, self, out);
}

static bool power_of_ten(struct render *r, int64_t n, struct value *out)
{
    return operate(r, OP_POW, value_int(10), value_int(n), out);
}

/* round(int, -n): to the nearest multiple of 10^n, halves to the even one. */
static bool round_whole(struct render *r, struct value v, int64_t digits, struct value *out)
{
    struct value unit, quotient, rest, twice;
    int order;
    bool ignored;
    if (digits >= 0)
        return operate_positive(r, v, out);
    if (!power_of_ten(r, -digits, &unit) || !operate(r, OP_FLOOR_DIV, v, unit, &quotient) ||
        !operate(r, OP_MOD, v, unit, &rest) || !operate(r, OP_MUL, rest, value_int(2), &twice))
        return false;
    number_compare(twice, unit, &order, &ignored);
    if (order == 0 && !operate(r, OP_MOD, quotient, value_int(2), &rest))
        return false;
    if ((order > 0 || (order == 0 && number_sign(rest) != 0)) &&
        !operate(r, OP_ADD, quotient, value_int(1), &quotient))
        return false;
    return operate(r, OP_MUL, quotient, unit, out);
}

/* Rounding the decimal expansion, as Python does: printf is exact. */
static bool round_float(struct render *r, double v, int64_t digits, struct value *out)
{
    char text[800];
    double rounded;
    if (!isfinite(v) || digits > 323) {
        *out = value_float(v);
        return true;
    }
    if (digits < -308) {
        *out = value_float(copysign(0.0, v));
        return true;
    }
    if (digits < 0) {
        double unit = pow(10, (double)-digits);
        rounded = nearbyint(v / unit) * unit;
    } else {
        snprintf(text, sizeof text, "%.*f", (int)digits, v);
        if (!number_parse_float(slice_of(text), &rounded))
            rounded = v; /* more digits than a double decides */
    }
    *out = value_float(rounded);
    return r->status == OK;
}

FILTER(filter_round)
{
    int64_t digits = 0;
    struct slice method = SLICE_LIT("common");
    struct value unit, scaled;
    (void)c;
    if ((is_given(p[0]) && !strings_index(r, p[0], &digits)) ||
        (is_given(p[1]) && !text_str(r, p[1], &method)))
        return false;
    bool is_ceil = slice_is(method, "ceil"), is_floor = slice_is(method, "floor");
    if (!is_ceil && !is_floor && !slice_is(method, "common"))
        return render_fail(r, E_INVALID, "method must be common, ceil or floor");
    if (!value_is_number(self))
        return render_fail(r, E_INVALID, "type %s doesn't define __round__ method",
                           value_type_name(self));
    if (!is_ceil && !is_floor)
        return value_is_whole(self) ? round_whole(r, self, digits, out)
                                    : round_float(r, self.real, digits, out);
    if (!power_of_ten(r, digits, &unit) || !operate(r, OP_MUL, self, unit, &scaled))
        return false;
    if (scaled.kind == V_FLOAT) {
        if (!isfinite(scaled.real) ||
            !number_from_double(&r->arena, is_ceil ? ceil(scaled.real) : floor(scaled.real),
                                &scaled))
            return render_fail(r, E_INVALID, "cannot convert float to integer");
    }
    return operate(r, OP_DIV, scaled, unit, out);
}

FILTER(filter_filesizeformat)
{
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    bool is_binary = is_given(p[0]) && value_truth(p[0]);
    double base = is_binary ? 1024 : 1000, bytes, unit = base;
    char text[64];
    size_t i = 0;
    (void)c;
    if (!float_of(self, &bytes))
        return render_fail(r, E_INVALID, "filesizeformat wants a number");
    if (bytes < base) {
        snprintf(text, sizeof text, bytes == 1 ? "1 Byte" : "%.0f Bytes", trunc(bytes));
    } else {
        for (unit = base * base; i < 7 && bytes >= unit; i++)
            unit *= base;
        snprintf(text, sizeof text, "%.1f %s", base * bytes / unit,
                 (is_binary ? binary : decimal)[i]);
    }
    return render_text(r, slice_of(text), out);
}

/* ---- JSON ---- */

/* separators=(item, key) */
static bool json_separators(struct render *r, struct value v, struct json_options *o)
{
    const struct value *items;
    size_t n;
    if (!is_given(v) || v.kind == V_NONE)
        return true;
    if (!value_iterate(r, v, &items, &n))
        return false;
    if (n != 2 || items[0].kind != V_STRING || items[1].kind != V_STRING)
        return render_fail(r, E_INVALID, "separators must be two strings");
    o->item_separator = value_slice(items[0]);
    o->key_separator = value_slice(items[1]);
    return true;
}

FILTER(filter_tojson)
{
    struct json_options o = {.item_separator = SLICE_LIT(", "), .key_separator = SLICE_LIT(": ")};
    struct buf b;
    (void)c;
    o.ensure_ascii = is_given(p[0]) && value_truth(p[0]);
    o.sort_keys = is_given(p[3]) && value_truth(p[3]);
    if (is_given(p[1]) && p[1].kind != V_NONE) {
        o.has_indent = true;
        o.item_separator = SLICE_LIT(",");
        if (!indentation(r, p[1], &o.indent))
            return false;
    }
    if (!json_separators(r, p[2], &o))
        return false;
    render_buf_init(r, &b);
    if (!tojson_write(r, &b, self, &o)) {
        buf_release(&b);
        return false;
    }
    return render_buf(r, &b, out);
}

const struct builtin builtin_text_filters[] = {
    {"abs", filter_abs, "", 0},
    {"capitalize", filter_capitalize, "", 0},
    {"center", filter_center, "width", 0},
    {"e", filter_escape, "", 0},
    {"escape", filter_escape, "", 0},
    {"filesizeformat", filter_filesizeformat, "binary", 0},
    {"float", filter_float, "default", 0},
    {"forceescape", filter_forceescape, "", 0},
    {"format", filter_format, "*", 0},
    {"indent", filter_indent, "width first blank", 0},
    {"int", filter_int, "default base", 0},
    {"lower", filter_lower, "", 0},
    {"replace", filter_replace, "old new count", 2},
    {"round", filter_round, "precision method", 0},
    {"safe", filter_safe, "", 0},
    {"string", filter_string, "", 0},
    {"title", filter_title, "", 0},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0},
    {"trim", filter_trim, "chars", 0},
    {"truncate", filter_truncate, "length killwords end leeway", 0},
    {"upper", filter_upper, "", 0},
    {"urlencode", filter_urlencode, "", 0},
    {"wordcount", filter_wordcount, "", 0},
    {NULL, NULL, NULL, 0},
};
