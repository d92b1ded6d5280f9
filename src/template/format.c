/* SPDX-License-Identifier: MIT
 * format.c — Python's two ways to format: "%05.1f" % x and "{:>5}".format(x).
 * Both end in a spec (sign, width, precision, type) that one set of functions carries out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "template/number.h"
#include "template/render.h"
#include "template/unicode.h"

/* Digits behind the point that a float may be asked for. */
#define FORMAT_PRECISION_MAX 500

struct spec {
    struct slice fill; /* one character */
    char align;        /* '<', '>', '^', '=' or 0: the type's own */
    char sign;         /* '+', ' ' or 0 */
    bool is_alternate; /* # */
    char grouping;     /* ',' or '_' or 0 */
    int64_t width;     /* -1: none */
    int64_t precision;
    char type; /* 0: none */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits at *at, or -1; beyond a billion the number stays there, and no memory would hold it. */
static int64_t take_number(struct slice s, size_t *at)
{
    if (*at >= s.len || !is_digit(s.ptr[*at]))
        return -1;
    int64_t v = 0;
    for (; *at < s.len && is_digit(s.ptr[*at]); ++*at)
        v = v < 1000000000 ? v * 10 + (s.ptr[*at] - '0') : v;
    return v;
}

static void fill(struct buf *b, struct slice c, int64_t n)
{
    for (int64_t i = 0; i < n && !b->failed; i++)
        buf_add_slice(b, c);
}

/* prefix (sign, 0x) and body, padded. */
static void pad(struct buf *b, const struct spec *f, struct slice prefix, struct slice body,
                char default_align)
{
    int64_t room = f->width - (int64_t)unicode_count(prefix) - (int64_t)unicode_count(body);
    struct slice c = f->fill.len ? f->fill : (struct slice){" ", 1};
    char align = f->align ? f->align : default_align;
    int64_t left = room <= 0 ? 0 : align == '^' ? room / 2 : align == '<' ? 0 : room;
    if (align != '=')
        fill(b, c, left);
    buf_add_slice(b, prefix);
    if (align == '=')
        fill(b, c, left);
    buf_add_slice(b, body);
    if (align == '<' || align == '^')
        fill(b, c, room - left);
}

/* Separators into the digits before a point or an exponent. */
static void group_digits(struct buf *out, struct slice digits, char separator, size_t every)
{
    size_t whole = 0;
    while (whole < digits.len && (is_digit(digits.ptr[whole]) || every == 4))
        whole++;
    for (size_t i = 0; i < whole; i++) {
        if (i > 0 && (whole - i) % every == 0)
            buf_add_char(out, separator);
        buf_add_char(out, digits.ptr[i]);
    }
    buf_add(out, digits.ptr + whole, digits.len - whole);
}

static void finish_number(struct buf *b, const struct spec *f, bool is_negative, const char *base,
                          struct slice digits)
{
    char prefix[4];
    struct buf grouped;
    buf_init(&grouped, digits.len * 2 + 16);
    snprintf(prefix, sizeof prefix, "%s%s",
             is_negative      ? "-"
             : f->sign == '+' ? "+"
             : f->sign == ' ' ? " "
                              : "",
             base);
    if (f->grouping) {
        bool is_binary = f->type == 'x' || f->type == 'X' || f->type == 'b' || f->type == 'o';
        group_digits(&grouped, digits, f->grouping, is_binary ? 4 : 3);
        digits = buf_slice(&grouped);
    }
    pad(b, f, slice_of(prefix), digits, '>');
    buf_release(&grouped);
}

static void upper_ascii(struct buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (b->ptr[i] >= 'a' && b->ptr[i] <= 'z')
            b->ptr[i] = (char)(b->ptr[i] - 32);
}

static void format_int(struct buf *b, const struct spec *f, struct value v)
{
    char type = f->type;
    int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    const char *prefix = !f->is_alternate ? ""
                         : type == 'x'    ? "0x"
                         : type == 'X'    ? "0X"
                         : type == 'o'    ? "0o"
                         : type == 'b'    ? "0b"
                                          : "";
    struct buf digits;
    buf_init(&digits, 1 << 16);
    number_write_int(&digits, v, base);
    if (type == 'X')
        upper_ascii(&digits);
    bool is_negative = number_sign(v) < 0;
    struct slice text = buf_slice(&digits);
    if (is_negative)
        text = (struct slice){text.ptr + 1, text.len - 1};
    finish_number(b, f, is_negative, prefix, text);
    buf_release(&digits);
}

/* text has room for it: its writers leave three bytes. */
static void append(char *text, const char *tail)
{
    memcpy(text + strlen(text), tail, strlen(tail) + 1);
}

/* format(v, '.3'): like g, but with an exponent already when no digit would be left for the
 * fraction, and with a fraction always (Py_DTSF_ADD_DOT_0). */
static void general_with_fraction(char *text, size_t size, int precision, double v)
{
    precision = precision > 0 ? precision : 1;
    snprintf(text, size, "%.*e", precision - 1, v);
    char *e = strchr(text, 'e');
    if (!e || strtol(e + 1, NULL, 10) < precision - 1) {
        snprintf(text, size, "%.*g", precision, v);
        if (isfinite(v) && !strpbrk(text, ".e"))
            append(text, ".0");
        return;
    }
    char *end = e;
    while (strchr(text, '.') && (end[-1] == '0' || end[-1] == '.'))
        if (*--end == '.')
            break;
    memmove(end, e, strlen(e) + 1);
}

static bool format_float(struct render *r, struct buf *b, const struct spec *f, double v)
{
    char text[FORMAT_PRECISION_MAX + 400];
    char how[16];
    char type = f->type == 'n' ? 'g' : f->type == '%' ? 'f' : f->type;
    int64_t precision = f->precision < 0 && f->type ? 6 : f->precision;
    if (precision > FORMAT_PRECISION_MAX)
        return render_fail(r, E_LIMIT, "a precision of more than %d", FORMAT_PRECISION_MAX);
    double magnitude = fabs(f->type == '%' ? v * 100 : v);
    if (!type && f->precision < 0) {
        struct buf plain;
        buf_init(&plain, 64);
        text_float(&plain, magnitude);
        snprintf(text, sizeof text, "%s", plain.ptr);
        buf_release(&plain);
    } else if (!type) {
        general_with_fraction(text, sizeof text - 3, (int)precision, magnitude);
    } else {
        snprintf(how, sizeof how, f->is_alternate ? "%%#.*%c" : "%%.*%c", type);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text - 3, how, (int)precision, magnitude);
#pragma GCC diagnostic pop
    }
    if (f->type == '%')
        append(text, "%");
    finish_number(b, f, signbit(v) && !isnan(v), "", slice_of(text));
    return true;
}

static void format_text(struct buf *b, const struct spec *f, struct slice s)
{
    if (f->precision >= 0)
        s.len = unicode_offset(s, (size_t)f->precision);
    pad(b, f, (struct slice){"", 0}, s, '<');
}

static bool format_char(struct render *r, struct buf *b, const struct spec *f, struct value v)
{
    char text[4];
    if (v.kind == V_STRING && unicode_count(value_slice(v)) == 1) {
        format_text(b, f, value_slice(v));
        return true;
    }
    if (v.kind != V_INT || v.integer < 0 || v.integer > 0x10FFFF)
        return render_fail(r, E_INVALID, "%%c requires int or char");
    format_text(b, f, (struct slice){text, utf8_encode((uint32_t)v.integer, text)});
    return true;
}

/* ---- "%…" ---- */

struct percent {
    struct render *r;
    struct buf *b;
    struct value args;
    size_t used;
    bool is_mapping; /* %(name)s may be used, and leftover values are fine */
};

static bool next_argument(struct percent *p, struct value *out)
{
    bool is_tuple = p->args.kind == V_TUPLE;
    if (p->used >= (is_tuple ? p->args.len : 1))
        return render_fail(p->r, E_INVALID, "not enough arguments for format string");
    *out = is_tuple ? p->args.items[p->used] : p->args;
    p->used++;
    return true;
}

static bool named_argument(struct percent *p, struct slice s, size_t *at, struct value *out)
{
    size_t start = ++*at;
    int depth = 1;
    for (; *at < s.len && depth > 0; ++*at)
        depth += s.ptr[*at] == '(' ? 1 : s.ptr[*at] == ')' ? -1 : 0;
    if (depth > 0)
        return render_fail(p->r, E_INVALID, "incomplete format key");
    struct slice name = {s.ptr + start, *at - start - 1};
    size_t found;
    if (p->args.kind != V_DICT)
        return render_fail(p->r, E_INVALID, "format requires a mapping");
    if (!value_find(p->r, p->args.pairs, p->args.len, value_text(name), &found))
        return render_fail(p->r, E_INVALID, "format: no such key");
    *out = p->args.pairs[found].value;
    p->used = 1;
    return true;
}

/* A number, or * for one from the arguments. */
static bool percent_number(struct percent *p, struct slice s, size_t *at, int64_t *out)
{
    struct value v;
    if (*at >= s.len || s.ptr[*at] != '*') {
        *out = take_number(s, at);
        return true;
    }
    ++*at;
    if (!next_argument(p, &v))
        return false;
    if (v.kind != V_INT || v.integer < INT32_MIN || v.integer > INT32_MAX)
        return render_fail(p->r, E_INVALID, "* wants int");
    *out = v.integer;
    return true;
}

static bool percent_flags(struct percent *p, struct slice s, size_t *at, struct spec *f)
{
    bool is_zero = false;
    for (; *at < s.len && memchr("-+ #0", s.ptr[*at], 5); ++*at) {
        char c = s.ptr[*at];
        f->align = c == '-' ? '<' : f->align;
        f->sign = c == '+' ? '+' : c == ' ' && f->sign != '+' ? ' ' : f->sign;
        f->is_alternate |= c == '#';
        is_zero |= c == '0';
    }
    if (!percent_number(p, s, at, &f->width))
        return false;
    if (f->width < -1) { /* from *: a negative width aligns left */
        f->align = '<';
        f->width = -f->width;
    }
    if (is_zero && f->align != '<') {
        f->fill = (struct slice){"0", 1};
        f->align = '=';
    }
    if (*at < s.len && s.ptr[*at] == '.') {
        ++*at;
        if (!percent_number(p, s, at, &f->precision))
            return false;
        f->precision = f->precision < 0 ? 0 : f->precision;
    }
    while (*at < s.len && memchr("hlL", s.ptr[*at], 3))
        ++*at;
    return true;
}

/* The precision of a whole number is its least number of digits. */
static bool percent_int(struct percent *p, struct spec *f, struct value v)
{
    struct value whole = v;
    if (v.kind == V_FLOAT && (f->type == 'x' || f->type == 'X' || f->type == 'o'))
        return render_fail(p->r, E_INVALID, "%%%c format: an integer is required, not float",
                           f->type);
    if (v.kind == V_FLOAT &&
        (!isfinite(v.real) || !number_from_double(&p->r->arena, v.real, &whole)))
        return render_fail(p->r, E_INVALID, "cannot convert float to integer");
    if (!value_is_number(v))
        return render_fail(p->r, E_INVALID, "%%%c format: a real number is required, not %s",
                           f->type, value_type_name(v));
    if (f->precision < 0) {
        format_int(p->b, f, whole);
        return true;
    }
    struct spec digits = *f;
    struct buf text;
    render_buf_init(p->r, &text);
    bool is_negative = number_sign(whole) < 0;
    digits.width = f->precision + (is_negative || f->sign ? 1 : 0) + (f->is_alternate ? 2 : 0);
    digits.align = '=';
    digits.fill = (struct slice){"0", 1};
    format_int(&text, &digits, whole);
    struct spec outer = {.fill = {" ", 1}, .align = f->align == '<' ? '<' : '>', .width = f->width};
    pad(p->b, &outer, (struct slice){"", 0}, buf_slice(&text), '>');
    p->b->failed |= text.failed;
    buf_release(&text);
    return true;
}

static bool percent_value(struct percent *p, struct spec *f, struct value v)
{
    struct slice text;
    struct buf repr;
    bool ok;
    switch (f->type) {
    case 's':
    case 'r':
    case 'a':
        f->align = f->align == '=' ? '>' : f->align;
        f->fill = (struct slice){" ", 1};
        f->align = f->align ? f->align : '>';
        if (f->type == 's') {
            if (!text_str(p->r, v, &text))
                return false;
            format_text(p->b, f, text);
            return true;
        }
        render_buf_init(p->r, &repr);
        ok = text_repr(p->r, &repr, v);
        format_text(p->b, f, buf_slice(&repr));
        buf_release(&repr);
        return ok;
    case 'd':
    case 'i':
    case 'u':
        f->type = 'd';
        return percent_int(p, f, v);
    case 'x':
    case 'X':
    case 'o':
        return percent_int(p, f, v);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (!value_is_number(v))
            return render_fail(p->r, E_INVALID, "must be real number, not %s", value_type_name(v));
        return format_float(p->r, p->b, f, number_to_double(v));
    case 'c':
        f->align = f->align ? f->align : '>';
        return format_char(p->r, p->b, f, v);
    default:
        return render_fail(p->r, E_INVALID, "unsupported format character");
    }
}

static bool percent_field(struct percent *p, struct slice s, size_t *at)
{
    struct spec f = {.width = -1, .precision = -1};
    struct value v;
    bool has_value = *at < s.len && s.ptr[*at] == '(';
    if (has_value && !named_argument(p, s, at, &v))
        return false;
    if (!percent_flags(p, s, at, &f))
        return false;
    if (*at >= s.len)
        return render_fail(p->r, E_INVALID, "incomplete format");
    f.type = s.ptr[(*at)++];
    if (f.type == '%') {
        buf_add_char(p->b, '%');
        return true;
    }
    return (has_value || next_argument(p, &v)) && percent_value(p, &f, v);
}

bool format_percent(struct render *r, struct slice s, struct value args, struct value *out)
{
    struct buf b;
    struct percent p = {.r = r, .b = &b, .args = args};
    bool ok = render_steps(r, s.len / 16);
    p.is_mapping = args.kind == V_DICT || args.kind == V_LIST || args.kind == V_RANGE ||
                   args.kind == V_UNDEFINED; /* what has a [] but is no str or tuple */
    render_buf_init(r, &b);
    for (size_t at = 0; ok && at < s.len;) {
        const char *percent = memchr(s.ptr + at, '%', s.len - at);
        size_t end = percent ? (size_t)(percent - s.ptr) : s.len;
        buf_add(&b, s.ptr + at, end - at);
        at = end + 1;
        if (percent)
            ok = percent_field(&p, s, &at) && render_steps(r, 1);
    }
    size_t given = args.kind == V_TUPLE ? args.len : 1;
    if (ok && p.used < given && !p.is_mapping)
        ok = render_fail(r, E_INVALID, "not all arguments converted during string formatting");
    if (!ok) {
        buf_release(&b);
        return false;
    }
    return render_buf(r, &b, out);
}

/* ---- "{…}" ---- */

struct braces {
    struct render *r;
    const struct call *call;
    int64_t next;      /* number of the next {} */
    bool is_numbered;  /* {0} was used */
    bool is_automatic; /* {} was used */
};

static bool parse_spec(struct render *r, struct slice s, struct spec *f)
{
    size_t at = 0, first = 0;
    *f = (struct spec){.width = -1, .precision = -1};
    if (s.len > 0)
        (void)unicode_next(s, &first, NULL);
    if (first < s.len && memchr("<>=^", s.ptr[first], 4)) {
        f->fill = (struct slice){s.ptr, first};
        f->align = s.ptr[first];
        at = first + 1;
    } else if (s.len > 0 && memchr("<>=^", s.ptr[0], 4)) {
        f->align = s.ptr[at++];
    }
    if (at < s.len && memchr("+- ", s.ptr[at], 3)) {
        f->sign = s.ptr[at] == '-' ? 0 : s.ptr[at];
        at++;
    }
    if (at < s.len && s.ptr[at] == '#') {
        f->is_alternate = true;
        at++;
    }
    if (at < s.len && s.ptr[at] == '0') {
        f->fill = f->fill.len ? f->fill : (struct slice){"0", 1};
        f->align = f->align ? f->align : '=';
        at++;
    }
    f->width = take_number(s, &at);
    if (at < s.len && (s.ptr[at] == ',' || s.ptr[at] == '_'))
        f->grouping = s.ptr[at++];
    if (at < s.len && s.ptr[at] == '.') {
        at++;
        f->precision = take_number(s, &at);
        if (f->precision < 0)
            return render_fail(r, E_INVALID, "format specifier missing precision");
    }
    if (at < s.len)
        f->type = s.ptr[at++];
    return at == s.len || render_fail(r, E_INVALID, "invalid format specifier");
}

static bool format_value(struct render *r, struct buf *b, struct slice text, struct value v)
{
    struct spec f;
    struct slice s;
    if (text.len == 0 || v.kind == V_UNDEFINED) {
        if (!text_str(r, v, &s))
            return false;
        buf_add_slice(b, s);
        return true;
    }
    if (!parse_spec(r, text, &f))
        return false;
    if (v.kind == V_STRING && (f.type == 0 || f.type == 's') && f.align != '=') {
        format_text(b, &f, value_slice(v));
        return true;
    }
    bool is_float_type = f.type && memchr("eEfFgG%", f.type, 7);
    if (value_is_number(v) && (v.kind == V_FLOAT || is_float_type) &&
        (f.type == 0 || f.type == 'n' || is_float_type))
        return format_float(r, b, &f, number_to_double(v));
    if (value_is_whole(v) && (f.type == 0 || memchr("bdoxXn", f.type, 6))) {
        if (f.precision >= 0)
            return render_fail(r, E_INVALID, "precision not allowed in integer format specifier");
        format_int(b, &f, v);
        return true;
    }
    if (value_is_whole(v) && f.type == 'c')
        return format_char(r, b, &f, v);
    return render_fail(r, E_INVALID, "unsupported format string passed to %s.__format__",
                       value_type_name(v));
}

/* The first part of a field: a number, a name, or nothing for the next number. */
static bool field_start(struct braces *f, struct slice name, struct value *out)
{
    size_t at = 0;
    int64_t index = take_number(name, &at);
    bool is_number = name.len > 0 && at == name.len;
    if (name.len == 0)
        index = f->next++;
    f->is_numbered |= is_number;
    f->is_automatic |= name.len == 0;
    if (f->is_numbered && f->is_automatic)
        return render_fail(f->r, E_INVALID, "cannot switch between manual and automatic numbering");
    if (name.len == 0 || is_number) {
        if (index >= (int64_t)f->call->n_args)
            return render_fail(f->r, E_INVALID, "Replacement index %lld out of range",
                               (long long)index);
        *out = f->call->args[index];
        return true;
    }
    for (size_t i = 0; i < f->call->n_named; i++) {
        if (slice_equal(f->call->named[i].name, name)) {
            *out = f->call->named[i].value;
            return true;
        }
    }
    return render_fail(f->r, E_INVALID, "format: no such key");
}

/* name.attribute[index] … */
static bool field_value(struct braces *f, struct slice s, struct value *out)
{
    size_t at = 0;
    while (at < s.len && s.ptr[at] != '.' && s.ptr[at] != '[')
        at++;
    if (!field_start(f, (struct slice){s.ptr, at}, out))
        return false;
    while (at < s.len) {
        bool is_index = s.ptr[at++] == '[';
        size_t start = at;
        while (at < s.len && (is_index ? s.ptr[at] != ']' : s.ptr[at] != '.' && s.ptr[at] != '['))
            at++;
        struct slice part = {s.ptr + start, at - start};
        size_t digits = 0;
        int64_t index = take_number(part, &digits);
        if (part.len == 0 || (is_index && at == s.len))
            return render_fail(f->r, E_INVALID, "malformed format field");
        bool is_number = is_index && digits == part.len;
        if (!render_steps(f->r, 1) ||
            !(is_index
                  ? attribute_item(f->r, *out, is_number ? value_int(index) : value_text(part), out)
                  : attribute_get(f->r, *out, part, out)))
            return false;
        at += is_index;
    }
    return true;
}

static bool expand(struct braces *f, struct buf *b, struct slice s, int depth);

/* field[!conversion][:spec], between braces. */
static bool expand_field(struct braces *f, struct buf *b, struct slice s, int depth)
{
    size_t end = 0, brackets = 0;
    struct value v;
    struct slice spec = {"", 0};
    char conversion = 0;
    for (; end < s.len && (brackets || (s.ptr[end] != '!' && s.ptr[end] != ':')); end++)
        brackets = s.ptr[end] == '[' ? 1 : s.ptr[end] == ']' ? 0 : brackets;
    if (!field_value(f, (struct slice){s.ptr, end}, &v))
        return false;
    if (end + 1 < s.len && s.ptr[end] == '!') {
        conversion = s.ptr[end + 1];
        end += 2;
        if (!memchr("rsa", conversion, 3) || (end < s.len && s.ptr[end] != ':'))
            return render_fail(f->r, E_INVALID, "malformed conversion in a format field");
    }
    if (end < s.len)
        spec = (struct slice){s.ptr + end + 1, s.len - end - 1};
    struct buf expanded, text;
    struct value shown;
    render_buf_init(f->r, &expanded);
    render_buf_init(f->r, &text);
    bool ok = expand(f, &expanded, spec, depth + 1);
    if (ok && conversion) {
        struct slice plain;
        ok = conversion == 's' ? text_str(f->r, v, &plain) : text_repr(f->r, &text, v);
        if (ok && conversion == 's')
            buf_add_slice(&text, plain);
        ok = ok && render_text(f->r, buf_slice(&text), &shown);
        v = ok ? shown : v;
    }
    ok = ok && format_value(f->r, b, buf_slice(&expanded), v);
    buf_release(&expanded);
    buf_release(&text);
    return ok;
}

/* End of the field that starts behind a brace, or s.len. */
static size_t field_end(struct slice s, size_t at)
{
    int depth = 1;
    for (; at < s.len; at++) {
        depth += s.ptr[at] == '{' ? 1 : s.ptr[at] == '}' ? -1 : 0;
        if (depth == 0)
            return at;
    }
    return at;
}

static bool expand(struct braces *f, struct buf *b, struct slice s, int depth)
{
    if (depth > 2)
        return render_fail(f->r, E_INVALID, "format fields nested too deeply");
    for (size_t at = 0; at < s.len; at++) {
        char c = s.ptr[at];
        bool is_double = at + 1 < s.len && s.ptr[at + 1] == c && depth == 0;
        if (c != '{' && c != '}') {
            buf_add_char(b, c);
        } else if (is_double) {
            buf_add_char(b, c);
            at++;
        } else if (c == '}') {
            return render_fail(f->r, E_INVALID, "Single '}' encountered in format string");
        } else {
            size_t end = field_end(s, at + 1);
            if (end == s.len)
                return render_fail(f->r, E_INVALID, "expected '}' before end of string");
            if (!render_steps(f->r, 1) ||
                !expand_field(f, b, (struct slice){s.ptr + at + 1, end - at - 1}, depth))
                return false;
            at = end;
        }
    }
    return true;
}

bool format_braces(struct render *r, struct slice s, const struct call *call, struct value *out)
{
    struct braces f = {.r = r, .call = call};
    struct buf b;
    render_buf_init(r, &b);
    if (!render_steps(r, s.len / 16) || !expand(&f, &b, s, 0)) {
        buf_release(&b);
        return false;
    }
    return render_buf(r, &b, out);
}
