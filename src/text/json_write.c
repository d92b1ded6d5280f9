/* SPDX-License-Identifier: MIT
 * json_write.c — values → text, equal to Python's json.dumps(ensure_ascii=False). */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "text/json.h"
#include "text/utf8.h"

static void write_escape(struct buf *b, unsigned char c)
{
    static const char short_form[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    for (size_t i = 0; i + 1 < sizeof short_form; i += 2) {
        if (short_form[i] == (char)c) {
            buf_add_char(b, '\\');
            buf_add_char(b, short_form[i + 1]);
            return;
        }
    }
    buf_printf(b, "\\u%04x", c);
}

void json_write_string(struct buf *b, struct slice text)
{
    size_t done = 0, at = 0;
    buf_add_char(b, '"');
    while (at < text.len) {
        unsigned char c = (unsigned char)text.ptr[at];
        uint32_t cp = c;
        size_t n = c < 0x80 ? 1 : utf8_decode(text.ptr + at, text.len - at, &cp);
        bool is_escaped = c < 0x20 || c == '"' || c == '\\';
        bool is_broken = cp == 0xFFFD && !(n == 3 && memcmp(text.ptr + at, "\xEF\xBF\xBD", 3) == 0);
        if (is_escaped || is_broken) {
            if (done < at)
                buf_add(b, text.ptr + done, at - done);
            if (is_broken)
                buf_add_text(b, "\xEF\xBF\xBD");
            else
                write_escape(b, c);
            done = at + n;
        }
        at += n;
    }
    if (done < text.len)
        buf_add(b, text.ptr + done, text.len - done);
    buf_add_char(b, '"');
}

/* The last digit of "d.ddde±xx" one up, if that reads back as v.  The doubles above a power of two
 * lie twice as far apart as those below, so that the nearest text of n digits may lie below it and
 * read back as another number while the next one up reads back as v (2^-44: …802e-14). */
static bool next_up(char text[40], double v)
{
    char up[40];
    memcpy(up, text, sizeof up);
    char *last = strchr(up, 'e') - 1;
    if (*last == '9' || *last == '.')
        return false;
    ++*last;
    if (strtod(up, NULL) != v)
        return false;
    memcpy(text, up, sizeof up);
    return true;
}

/* The fewest significant digits that read back equal; 17 always do (IEEE 754 binary64).  A normal
 * number that has a form below 15 digits prints it with 15 too, after its zeros are cut; a
 * subnormal one may need a single digit. */
static void shortest(double v, char digits[32], int *exponent)
{
    char text[40] = "";
    int precision = v < DBL_MIN ? 0 : 14;
    do {
        snprintf(text, sizeof text, "%.*e", precision, v);
    } while (strtod(text, NULL) != v && !next_up(text, v) && ++precision < 17);
    char *e = strchr(text, 'e');
    *exponent = (int)strtol(e + 1, NULL, 10);
    size_t n = 0;
    for (const char *p = text; p < e; p++)
        if (*p != '.')
            digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    digits[n] = '\0';
}

/* Python's repr: fixed from 1e-4 up to below 1e16, scientific otherwise. */
void json_write_double(struct buf *b, double v)
{
    char d[32];
    int exp10;
    if (!isfinite(v)) {
        buf_add_text(b, "null");
        return;
    }
    if (signbit(v))
        buf_add_char(b, '-');
    shortest(fabs(v), d, &exp10);
    int n = (int)strlen(d);
    if (exp10 < -4 || exp10 >= 16) {
        buf_printf(b, "%c%s%se%c%02d", d[0], n > 1 ? "." : "", d + 1, exp10 < 0 ? '-' : '+',
                   abs(exp10));
    } else if (exp10 < 0) {
        buf_printf(b, "0.%.*s%s", -exp10 - 1, "0000", d);
    } else if (n <= exp10 + 1) {
        buf_printf(b, "%s%.*s.0", d, exp10 + 1 - n, "0000000000000000");
    } else {
        buf_printf(b, "%.*s.%s", exp10 + 1, d, d + exp10 + 1);
    }
}

static void write_number(struct buf *b, const struct json *v)
{
    if (v->kind == JSON_INT) {
        buf_printf(b, "%" PRId64, v->integer);
        return;
    }
    /* An integer beyond int64, or a real beyond a double's range: only its text is exact. */
    bool is_real = !v->text.len || memchr(v->text.ptr, '.', v->text.len) ||
                   memchr(v->text.ptr, 'e', v->text.len) || memchr(v->text.ptr, 'E', v->text.len);
    if (is_real && (isfinite(v->real) || !v->text.len))
        json_write_double(b, v->real);
    else
        buf_add_slice(b, v->text);
}

static int compare_keys(const void *a, const void *b)
{
    struct slice x = (*(const struct json_member *const *)a)->key;
    struct slice y = (*(const struct json_member *const *)b)->key;
    size_t n = x.len < y.len ? x.len : y.len;
    int c = n ? memcmp(x.ptr, y.ptr, n) : 0; /* bytes of UTF-8 sort as code points do */
    return c ? c : (x.len > y.len) - (x.len < y.len);
}

static void new_line(struct buf *b, struct json_style style, int depth)
{
    buf_add_char(b, '\n');
    for (int i = 0; i < style.indent * depth; i++)
        buf_add_char(b, ' ');
}

static void separate(struct buf *b, struct json_style style, size_t index, int depth)
{
    if (index > 0)
        buf_add_text(b, style.is_compact || style.indent > 0 ? "," : ", ");
    if (style.indent > 0)
        new_line(b, style, depth);
}

static void write_value(struct buf *b, const struct json *v, struct json_style style, int depth);

static void write_array(struct buf *b, const struct json *v, struct json_style style, int depth)
{
    buf_add_char(b, '[');
    for (size_t i = 0; i < v->count; i++) {
        separate(b, style, i, depth + 1);
        write_value(b, &v->items[i], style, depth + 1);
    }
    if (v->count && style.indent > 0)
        new_line(b, style, depth);
    buf_add_char(b, ']');
}

static void write_object(struct buf *b, const struct json *v, struct json_style style, int depth)
{
    const struct json_member **order = NULL;
    if (style.sort_keys && v->count > 1) {
        order = mem_try_new(v->count, sizeof *order);
        if (!order) {
            b->failed = true;
            return;
        }
        for (size_t i = 0; i < v->count; i++)
            order[i] = &v->members[i];
        qsort(order, v->count, sizeof *order, compare_keys);
    }
    buf_add_char(b, '{');
    for (size_t i = 0; i < v->count; i++) {
        const struct json_member *m = order ? order[i] : &v->members[i];
        separate(b, style, i, depth + 1);
        json_write_string(b, m->key);
        buf_add_text(b, style.is_compact ? ":" : ": ");
        write_value(b, &m->value, style, depth + 1);
    }
    if (v->count && style.indent > 0)
        new_line(b, style, depth);
    buf_add_char(b, '}');
    mem_free(order);
}

static void write_value(struct buf *b, const struct json *v, struct json_style style, int depth)
{
    CHECK(depth <= JSON_DEPTH_MAX + JSON_WRITER_DEPTH_MAX);
    switch (v->kind) {
    case JSON_NULL:
        buf_add_text(b, "null");
        break;
    case JSON_BOOL:
        buf_add_text(b, v->boolean ? "true" : "false");
        break;
    case JSON_INT:
    case JSON_REAL:
        write_number(b, v);
        break;
    case JSON_STRING:
        json_write_string(b, v->text);
        break;
    case JSON_ARRAY:
        write_array(b, v, style, depth);
        break;
    case JSON_OBJECT:
        write_object(b, v, style, depth);
        break;
    }
}

void json_write(struct buf *b, const struct json *v, struct json_style style)
{
    write_value(b, v, style, 0);
}
